"""Bringing deployments up: a real model in a real sandbox, proved through our own door, killed and woken."""

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import httpx2
import pytest
from sqlmodel import select

from db.settings import Settings
from db.unit_of_work import Database
from domain.base import new_id
from domain.clock import FixedClock
from domain.deployment import service
from domain.deployment.address import address_of
from domain.deployment.model import App, AppAccess, Deployment, DeploymentStatus, ResourceStatus
from domain.training.model import TrainingRun
from domain.training.recipes import checked_hyperparameters
from domain.training.status import Provider, RunStatus
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.deploying import DeploymentFailed, bring_up, lease_of
from jobs.providers.base import AppHost, AppOrder, ProviderBusy, ProviderError, RunningApp
from jobs.providers.local.app_host import LocalAppHost
from jobs.providers.local.folders import inhabitants
from jobs.recipes.fitting import fit
from jobs.recipes.models import save
from jobs.recipes.tables import read_table
from jobs.tasks.deployment import check_deployment, sweep_deployments
from tests.domain.deployment.support import app_row, deployment_row, make_artifact, resource_row
from tests.factories import make_run, make_user
from tests.fakes import Told
from tests.graph.routes.front import free_socket, serving_apps
from tests.jobs.recipes.data import as_csv, diabetes

pytestmark = pytest.mark.anyio

