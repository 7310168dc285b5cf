"""Which way imports point, and what each package may know of the world."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp
import pytest
from grimp import ImportGraph, Layer

LAYERS = ("graph", "jobs", "db", "domain")
ROOMS = ("account", "ai_model", "callback", "dataset", "deployment", "integration", "training")
TRANSPORTS = ("starlette", "uvicorn", "strawberry", "graphql", "arq", "redis", "httpx2", "typer", "rich")
ROOT = Path(__file__).parent.parent.parent


@cache
def imports() -> ImportGraph:
    return grimp.build_graph(*LAYERS, include_external_packages=True, cache_dir=None)


def test_graph_knows_jobs_knows_db_knows_domain_and_never_back() -> None:
    layers = [Layer(name) for name in LAYERS]
    assert imports().find_illegal_dependencies_for_layers(layers=layers) == set()


@pytest.mark.parametrize("package", TRANSPORTS)
def test_the_domain_knows_no_transport(package: str) -> None:
    found = imports().find_modules_that_directly_import(package) if package in imports().modules else set()
    assert {module for module in found if module.split(".")[0] == "domain"} == set()


def test_the_product_does_not_know_its_tests() -> None:
    assert not any(module.split(".")[0] == "tests" for module in imports().modules)


def test_jobs_speak_to_people_in_no_way() -> None:
    for package in ("starlette", "strawberry", "typer", "rich"):
        if package in imports().modules:
            found = imports().find_modules_that_directly_import(package)
            assert {
                module for module in found if module.split(".")[0] in ("jobs", "db") and not is_simulator(module)
            } == set()


def is_simulator(module: str) -> bool:
    """Simulators are servers: they stand in for what is outside."""
    return module == "jobs.simulators" or module.startswith("jobs.simulators.")


def test_adapters_and_simulators_share_no_code() -> None:
    """Else a mistake about a provider would be made in both, and no test would find it."""
    for one, other in (("jobs.providers", "jobs.simulators"), ("jobs.simulators", "jobs.providers")):
        assert imports().find_shortest_chains(importer=one, imported=other, as_packages=True) == set(), one


@pytest.mark.parametrize("vendor", ["replicate", "runpod", "astria", "e2b"])
def test_a_vendors_package_is_imported_when_it_is_first_used(vendor: str) -> None:
    """They take seconds to import, and most processes need none of them."""
    loads = f"import sys, jobs.vendors, jobs.providers.{vendor}.trainer as _; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not {"'replicate'", "'runpod'", "'e2b'"} & set(loaded.strip("[]\n").split(", "))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_the_same_name_everywhere(room: str) -> None:
    for package in ("domain", "graph", "tests/domain"):
        assert (ROOT / package / room).is_dir(), f"{package} has no room {room}"


def test_every_folder_of_tests_is_a_package() -> None:
    """Else two modules of one name hide each other, and `tests/graph` the real `graph`."""
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").exists()} == set()
