"""The app of a trained model: `python -m recipes.serve`, in a folder that holds `order.json` and the model file.

    GET  /          what this is, as JSON, or a page with a form where HTML is preferred
    GET  /health    {"status": "ok"}
    POST /predict   {"rows": [{column: value}]} → {"runId", "artifactSha256", "predictions", "probabilities"}

It listens on a free port of the loopback address only and writes it to `address.json` once it answers. All addresses in
its answers are relative, since it stands behind a proxy under a path that it does not know.
"""

import html
import json
import os
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .encoding import BadRows
from .models import load, predict, write_json
from .words import say

ROWS_LIMIT = 1_000
BODY_LIMIT_BYTES = 1024 * 1024
IDLE_LIMIT_SECONDS = 60.0
CONNECTION_LIMIT = 128
FORM_COLUMNS = 200


class Refusal(Exception):
    """An answer that is no prediction: status, stable code, sentence, and where the mistake is."""

    def __init__(self, status: HTTPStatus, code: str, message: str, **where: Any) -> None:
        super().__init__(message)
        self.status = status
        self.content = {"error": {"code": code, "message": message, **where}}


class App:
    """One loaded model and what is to be said about it."""

    def __init__(self, order: Mapping[str, Any], bundle: Mapping[str, Any], page: str) -> None:
        self.bundle = bundle
        self.names = {"runId": order["runId"], "artifactSha256": order["artifactSha256"]}
        self.page_template = page
        self.turn = threading.Semaphore(max(1, (os.cpu_count() or 2) // 2))

    def about(self) -> dict[str, Any]:
        """Facts for programs, and how to ask."""
        description = self.bundle["description"]
        example = description["examples"][0]
        return {
            "name": f"{description['recipe']}: {description['target']}",
            "recipe": description["recipe"],
            **self.names,
            "target": description["target"],
            "columns": description["columns"],
            "classes": description["classes"],
            "metrics": description["metrics"],
            "usage": {"method": "POST", "path": "predict", "body": {"rows": [example]}, "rowsLimit": ROWS_LIMIT},
        }

    def page(self) -> str:
        """The same for people: a form that is filled with what is usual."""
        description = self.bundle["description"]
        facts = {
            **self.about(),
            "columns": description["columns"][:FORM_COLUMNS],
            "examples": description["examples"],  # what the form does not show is sent as they say
        }
        facts.pop("usage")
        # Inside a script element only "<" could end it.
        content = json.dumps(facts, ensure_ascii=False).replace("<", "\\u003c")
        return self.page_template.replace("{{name}}", html.escape(facts["name"])).replace("{{facts}}", content)

    def answer(self, body: bytes) -> dict[str, Any]:
        """The predictions for a request's body; raises Refusal."""
        rows = _rows_of(body)
        try:
            with self.turn:  # a prediction keeps a core busy; more at once would only be slower
                return {**self.names, **predict(self.bundle, rows)}
        except BadRows as error:
            where = {"row": error.row, "column": error.column}
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, error.code, error.message, **where) from error


def _rows_of(body: bytes) -> list[dict[str, Any]]:
    try:
        content = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Refusal(HTTPStatus.BAD_REQUEST, "NOT_JSON", "The body is no JSON.") from None
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        message = 'The body must be an object with a list "rows": {"rows": [{"column": value}]}.'
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "NO_ROWS", message)
    if not 1 <= len(rows) <= ROWS_LIMIT:
        message = f"Send between 1 and {ROWS_LIMIT:,} rows; {len(rows):,} came."
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "ROWS_LIMIT", message)
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            message = f"Row {index} must be an object of columns and values."
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "NOT_A_ROW", message, row=index)
    return rows


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive."""

    protocol_version = "HTTP/1.1"
    server_version = "runwire-app"
    sys_version = ""
    timeout = IDLE_LIMIT_SECONDS
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one packet
    app: App

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            self._json(HTTPStatus.OK, {"status": "ok", **self.app.names})
        elif path == "/":
            if _prefers_html(self.headers.get("Accept", "")):
                self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.app.page().encode())
            else:
                self._json(HTTPStatus.OK, self.app.about())
        elif path == "/predict":
            self._refuse(Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "METHOD", "Send predictions by POST."), "POST")
        else:
            self._refuse(_not_found())

    do_HEAD = do_GET

    def do_OPTIONS(self) -> None:
        self.send_response(HTTPStatus.NO_CONTENT)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Methods", "GET, POST")
        self.send_header("Access-Control-Allow-Headers", "Content-Type")
        self.send_header("Access-Control-Max-Age", "86400")
        self.end_headers()

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        try:
            body = self._body()
            if path != "/predict":
                raise _not_found()
            self._json(HTTPStatus.OK, self.app.answer(body))
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception as error:
            say(f"ERROR {type(error).__name__}: {error}")
            self.close_connection = True
            message = "The app failed on this request."
            self._refuse(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", message))

    def _body(self) -> bytes:
        """The request's body; what was not read ends the connection."""
        length = self.headers.get("Content-Length")
        if length is None or not length.isdigit():
            self.close_connection = True
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "LENGTH_REQUIRED", "Send the body with a Content-Length.")
        if int(length) > BODY_LIMIT_BYTES:
            self.close_connection = True
            message = f"The body may have at most {BODY_LIMIT_BYTES:,} bytes."
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "TOO_LARGE", message)
        return self.rfile.read(int(length))

    def _refuse(self, refusal: Refusal, allow: str | None = None) -> None:
        self._json(refusal.status, refusal.content, allow)

    def _json(self, status: HTTPStatus, content: Mapping[str, Any], allow: str | None = None) -> None:
        body = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
        self._send(status, "application/json", body, allow)

    def _send(self, status: HTTPStatus, kind: str, body: bytes, allow: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        # The page may be shown in a sandbox, where it has no origin; and no credential of anybody ever comes here.
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Vary", "Accept")
        self.send_header("X-Content-Type-Options", "nosniff")
        if allow is not None:
            self.send_header("Allow", allow)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def end_headers(self) -> None:
        # Whoever asks through a stable address can tell that no other app has taken this port meanwhile.
        self.send_header("X-Runwire-Run", self.app.names["runId"])
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are the proxy's to count."""


class Server(ThreadingHTTPServer):
    """A bounded number of connections at once; further ones wait in the kernel's queue."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.places = threading.BoundedSemaphore(CONNECTION_LIMIT)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.places.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self.places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that leaves is no error of ours; others are told by kind."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            say(f"ERROR {type(error).__name__}: {error}")


def _not_found() -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND", "There are / , /health and /predict.")


def _prefers_html(accept: str) -> bool:
    """Whether HTML is named before, or weighs more than, JSON; `*/*` is a program."""
    weights = {"text/html": 0.0, "application/json": 0.0}
    for place, part in enumerate(accept.split(",")[:30]):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        if kind in weights:
            weights[kind] = max(weights[kind], weight - place * 1e-6)
    return weights["text/html"] > weights["application/json"]


def main() -> int:
    """Serve until ended."""
    home = Path.cwd()
    order = json.loads((home / "order.json").read_text(encoding="utf-8"))
    try:
        bundle = load(home / "artifact" / order["artifactName"], order["artifactSha256"])
    except ValueError as error:
        print(f"ERROR {error}", file=sys.stderr, flush=True)
        return 1
    page = (Path(__file__).with_name("page.html")).read_text(encoding="utf-8")
    Handler.app = App(order, bundle, page)
    Handler.app.answer(json.dumps({"rows": [bundle["description"]["samples"][0]["row"]]}).encode())
    with Server(Handler) as server:
        host, port = server.server_address[:2]
        say(f"serving run {order['runId']} on port {port}")
        write_json(home / "address.json", {"host": host, "port": port})
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