STARTING, LIVE, WAKING, STOPPED, FAILED = DeploymentStatus


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests of this module, so that the environment is made once."""
    return tmp_path_factory.mktemp("local")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A trained regression: what training reports of its artifact."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "content").write_bytes(as_csv(diabetes()))
    options = checked_hyperparameters("tabular-regression", {"epochs": 2, "model": "linear"}, None)
    bundle = fit("tabular-regression", read_table(folder / "content", "CSV"), options)
    receipt = save(folder / "artifact", bundle)
    location = str(folder / "artifact" / receipt["name"])
    return {**receipt, "location": location}


@dataclass
class World:
    """A worker, the API that it asks, and a run that is to be deployed."""

    context: JobContext
    viewer: Viewer
    run: TrainingRun
    deployment: Deployment
    app: App
    http: httpx2.AsyncClient

    @property
    def address(self) -> str:
        return address_of(self.context.settings, self.app.slug)


@pytest.fixture
def listening() -> socket.socket:
    return free_socket()


@pytest.fixture
def settings(settings: Settings, data_dir: Path, listening: socket.socket) -> Settings:
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    return settings.model_copy(update={"data_dir": data_dir, "public_url": url, "local_memory_bytes": 1024**3})


@pytest.fixture
async def world(
    settings: Settings,
    database: Database,
    worker_database: Database,
    clock: FixedClock,
    model: dict[str, Any],
    told: Told,
    listening: socket.socket,
) -> AsyncIterator[World]:
    viewer = await make_user(database)
    run = await make_run(database, viewer, status=RunStatus.DEPLOYING)
    await make_artifact(worker_database, run, **model)
    async with worker_database.begin() as work:
        deployment = await service.deployment_of_run(work, run)
    async with database.begin(viewer) as work:
        app = (await work.session.exec(select(App))).one()
    told.forget()
    host = LocalAppHost(settings.data_dir)
    async with (
        serving_apps(settings, database, listening=listening),
        httpx2.AsyncClient(timeout=10, trust_env=False) as http,
    ):
        context = JobContext(
            worker_id=new_id(),
            settings=settings,
            database=worker_database,
            clock=clock,
            trainers={},
            app_hosts={Provider.LOCAL: host},
            http=http,
        )
        yield World(context, viewer, run, deployment, app, http)
    assert await host.stop(f"app-app-{deployment.id.hex}")


async def test_model_is_served_proved_killed_woken_and_stopped(
    world: World, worker_database: Database, clock: FixedClock, model: dict[str, Any], told: Told
) -> None:
    assert await bring_up(world.context, world.deployment.id)

    live = await deployment_row(worker_database, world.deployment)
    resource = await resource_row(worker_database, world.deployment)
    assert (live.status, live.live_at, live.lease_until) == (LIVE, clock.now(), None)
    assert (resource.status, resource.reference) == (ResourceStatus.ALIVE, live.reference)
    assert (await app_row(worker_database, world.app)).current_deployment_id == world.deployment.id
    assert told.types() == ["deployment.changed"]
    about = (await world.http.get(world.address)).json()
    assert (about["runId"], about["artifactSha256"]) == (str(world.run.id), model["sha256"])
    sample = model["details"]["samples"][0]
    assert await _predicted(world, sample["row"]) == [pytest.approx(sample["prediction"])]

    await _kill(world)
    asleep = await world.http.get(world.address)
    assert (asleep.status_code, asleep.json()["code"]) == (503, "APP_WAKING")
    assert (await deployment_row(worker_database, world.deployment)).status is WAKING
    await check_deployment(world.context, world.deployment.id)
    assert (await deployment_row(worker_database, world.deployment)).status is LIVE
    assert await _predicted(world, sample["row"]) == [pytest.approx(sample["prediction"])]

    await _kill(world)
    clock.at += timedelta(seconds=service.LIVE_CHECK_SECONDS)
    await sweep_deployments(world.context)
    assert (await deployment_row(worker_database, world.deployment)).status is LIVE
    assert await _predicted(world, sample["row"]) == [pytest.approx(sample["prediction"])]

    told.forget()
    async with world.context.begin() as work:
        await service.stop_deployment(work, world.viewer, deployment_id=world.deployment.id)
    await check_deployment(world.context, world.deployment.id)
    assert _inhabitants(world) == set()
    ended = await resource_row(worker_database, world.deployment)
    assert (ended.status, ended.ended_at, ended.age_seconds) == (ResourceStatus.ENDED, clock.now(), 10.0)
    assert told.types() == ["deployment.changed", "resource.ended"]
    assert (await world.http.get(world.address)).status_code == 410


async def test_private_app_is_proved_as_well_and_by_two_workers_at_once(
    world: World, database: Database, worker_database: Database
) -> None:
    async with database.begin(world.viewer) as work:
        await service.set_app_access(work, world.viewer, app_id=world.app.id, access=AppAccess.PRIVATE)
    other = replace(world.context, worker_id=new_id())

    async with anyio.create_task_group() as group:
        group.start_soon(bring_up, world.context, world.deployment.id)
        group.start_soon(bring_up, other, world.deployment.id)

    assert (await deployment_row(worker_database, world.deployment)).status is LIVE
    assert (await world.http.get(world.address)).status_code == 404


async def test_worker_that_died_after_the_start_leaves_nothing_behind(
    world: World, worker_database: Database, model: dict[str, Any]
) -> None:
    """The app runs, nobody wrote down where; then its owner stops it."""
    resource = await resource_row(worker_database, world.deployment)
    host = world.context.app_hosts[Provider.LOCAL]
    await host.start(AppOrder(resource.tag, world.run.id, model["location"], model["sha256"], 1024**3))
    assert _inhabitants(world) != set()
    async with world.context.begin() as work:
        await service.mark_stopped(work, world.deployment.id)

    await sweep_deployments(world.context)

    assert _inhabitants(world) == set()
    assert (await resource_row(worker_database, world.deployment)).status is ResourceStatus.ENDED


@dataclass
class OtherHost:
    """A host that gives one answer."""

    answer: RunningApp | ProviderError
    started: int = 0

    async def start(self, order: AppOrder) -> RunningApp:
        self.started += 1
        if isinstance(self.answer, ProviderError):
            raise self.answer
        return self.answer

    async def is_alive(self, reference: str) -> bool:
        return True

    async def stop(self, reference: str) -> bool:
        return True


def with_host(world: World, host: AppHost | None) -> JobContext:
    return replace(world.context, app_hosts={Provider.LOCAL: host} if host else {})


async def test_busy_host_is_asked_again_and_given_up_in_the_end(
    world: World, worker_database: Database, clock: FixedClock, told: Told
) -> None:
    host = OtherHost(ProviderBusy("No room."))
    context = with_host(world, host)

    assert not await bring_up(context, world.deployment.id)
    after = await deployment_row(worker_database, world.deployment)
    assert (after.status, after.next_check_at) == (STARTING, clock.now() + timedelta(seconds=5))
    assert told.events == []

    await sweep_deployments(context)
    assert host.started == 1, "it is not due yet"
    clock.at += timedelta(seconds=6)
    await sweep_deployments(context)
    assert host.started == 2
    clock.at += timedelta(minutes=5)
    with pytest.raises(DeploymentFailed, match="No room"):
        await bring_up(context, world.deployment.id)
    failed = await deployment_row(worker_database, world.deployment)
    assert (failed.status, failed.error_message) == (FAILED, "No room.")
    assert (await resource_row(worker_database, world.deployment)).status is ResourceStatus.ENDING


async def test_host_that_refuses_fails_the_deployment(world: World, worker_database: Database, told: Told) -> None:
    with pytest.raises(DeploymentFailed, match="cannot serve models on LOCAL"):
        await bring_up(with_host(world, None), world.deployment.id)

    with pytest.raises(DeploymentFailed, match="cannot serve models on LOCAL"):
        await bring_up(world.context, world.deployment.id)
    assert [event.data["status"] for event in told.events] == ["FAILED"]


async def test_address_that_answers_for_another_model_is_no_proof(
    world: World, worker_database: Database, database: Database, settings: Settings
) -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    held = free_socket()
    async with serving_apps(settings, database, listening=held, api=other):
        host = OtherHost(RunningApp("ref", "127.0.0.1", held.getsockname()[1]))
        with pytest.raises(DeploymentFailed, match="another model"):
            await bring_up(with_host(world, host), world.deployment.id)

    assert (await deployment_row(worker_database, world.deployment)).status is FAILED


async def test_address_that_cannot_be_reached_is_asked_later(world: World, worker_database: Database) -> None:
    with closing(free_socket()) as held:
        nowhere = world.context.settings.model_copy(
            update={"public_url": f"http://127.0.0.1:{held.getsockname()[1]}", "apps_url": ""}
        )
        nowhere.__dict__.pop("own_url", None)
        nowhere.__dict__.pop("own_apps_url", None)
        host = OtherHost(RunningApp("ref", "127.0.0.1", 9))

        context = replace(with_host(world, host), settings=nowhere)
        assert not await bring_up(context, world.deployment.id, proof_seconds=0.2)

    after = await deployment_row(worker_database, world.deployment)
    assert (after.status, after.reference, after.port) == (STARTING, "ref", 9)
    assert after.lease_until is None


async def test_stopped_before_it_answered_is_the_end(world: World) -> None:
    async with world.context.begin() as work:
        await service.mark_stopped(work, world.deployment.id)

    with pytest.raises(DeploymentFailed, match="stopped before"):
        await bring_up(world.context, world.deployment.id)


@dataclass
class HostOfStopped(OtherHost):
    """While it starts the app, the app's owner stops it."""

    context: JobContext | None = None
    deployment_id: UUID | None = None

    async def start(self, order: AppOrder) -> RunningApp:
        assert self.context and self.deployment_id
        async with self.context.begin() as work:
            await service.mark_stopped(work, self.deployment_id)
        return await super().start(order)


