"""The store of artifacts: whole files or none, and no name leads out of it."""

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from db import artifacts
from db.artifacts import ArtifactDamaged, ArtifactStore, ArtifactTooLarge, BadArtifactName
from db.storage import DISK_RESERVE_BYTES, FileMissing
from domain.dataset.errors import DiskFull

TAG = "run-0123456789abcdef0123456789abcdef-1"
LATER = datetime(2100, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


async def bytes_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


def everything(store: ArtifactStore) -> list[str]:
    return sorted(str(path.relative_to(store.folder)) for path in store.folder.rglob("*") if not path.is_dir())


@pytest.mark.anyio
async def test_what_came_whole_is_kept_and_read(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "BLOCK_BYTES", 5)
    content = b"weights and more"
    digest = hashlib.sha256(content).hexdigest()
    kept = await store.keep(TAG, "model.bin", bytes_of(b"weights", b" and", b"", b" more"), limit_bytes=len(content))
    assert kept == (store.folder / TAG / "model.bin", len(content), digest)
    assert kept.path.is_absolute() and kept.path.read_bytes() == content
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700
    with store.open(TAG, "model.bin") as file:
        assert file.read() == content
    assert everything(store) == [f"{TAG}/model.bin"]


@pytest.mark.anyio
async def test_announced_bytes_are_taken_in_either_case_and_others_refused(store: ArtifactStore) -> None:
    digest = hashlib.sha256(b"right").hexdigest()
    await store.keep(TAG, "model", bytes_of(b"right"), limit_bytes=9, sha256=digest.upper())
    with pytest.raises(ArtifactDamaged) as refused:
        await store.keep(TAG, "model", bytes_of(b"wrong"), limit_bytes=9, sha256=digest)
    assert (refused.value.expected, refused.value.found) == (digest, hashlib.sha256(b"wrong").hexdigest())
    assert everything(store) == [f"{TAG}/model"]
    assert store.path_of(TAG, "model").read_bytes() == b"right"


@pytest.mark.anyio
async def test_too_much_is_refused_before_it_is_written(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactTooLarge) as refused:
        await store.keep(TAG, "model", bytes_of(b"12345", b"67"), limit_bytes=6)
    assert refused.value.limit_bytes == 6
    assert everything(store) == []


@pytest.mark.anyio
async def test_a_source_that_breaks_leaves_nothing(store: ArtifactStore) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await store.keep(TAG, "model", breaking(), limit_bytes=100)
    assert everything(store) == []


@pytest.mark.anyio
async def test_whoever_is_cancelled_leaves_nothing(store: ArtifactStore) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"half"
        await asyncio.Event().wait()

    task = asyncio.create_task(store.keep(TAG, "model", endless(), limit_bytes=100))
    async with asyncio.timeout(5):
        while not store.folder.exists() or not everything(store):
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert everything(store) == []


@pytest.mark.anyio
async def test_two_at_once_end_with_one_whole_file(store: ArtifactStore) -> None:
    wholes = [b"a" * 100, b"b" * 100]
    await asyncio.gather(
        *(
            store.keep(TAG, "model", bytes_of(*(whole[i : i + 9] for i in range(0, 100, 9))), limit_bytes=100)
            for whole in wholes
        )
    )
    assert everything(store) == [f"{TAG}/model"]
    assert store.path_of(TAG, "model").read_bytes() in wholes


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc/passwd",
        ".hidden",
        "a\0b",
        "a\nb",
        "ä",
        "-rf",
        "x" * 151,
        "a\\b",
        "rwp_" + "a1B2" * 10,
    ],
)
async def test_names_that_lead_out_or_show_a_token_are_refused(store: ArtifactStore, name: str) -> None:
    with pytest.raises(BadArtifactName):
        await store.keep(TAG, name, bytes_of(b"x"), limit_bytes=9)
    with pytest.raises(BadArtifactName):
        await store.keep(name, "model", bytes_of(b"x"), limit_bytes=9)
    with pytest.raises(BadArtifactName):
        store.open(name, "model")
    with pytest.raises(BadArtifactName):
        store.remove(name)
    assert not store.folder.exists()


@pytest.mark.anyio
async def test_links_are_not_followed(store: ArtifactStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "model").write_bytes(b"secret")
    store.folder.mkdir()
    (store.folder / TAG).symlink_to(outside)
    with pytest.raises(OSError):
        await store.keep(TAG, "model", bytes_of(b"x"), limit_bytes=9)
    with pytest.raises(FileMissing):
        store.open(TAG, "model")
    (store.folder / "other").mkdir()
    (store.folder / "other" / "model").symlink_to(outside / "model")
    with pytest.raises(FileMissing):
        store.open("other", "model")
    os.mkfifo(store.folder / "other" / "pipe")
    with pytest.raises(FileMissing):
        store.open("other", "pipe")
    assert store.tags() == ["other"]
    assert (outside / "model").read_bytes() == b"secret"


@pytest.mark.anyio
async def test_a_full_disk_is_told(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts", free=lambda folder: DISK_RESERVE_BYTES + 3)
    with pytest.raises(DiskFull):
        await store.keep(TAG, "model", bytes_of(b"1234"), limit_bytes=9)
    assert everything(store) == []


@pytest.mark.anyio
async def test_removing_an_attempt_takes_its_files_only(store: ArtifactStore) -> None:
    await store.keep(TAG, "model", bytes_of(b"x"), limit_bytes=9)
    await store.keep("other", "model", bytes_of(b"y"), limit_bytes=9)
    store.remove(TAG)
    store.remove(TAG)
    assert (everything(store), store.tags()) == (["other/model"], ["other"])


@pytest.mark.anyio
async def test_parts_of_killed_processes_are_removed(store: ArtifactStore) -> None:
    await store.keep(TAG, "model", bytes_of(b"x"), limit_bytes=9)
    (store.folder / TAG / ".model.0123.part").write_bytes(b"half")
    assert store.remove_parts(LONG_AGO) == 0
    assert store.remove_parts(LATER) == 1
    assert everything(store) == [f"{TAG}/model"]


def test_a_store_that_was_never_used_is_empty(store: ArtifactStore) -> None:
    assert (store.tags(), store.remove_parts(LATER)) == ([], 0)
