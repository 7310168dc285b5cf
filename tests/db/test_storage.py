"""The store of datasets' files: nothing is left of what was not kept, and no link leads out of it."""

import errno
import hashlib
import io
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from db import storage
from db.storage import DISK_RESERVE_BYTES, DatasetStore, FileMissing
from domain.base import new_id
from domain.dataset.errors import DatasetBeingUploaded, DiskFull

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return DatasetStore(tmp_path / "datasets")


def keep(store: DatasetStore, content: bytes, dataset_id: UUID | None = None) -> UUID:
    dataset_id = dataset_id or new_id()
    with store.receive(dataset_id) as incoming:
        incoming.write(content)
        incoming.keep()
    return dataset_id


def everything(store: DatasetStore) -> list[str]:
    return sorted(str(path.relative_to(store.folder)) for path in store.folder.rglob("*") if not path.is_dir())


def test_what_is_kept_can_be_read(store: DatasetStore) -> None:
    dataset_id = new_id()
    with store.receive(dataset_id) as incoming:
        incoming.write(b"a,b\n")
        incoming.write(b"1,2\n")
        assert (incoming.bytes, incoming.sha256) == (8, hashlib.sha256(b"a,b\n1,2\n").hexdigest())
        with incoming.finish() as file:
            assert file.read() == b"a,b\n1,2\n"
        incoming.keep()
    with store.open(dataset_id) as kept:
        assert kept.read() == b"a,b\n1,2\n"
    assert everything(store) == [str(dataset_id)]
    assert stat.S_IMODE((store.folder / str(dataset_id)).stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


def test_what_is_not_kept_is_gone(store: DatasetStore) -> None:
    with pytest.raises(ZeroDivisionError), store.receive(new_id()) as incoming:
        incoming.write(b"x")
        raise ZeroDivisionError
    assert everything(store) == []


def test_one_at_a_time_receives_a_dataset(store: DatasetStore) -> None:
    dataset_id = new_id()
    with store.receive(dataset_id) as first:
        first.write(b"first")
        with pytest.raises(DatasetBeingUploaded):
            store.receive(dataset_id)
        with store.receive(new_id()):
            pass
        first.keep()
    with store.open(dataset_id) as kept:
        assert kept.read() == b"first"


def test_what_a_killed_process_left_is_written_over(store: DatasetStore) -> None:
    dataset_id = new_id()
    keep(store, b"x")
    (store.folder / "incoming" / f"{dataset_id}.part").write_bytes(b"half of something")
    keep(store, b"whole", dataset_id)
    with store.open(dataset_id) as kept:
        assert kept.read() == b"whole"


@pytest.mark.parametrize("target", ["file", "folder", "nowhere"])
def test_a_link_in_the_store_is_not_followed(store: DatasetStore, tmp_path: Path, target: str) -> None:
    keep(store, b"x")
    outside = tmp_path / "outside"
    if target == "file":
        outside.write_bytes(b"secret")
    elif target == "folder":
        outside.mkdir()
    dataset_id = new_id()
    (store.folder / str(dataset_id)).symlink_to(outside)
    with pytest.raises(FileMissing):
        store.open(dataset_id)
    part = store.folder / "incoming" / f"{dataset_id}.part"
    part.symlink_to(outside)
    with pytest.raises(OSError):
        store.receive(dataset_id)
    if target == "file":
        assert outside.read_bytes() == b"secret"


def test_a_store_that_is_a_link_itself_is_not_followed(tmp_path: Path) -> None:
    elsewhere = DatasetStore(tmp_path / "elsewhere")
    dataset_id = keep(elsewhere, b"x")
    (tmp_path / "datasets").symlink_to(elsewhere.folder)
    with pytest.raises(FileMissing):
        DatasetStore(tmp_path / "datasets").open(dataset_id)


def test_what_is_no_plain_file_is_not_opened(store: DatasetStore) -> None:
    keep(store, b"x")
    pipe, folder = new_id(), new_id()
    os.mkfifo(store.folder / str(pipe))
    (store.folder / str(folder)).mkdir()
    for dataset_id in (pipe, folder, new_id()):
        with pytest.raises(FileMissing):
            store.open(dataset_id)


def test_a_full_disk_is_told_before_and_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [DISK_RESERVE_BYTES + 1000]
    store = DatasetStore(tmp_path / "datasets", free=lambda folder: free[0])
    with pytest.raises(DiskFull):
        store.receive(new_id(), announced_bytes=1001)
    monkeypatch.setattr(storage, "CHECK_BYTES", 10)
    with pytest.raises(DiskFull), store.receive(new_id(), announced_bytes=1000) as incoming:
        incoming.write(b"x" * 9)
        free[0] = DISK_RESERVE_BYTES - 1
        incoming.write(b"x" * 9)
    assert everything(store) == []


class FullDisk(io.BytesIO):
    """A file on a disk without room."""

    def write(self, block: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_room_is_no_crash(store: DatasetStore) -> None:
    with pytest.raises(DiskFull), store.receive(new_id()) as incoming:
        incoming._file.close()
        incoming._file = FullDisk()
        incoming.write(b"x")
    assert everything(store) == []


def test_removing_is_done_once_and_twice(store: DatasetStore) -> None:
    dataset_id = keep(store, b"x")
    other = keep(store, b"y")
    store.remove(dataset_id)
    store.remove(dataset_id)
    assert everything(store) == [str(other)]
    DatasetStore(store.folder / "never made").remove(dataset_id)


def test_old_parts_are_removed_and_those_in_hand_are_not(store: DatasetStore) -> None:
    kept = keep(store, b"x")
    (store.folder / "incoming" / f"{new_id()}.part").write_bytes(b"left behind")
    (store.folder / "incoming" / "notes.txt").write_bytes(b"somebody's")
    with store.receive(new_id()) as incoming:
        incoming.write(b"on its way")
        assert store.remove_parts(LONG_AGO) == 0
        assert store.remove_parts(LATER) == 1
        incoming.write(b" still")
    assert everything(store) == [str(kept), "incoming/notes.txt"]
    assert [file.dataset_id for file in store.files()] == [kept]
