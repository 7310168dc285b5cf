"""The virtual environments that sandboxes run in, one per set of pinned requirements and Python, built once and shared.

An environment appears whole, by a rename, or not at all. Where this very interpreter already holds all distributions
in exactly these versions, their files are hard-linked, which needs no network and about a second; else `uv` fetches
them and checks every hash. The product's own packages are never in it.
"""

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from anyio import to_thread

from jobs.providers.base import ProviderBusy, ProviderRefused
from jobs.providers.local import folders

RECIPES = Path(__file__).parents[2] / "recipes"
REQUIREMENTS = RECIPES / "requirements.lock"
BUILD_LIMIT_SECONDS = 300.0
_REQUIREMENT = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)"
    r"(?:\s*;\s*python_full_version\s*(?P<sign><|>=)\s*'(?P<python>[\d.]+)')?\s*\\?$"
)
_PASSED_TO_UV = re.compile(r"(?i)PATH|HOME|LANG|TMPDIR|UV_.*|XDG_.*|SSL_CERT_.*|(HTTP|HTTPS|ALL|NO)_PROXY")


@dataclass(frozen=True, slots=True)
class Pin:
    """One distribution in one version."""

    name: str
    version: str


async def environment(data_dir: Path, requirements: Path = REQUIREMENTS) -> Path:
    """The folder of a ready environment for these pinned requirements, built if it is not there.

    Raises `ProviderBusy` when it cannot be built now, `ProviderRefused` when it never can.
    """
    return await to_thread.run_sync(_environment, data_dir / "environments", requirements)


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / "bin" / "python"


def pins(text: str, python: tuple[int, ...] = sys.version_info[:3]) -> list[Pin]:
    """What a requirements file with hashes asks of a Python of this version."""
    found = []
    for line in text.splitlines():
        if not line.strip() or line.startswith((" ", "\t", "#")):
            continue
        match = _REQUIREMENT.match(line)
        if match is None:
            raise ProviderRefused(f"The recipe's requirements hold a line that pins nothing: {line.strip()[:80]}")
        if match["sign"] is not None:
            limit = tuple(int(part) for part in match["python"].split("."))
            older = python[: len(limit)] < limit
            if older != (match["sign"] == "<"):
                continue
        found.append(Pin(match["name"], match["version"]))
    return found


def _environment(parent: Path, requirements: Path) -> Path:
    parent = parent.absolute()
    text = requirements.read_text(encoding="utf-8")
    folder = parent / _name_of(text)
    if python_of(folder).exists():
        return folder
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    deadline = time.monotonic() + BUILD_LIMIT_SECONDS
    while (lock := folders.try_lock(parent / f"{folder.name}.lock")) is None:
        if time.monotonic() > deadline:
            raise ProviderBusy("The sandbox's environment is still being built by another worker.", 30.0)
        time.sleep(0.05)
    try:
        if not python_of(folder).exists():
            _build(folder, requirements, pins(text))
    finally:
        os.close(lock)
    return folder


def _name_of(text: str) -> str:
    """The same requirements on the same interpreter have the same name."""
    facts = (text, platform.python_implementation(), platform.python_version(), platform.machine(), sys.base_prefix)
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]


def _build(folder: Path, requirements: Path, wanted: list[Pin]) -> None:
    if folder.exists():  # its interpreter was removed from under it
        os.rename(folder, folder.with_name(f".new-{folder.name}-{uuid.uuid4().hex}"))
    draft = folder.with_name(f".new-{folder.name}-{uuid.uuid4().hex}")
    try:
        _make_empty(draft)
        installed = _installed_here(wanted)
        if installed is None or not _link(installed, _site_packages(draft)):
            _install(draft, requirements)
        _check(draft, wanted)
        os.rename(draft, folder)
        folders.sync_folder(folder.parent)
    except OSError as error:
        raise ProviderBusy(f"The sandbox's environment could not be built: {error.strerror}.", 60.0) from error
    finally:
        # Ours, and what a builder that was killed left behind: the lock says that nobody else is at it.
        for remains in folder.parent.glob(f".new-{folder.name}-*"):
            shutil.rmtree(remains, ignore_errors=True)


