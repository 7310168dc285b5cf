"""Downloads the dataset of an order: resumed after each cut, checked to the last byte."""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from .words import BadData, Throttle, say

BLOCK_BYTES = 256 * 1024
ANSWER_LIMIT_SECONDS = 30.0
STANDSTILL_LIMIT_SECONDS = 120.0
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 8.0
_FINAL = {
    401: "the right to download was refused (401); it may have expired or been revoked",
    403: "the right to download was refused (403); it may have expired or been revoked",
    404: "the dataset is not there (404); it may have been deleted",
    410: "the dataset is gone (410)",
}


class _Cut(Exception):
    """The download stopped before its end and may be resumed."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could carry the grant to another host."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


class Download:
    """One file on its way."""

    def __init__(self, url: str, token: str, size: int, sha256: str, target: Path) -> None:
        self.url = url
        self.token = token
        self.size = size
        self.sha256 = sha256
        self.target = target
        self.etag: str | None = None
        # The grant goes to the address of the order and nowhere else.
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
        self.progress = Throttle(2.0)

    def run(self) -> None:
        """Fetch the file; a Failure says in a sentence why it cannot be had."""
        pause = FIRST_PAUSE_SECONDS
        moved_at = time.monotonic()
        while (have := self._have()) < self.size or self.size == 0:
            try:
                self._fetch_from(have)
                if self.size == 0:
                    break
            except _Cut as cut:
                if self._have() > have:
                    moved_at, pause = time.monotonic(), FIRST_PAUSE_SECONDS
                if time.monotonic() - moved_at > STANDSTILL_LIMIT_SECONDS:
                    raise BadData(f"The dataset could not be downloaded: {cut}.") from cut
                say(f"WARNING download stopped at {self._have():,} of {self.size:,} bytes ({cut}); trying again")
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        self._check()

    def _have(self) -> int:
        return self.target.stat().st_size if self.target.exists() else 0

    def _fetch_from(self, have: int) -> None:
        request = urllib.request.Request(self.url)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Accept-Encoding", "identity")
        if have:
            request.add_header("Range", f"bytes={have}-")
            if self.etag:
                request.add_header("If-Range", self.etag)
        try:
            with self.opener.open(request, timeout=ANSWER_LIMIT_SECONDS) as answer:
                self._receive(answer, have)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # what we have is not a part of what is there
                self.target.unlink(missing_ok=True)
                raise _Cut("the server knows no such range") from error
            if error.code in _FINAL:
                raise BadData(f"The dataset could not be downloaded: {_FINAL[error.code]}.") from error
            if error.code < 500 and error.code not in (408, 429):
                raise BadData(f"The dataset could not be downloaded: the server answered {error.code}.") from error
            raise _Cut(f"the server answered {error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            raise _Cut(_words_of(error)) from error

    def _receive(self, answer: http.client.HTTPResponse, have: int) -> None:
        etag = answer.headers.get("ETag")
        self.etag = etag if etag and not etag.startswith("W/") else None  # only a strong one may stand in If-Range
        resumed = answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-")
        if have and resumed:
            say(f"download goes on at byte {have:,}")
        count = have if resumed else 0
        with open(self.target, "ab" if resumed else "wb") as file:
            while block := answer.read(BLOCK_BYTES):
                count += len(block)
                if count > self.size:
                    raise BadData(f"The dataset is larger than the {self.size:,} bytes that were announced.")
                file.write(block)
                if self.progress.ready() and count < self.size:
                    say(f"downloaded {count:,} of {self.size:,} bytes")
        if count < self.size:
            raise _Cut("the connection was closed")

    def _check(self) -> None:
        digest = hashlib.sha256()
        with open(self.target, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != self.sha256.lower():
            os.unlink(self.target)
            raise BadData("The downloaded dataset is not the one that was ordered: its SHA-256 differs.")
        say(f"dataset complete: {self.size:,} bytes, SHA-256 {self.sha256[:12]}…")


def _words_of(error: Exception) -> str:
    """What happened, without the address: it could hold a credential."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, OSError):
        error = reason
    if isinstance(error, TimeoutError):
        return f"no answer for {ANSWER_LIMIT_SECONDS:.0f} seconds"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    return getattr(error, "strerror", None) or type(error).__name__
