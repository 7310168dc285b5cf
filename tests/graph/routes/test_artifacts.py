"""`PUT /runs/{id}/artifacts/{name}`: a file is kept whole under a safe name, or not at all."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from db.settings import Settings
from db.unit_of_work import Database
from domain.training.model import PodTokenKind, TrainingRun
from domain.training.status import RunStatus
from domain.viewer import Viewer
from graph.dataset.pace import Pace
from graph.routes import artifacts
from tests.factories import make_run, make_user
from tests.graph.routes.calling import Doors, digest_header, opened

pytestmark = pytest.mark.anyio

LIMIT = 3 * 1024**2
CONTENT = b"weights " * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def small(settings: Settings) -> Settings:
    return settings.model_copy(update={"artifact_limit_bytes": LIMIT})


@pytest.fixture
async def doors(small: Settings, database: Database, worker_database: Database) -> AsyncIterator[Doors]:
    async with opened(small, database, worker_database) as doors:
        yield doors


@pytest.fixture
async def ada(database: Database) -> Viewer:
    return await make_user(database)


@pytest.fixture
async def run(database: Database, ada: Viewer) -> TrainingRun:
    return await make_run(database, ada, status=RunStatus.TRAINING)


def path_of(run: TrainingRun, name: str = "model.joblib") -> str:
    return f"/runs/{run.id}/artifacts/{name}"


def files(doors: Doors) -> dict[str, bytes]:
    """Everything in the store, by its path there."""
    found: list[Path] = [path for path in doors.store.folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(doors.store.folder)): path.read_bytes() for path in found}


async def pieces(content: bytes, size: int = 100_000, seconds: float = 0.0) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        await anyio.sleep(seconds)
        yield content[start : start + size]


async def test_a_file_is_kept_and_answered_with_what_it_is(doors: Doors, run: TrainingRun) -> None:
    token = await doors.token(run)
    answer = await doors.call("PUT", path_of(run), CONTENT, token, content_digest=digest_header(CONTENT))
    assert answer.status_code == 201
    assert answer.json() == {"name": "model.joblib", "bytes": len(CONTENT), "sha256": SHA256}
    assert files(doors) == {f"runwire-{run.id}-1/model.joblib": CONTENT}


async def test_chunks_do_as_well(doors: Doors, run: TrainingRun) -> None:
    content = CONTENT * 300
    answer = await doors.call("PUT", path_of(run), pieces(content), await doors.token(run))
    assert (answer.status_code, answer.json()["bytes"]) == (201, len(content))
    assert list(files(doors).values()) == [content]


async def test_the_same_name_again_takes_its_place(doors: Doors, run: TrainingRun) -> None:
    token = await doors.token(run)
    for content in (CONTENT, b"better", b""):
        answer = await doors.call("PUT", path_of(run), content, token)
        assert (answer.status_code, answer.json()["sha256"]) == (201, hashlib.sha256(content).hexdigest())
        assert list(files(doors).values()) == [content]


async def test_other_bytes_than_announced_are_not_kept(doors: Doors, run: TrainingRun) -> None:
    token = await doors.token(run)
    await doors.call("PUT", path_of(run), CONTENT, token)
    answer = await doors.call("PUT", path_of(run), b"other", token, content_digest=digest_header(CONTENT))
    assert (answer.status_code, answer.json()["code"]) == (422, "CHECKSUM_MISMATCH")
    answer = await doors.call("PUT", path_of(run), b"other", token, content_digest="sha-256=:nonsense:")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_CONTENT_DIGEST")
    assert list(files(doors).values()) == [CONTENT]


@pytest.mark.parametrize(
    "name",
    ["..", ".hidden", "-x", "%2e%2e", "a%20b", "a%00b", "caf%C3%A9", "x" * 151, "a%5Cb", "a:b", "%2Fetc%2Fpasswd"],
)
async def test_a_name_that_could_lead_out_is_refused(doors: Doors, run: TrainingRun, name: str) -> None:
    answer = await doors.call("PUT", path_of(run, name), CONTENT, await doors.token(run))
    assert answer.status_code in (404, 422)
    if answer.status_code == 422:
        assert answer.json()["code"] == "BAD_ARTIFACT_NAME"
    assert files(doors) == {}


class TestLimits:
    @pytest.mark.parametrize("announced", [True, False])
    async def test_a_file_that_is_too_large_leaves_nothing(
        self, doors: Doors, run: TrainingRun, announced: bool
    ) -> None:
        content = b"x" * (LIMIT + 1)
        sent = content if announced else pieces(content)
        answer = await doors.call("PUT", path_of(run), sent, await doors.token(run))
        assert (answer.status_code, answer.json()["code"]) == (413, "ARTIFACTS_TOO_LARGE")
        assert files(doors) == {}

    async def test_the_files_of_an_attempt_share_its_room(
        self, doors: Doors, database: Database, run: TrainingRun, ada: Viewer
    ) -> None:
        token = await doors.token(run)
        assert (await doors.call("PUT", path_of(run, "a"), b"x" * LIMIT, token)).status_code == 201
        assert (await doors.call("PUT", path_of(run, "a"), b"y" * LIMIT, token)).status_code == 201
        assert (await doors.call("PUT", path_of(run, "b"), b"x", token)).status_code == 413
        other = await make_run(database, ada, status=RunStatus.TRAINING)
        assert (await doors.call("PUT", path_of(other), b"x", await doors.token(other))).status_code == 201

    async def test_it_may_have_so_many(self, doors: Doors, run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(artifacts, "MOST_FILES", 2)
        token = await doors.token(run)
        statuses = [(await doors.call("PUT", path_of(run, name), b"x", token)).status_code for name in "abca"]
        assert statuses == [201, 201, 413, 201]

    async def test_one_at_a_time(self, doors: Doors, run: TrainingRun) -> None:
        token = await doors.token(run)
        statuses: dict[str, int] = {}

        async def send(name: str, seconds: float) -> None:
            answer = await doors.call("PUT", path_of(run, name), pieces(CONTENT, 4000, seconds), token)
            statuses[name] = answer.status_code

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, "slow", 0.1)
            await anyio.sleep(0.05)
            tasks.start_soon(send, "other", 0.0)
        assert statuses == {"slow": 201, "other": 429}
        assert (await doors.call("PUT", path_of(run, "other"), CONTENT, token)).status_code == 201

    async def test_so_many_a_minute(self, doors: Doors, run: TrainingRun) -> None:
        token = await doors.token(run)
        statuses = [(await doors.call("PUT", path_of(run), b"x", token)).status_code for _ in range(61)]
        assert statuses == [201] * 60 + [429]

    @pytest.mark.parametrize("seconds", [5.0, 0.05])
    async def test_a_body_that_comes_too_slowly_is_refused(
        self, small: Settings, database: Database, worker_database: Database, run: TrainingRun, seconds: float
    ) -> None:
        """Nothing for too long, or a few bytes now and then."""
        async with opened(small, database, worker_database, pace=Pace(idle_seconds=0.2)) as doors:
            token = await doors.token(run)
            with anyio.fail_after(3):
                answer = await doors.call("PUT", path_of(run), pieces(b"x" * 100, 1, seconds), token)
            assert (answer.status_code, answer.json()["code"]) == (408, "UPLOAD_STALLED")
            assert files(doors) == {}

    async def test_nothing_is_unpacked(self, doors: Doors, run: TrainingRun) -> None:
        answer = await doors.call("PUT", path_of(run), CONTENT, await doors.token(run), content_encoding="gzip")
        assert (answer.status_code, answer.json()["code"]) == (415, "ENCODED_UPLOAD")
        assert files(doors) == {}


async def test_who_may_not_leaves_nothing(doors: Doors, database: Database, run: TrainingRun, ada: Viewer) -> None:
    ended = await make_run(database, ada, status=RunStatus.FAILED)
    other = await make_run(database, ada, status=RunStatus.TRAINING)
    callers = [
        (run, None, 401),
        (run, "rwp_" + "x" * 43, 401),
        (run, await doors.token(other), 401),
        (run, await doors.token(run, kind=PodTokenKind.CALLBACK), 401),
        (ended, await doors.token(ended), 410),
    ]
    for one, token, status in callers:
        assert (await doors.call("PUT", path_of(one), CONTENT, token)).status_code == status
    assert files(doors) == {}
