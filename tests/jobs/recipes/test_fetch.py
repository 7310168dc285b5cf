"""The dataset's download: resumed, checked, and honest about why it failed."""

from pathlib import Path

import pytest

from jobs.recipes import fetch
from jobs.recipes.fetch import Download
from jobs.recipes.words import BadData
from tests.jobs.recipes.serving import DatasetServer, serving

CONTENT = bytes(range(256)) * 4_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(fetch, "LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(fetch, "STANDSTILL_LIMIT_SECONDS", 0.2)


def download(server: DatasetServer, target: Path, sha256: str | None = None, size: int | None = None) -> None:
    order = server.order(sha256=sha256)
    Download(order.url, order.token.reveal(), size or order.bytes, order.sha256, target).run()


def test_every_cut_costs_only_what_was_not_yet_there(tmp_path: Path) -> None:
    with serving(DatasetServer(CONTENT, cut_after=[300_000, 0, 200_000])) as server:
        download(server, tmp_path / "content")

    assert (tmp_path / "content").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=300000-", "bytes=500000-"]


def test_a_server_in_trouble_is_asked_again(tmp_path: Path) -> None:
    with serving(DatasetServer(CONTENT, answers=[503, 429, 500])) as server:
        download(server, tmp_path / "content")

    assert len(server.ranges) == 4


def test_a_range_that_is_none_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(b"something else")
    with serving(DatasetServer(CONTENT, answers=[416])) as server:
        download(server, tmp_path / "content")

    assert server.ranges == ["bytes=14-", None]
    assert (tmp_path / "content").read_bytes() == CONTENT


def test_another_file_is_not_glued_to_the_old_part(tmp_path: Path) -> None:
    with serving(DatasetServer(CONTENT, cut_after=[1_000])) as server:
        order = server.order()
        first = Download(order.url, order.token.reveal(), order.bytes, order.sha256, tmp_path / "content")
        first.etag = '"an older one"'
        (tmp_path / "content").write_bytes(b"old" * 100)
        first.run()

    assert (tmp_path / "content").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "words"), [(401, "(401)"), (403, "expired or been revoked"), (404, "deleted"), (302, "answered 302")]
)
def test_a_refusal_is_final(tmp_path: Path, status: int, words: str) -> None:
    with serving(DatasetServer(CONTENT, answers=[status])) as server, pytest.raises(BadData) as caught:
        download(server, tmp_path / "content")

    assert words in caught.value.message
    assert len(server.ranges) == 1


def test_other_bytes_than_ordered_are_not_kept(tmp_path: Path) -> None:
    with serving(DatasetServer(CONTENT)) as server:
        with pytest.raises(BadData, match="SHA-256 differs"):
            download(server, tmp_path / "content", sha256="0" * 64)
        with pytest.raises(BadData, match="larger than the 1,000 bytes"):
            download(server, tmp_path / "content", size=1_000)
        with pytest.raises(BadData, match="connection was closed"):
            download(server, tmp_path / "content", size=len(CONTENT) + 1)


def test_nobody_there_is_told_without_the_address(tmp_path: Path) -> None:
    with serving(DatasetServer(CONTENT)) as server:
        pass
    with pytest.raises(BadData, match="nobody listens there") as caught:
        download(server, tmp_path / "content")

    assert server.token not in caught.value.message
    assert str(server.port) not in caught.value.message