async def test_stopped_while_it_starts_is_the_end(world: World, worker_database: Database, told: Told) -> None:
    answer = RunningApp("ref", "127.0.0.1", 9)
    host = HostOfStopped(answer, context=world.context, deployment_id=world.deployment.id)

    with pytest.raises(DeploymentFailed, match="stopped before"):
        await bring_up(with_host(world, host), world.deployment.id, proof_seconds=0.2)

    assert (await deployment_row(worker_database, world.deployment)).status is STOPPED
    resource = await resource_row(worker_database, world.deployment)
    assert (resource.status, resource.reference) == (ResourceStatus.ENDING, "ref")


async def test_app_is_not_ended_while_somebody_starts_it(
    world: World, worker_database: Database, clock: FixedClock
) -> None:
    context = with_host(world, OtherHost(RunningApp("ref", "127.0.0.1", 9)))
    async with lease_of(replace(context, worker_id=new_id()), world.deployment.id):
        async with world.context.begin() as work:
            await service.mark_stopped(work, world.deployment.id)
        await sweep_deployments(context)
        assert (await resource_row(worker_database, world.deployment)).status is ResourceStatus.ENDING

    clock.at += timedelta(seconds=6)
    await sweep_deployments(context)
    assert (await resource_row(worker_database, world.deployment)).status is ResourceStatus.ENDED


async def test_lease_keeps_others_out_until_it_runs_out(world: World, clock: FixedClock) -> None:
    other = replace(world.context, worker_id=new_id())
    async with lease_of(world.context, world.deployment.id) as mine:
        assert mine
        async with lease_of(other, world.deployment.id) as others:
            assert not others
        clock.at += timedelta(seconds=21)
        async with lease_of(other, world.deployment.id) as others:
            assert others


async def _predicted(world: World, row: dict[str, Any]) -> list[Any]:
    answer = await world.http.post(f"{world.address}predict", json={"rows": [row]})
    assert answer.status_code == 200, answer.text
    predictions: list[Any] = answer.json()["predictions"]
    return predictions


def _inhabitants(world: World) -> set[int]:
    """The living processes of the app's sandbox."""
    tag = f"app-app-{world.deployment.id.hex}"
    folder = world.context.settings.data_dir / "sandboxes" / tag
    return inhabitants(folder)


async def _kill(world: World) -> None:
    """As a machine does that runs out of memory; then wait until its supervisor has seen it."""
    pids = _inhabitants(world)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    host = world.context.app_hosts[Provider.LOCAL]
    with anyio.fail_after(10):
        while await host.is_alive(f"app-app-{world.deployment.id.hex}"):  # of another process
            await anyio.sleep(0.01)
