"""A server of one dataset, as the product's download door behaves, with faults to order."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from domain.secret import Secret
from jobs.providers.base import DatasetOrder


@dataclass
class DatasetServer:
    """What is served, how it fails, and what was asked of it."""

    content: bytes
    token: str = "rwg_for-this-one-run-0123456789"
    cut_after: list[int] = field(default_factory=list)
    """For each request in turn: bytes after which the connection is cut; then whole answers."""
    answers: list[int] = field(default_factory=list)
    """For each request in turn: a status instead of the data."""
    etag: str = '"one"'
    ranges: list[str | None] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/datasets/download"

    def order(self, kind: str = "CSV", sha256: str | None = None) -> DatasetOrder:
        """The order that fits what is served."""
        right = hashlib.sha256(self.content).hexdigest()
        return DatasetOrder(self.url, Secret(self.token), kind, len(self.content), sha256 or right)


@contextmanager
def serving(server: DatasetServer) -> Iterator[DatasetServer]:
    """Serve on a free port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.ranges.append(self.headers.get("Range"))
            if self.headers.get("Authorization") != f"Bearer {server.token}":
                self.send_error(403)
                return
            if server.answers:
                self.send_error(server.answers.pop(0))
                return
            start = 0
            if server.ranges[-1] is not None and self.headers.get("If-Range") == server.etag:
                start = int(server.ranges[-1].removeprefix("bytes=").rstrip("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
            else:
                self.send_response(200)
            part = server.content[start:]
            self.send_header("ETag", server.etag)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part[: server.cut_after.pop(0)] if server.cut_after else part)

        def log_message(self, format: str, *args: object) -> None:
            """Tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.port = listening.server_port
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
