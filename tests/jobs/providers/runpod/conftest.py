"""A simulator of RunPod, the doors of a home, and a trainer between them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx2
import pytest

from domain.secret import Secret
from domain.training.status import Provider
from jobs.providers.base import Account, DatasetOrder, HomeOrder, Position, TrainingOrder
from jobs.providers.runpod.trainer import RunPodTrainer
from jobs.simulators.kit import SimulatorClock
from jobs.simulators.runpod import RunPodSimulator
from tests.jobs.providers.runpod.stage import Stage, stage_served

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
RUN = UUID("0199d2c4-7f00-7000-8000-000000000042")
TAG = f"run-{RUN.hex}-1"
TOKEN = "rwp_" + "p" * 43
KEY = "rpa_sim_acme"
GPU = "NVIDIA GeForce RTX 4090"


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=5, trust_env=False) as client:
        yield client


@pytest.fixture
def clock() -> SimulatorClock:
    """Moves only when a test moves it."""
    return SimulatorClock(NOW, speed=0)


@pytest.fixture
def simulator(clock: SimulatorClock) -> RunPodSimulator:
    return RunPodSimulator(clock, runs_scripts=False, provisioning_seconds=10, starting_seconds=20, training_seconds=60)


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with stage_served() as stage:
        yield stage


@pytest.fixture
async def url(stage: Stage, simulator: RunPodSimulator) -> AsyncIterator[str]:
    async with stage.playing(simulator) as url:
        yield url


def account_of(url: str, scenario: str | None = None, *, key: str = KEY) -> Account:
    return Account(Provider.RUNPOD, Secret(f"{key}.{scenario}" if scenario else key), url, is_test=True)


def order_of(
    home_url: str = "http://127.0.0.1:9", dataset: DatasetOrder | None = None, attempt: int = 1, **other: Any
) -> TrainingOrder:
    given: dict[str, Any] = {
        "tag": f"run-{RUN.hex}-{attempt}",
        "run_id": RUN,
        "attempt": attempt,
        "recipe": "tabular_classification",
        "hyperparameters": {},
        "dataset": dataset,
        "time_limit_seconds": 600,
        "memory_limit_bytes": 1 << 30,
        "disk_limit_bytes": 1 << 30,
        "gpu_type": GPU,
        "home": HomeOrder(home_url, Secret(TOKEN)),
        **other,
    }
    return TrainingOrder(**given)


def position_of(**other: Any) -> Position:
    given: dict[str, Any] = {"offset": 0, "attempt": 1, "tag": TAG, "begun_at": NOW, **other}
    return Position(**given)


@pytest.fixture
def trainer(url: str, http: httpx2.AsyncClient) -> RunPodTrainer:
    return RunPodTrainer(account_of(url), http, list_seconds=0.0)
