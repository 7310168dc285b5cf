"""What errors say, and what it costs to import an adapter."""

import json
import subprocess
import sys
import traceback

import pytest

from domain.training.status import Provider
from jobs.providers.base import ProviderError
from tests.conformance.driver import Driver
from tests.conformance.wires import calls_of, parroting

pytestmark = pytest.mark.anyio

STATUSES = (400, 401, 402, 403, 404, 409, 422, 429, 500, 503)
FORMLESS = "9d0c41a7b3f24e5f8a6b7c8d9e0f1a2b3c4d5e6f"
"""Keys have had other forms, and may again."""
SDKS = ("replicate", "runpod", "e2b")
ASK = """
import importlib, json, sys
found = {}
for name in sys.argv[2:]:
    importlib.import_module(name)
    found[name] = [sdk for sdk in sys.argv[1].split() if sdk in sys.modules]
print(json.dumps(found))
"""


class TestSecretsInErrors:
    @pytest.mark.parametrize("form", ["of its own form", "formless"])
    async def test_a_provider_that_repeats_everything_is_not_repeated(self, remote: Driver, form: str) -> None:
        key = {"of its own form": remote.key(), "formless": FORMLESS}[form]
        leaks: list[str] = []
        for status in STATUSES:
            address = remote.ground.places.put(parroting(status))
            for name in calls_of(remote, remote.remote(key=key, base_url=address), remote.order()):
                leaks += await self._leaks(remote, key, address, name, status)
        assert leaks == []

    async def test_nor_one_that_repeats_what_was_to_be_created(self, remote: Driver) -> None:
        leaks: list[str] = []
        simulator = remote.ground.simulators.by_provider[remote.provider]
        for status in STATUSES:
            address = remote.ground.places.put(parroting(status, through=simulator.app))
            leaks += await self._leaks(remote, remote.key(), address, "start", status)
        assert leaks == []

    async def _leaks(self, remote: Driver, key: str, address: str, name: str, status: int) -> list[str]:
        """Which secrets an error shows: in its words, or in what a log would show of it and its causes."""
        trainer, order = remote.remote(key=key, base_url=address), remote.order()
        try:
            shown = repr(await calls_of(remote, trainer, order)[name]())  # what is not found is stopped already
        except ProviderError as error:
            shown = "".join(traceback.format_exception(error))
        return [f"{name}, {status}: {secret}" for secret, text in remote.secrets.items() if text in shown]


def test_importing_an_adapter_imports_no_sdk() -> None:
    names = [f"jobs.providers.{provider.value.lower()}.trainer" for provider in Provider]
    names += ["jobs.vendors", "jobs.accounts"]
    ran = subprocess.run(
        [sys.executable, "-c", ASK, " ".join(SDKS), *names], capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout) == {name: [] for name in names}