def _make_empty(draft: Path) -> None:
    _run(
        [
            *(_uv(), "venv", "--quiet", "--no-project", "--no-config", "--offline"),
            *("--python", sys.executable, os.fspath(draft)),
        ],
        "The sandbox's virtual environment could not be made",
    )


def _installed_here(wanted: Iterable[Pin]) -> list[importlib.metadata.Distribution] | None:
    """These distributions as this interpreter holds them, or None if one is missing or has another version."""
    found = []
    for pin in wanted:
        try:
            distribution = importlib.metadata.distribution(pin.name)
        except importlib.metadata.PackageNotFoundError:
            return None
        if distribution.version != pin.version or not distribution.files:
            return None
        found.append(distribution)
    return found


def _link(distributions: Iterable[importlib.metadata.Distribution], site_packages: Path) -> bool:
    """Give the environment the distributions' files; False if one of them is not whole here."""
    made: set[Path] = set()
    for distribution in distributions:
        for file in distribution.files or ():
            if ".." in file.parts or file.is_absolute() or "__pycache__" in file.parts:
                continue  # scripts in bin/ are not needed; compiled files come with their source below
            source = Path(str(distribution.locate_file(file)))
            if not source.is_file():
                return False
            target = site_packages / PurePosixPath(file)
            _link_into(source, target, made)
            if source.suffix == ".py":
                compiled = Path("__pycache__") / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
                if (source.parent / compiled).is_file():
                    _link_into(source.parent / compiled, target.parent / compiled, made)
    return True


def _link_into(source: Path, target: Path, made: set[Path]) -> None:
    if target.parent not in made:
        target.parent.mkdir(parents=True, exist_ok=True)
        made.add(target.parent)
    folders.link_or_copy(source, target)


def _install(draft: Path, requirements: Path) -> None:
    _run(
        [
            *(_uv(), "pip", "install", "--quiet", "--no-config", "--require-hashes", "--no-deps"),
            *("--only-binary", ":all:", "--compile-bytecode", "--python", os.fspath(python_of(draft))),
            *("--requirement", os.fspath(requirements)),
        ],
        "The sandbox's packages could not be installed",
    )


def _check(draft: Path, wanted: Iterable[Pin]) -> None:
    """Let the new interpreter itself say what it holds."""
    question = "import importlib.metadata as m; print(*sorted(f'{d.name}=={d.version}' for d in m.distributions()))"
    answer = _run([os.fspath(python_of(draft)), "-I", "-c", question], "The sandbox's interpreter does not start")
    held = {name.lower().replace("_", "-") for name in answer.split()}
    missing = [pin.name for pin in wanted if f"{pin.name}=={pin.version}" not in held]
    if missing:
        raise ProviderRefused(f"The sandbox's environment lacks {', '.join(missing)}.")


def _site_packages(folder: Path) -> Path:
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _uv() -> str:
    from uv import find_uv_bin

    try:
        return os.fspath(find_uv_bin())
    except FileNotFoundError as error:
        raise ProviderRefused("The program uv is missing; install the wheel `uv`.") from error


def _run(command: list[str], complaint: str) -> str:
    passed = {name: value for name, value in os.environ.items() if _PASSED_TO_UV.fullmatch(name)}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=passed,
            timeout=BUILD_LIMIT_SECONDS,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise ProviderBusy(f"{complaint} within {BUILD_LIMIT_SECONDS:.0f} seconds.", 60.0) from error
    if done.returncode != 0:
        # uv's own words may hold the address of a private index with its password, so only their kind is told.
        said = done.stderr.lower()
        if "hash mismatch" in said or "no solution" in said or "no matching distribution" in said:
            raise ProviderRefused(f"{complaint}: what the package index offers does not match the pinned hashes.")
        raise ProviderBusy(f"{complaint} (exit code {done.returncode}); is the package index reachable?", 60.0)
    return done.stdout
