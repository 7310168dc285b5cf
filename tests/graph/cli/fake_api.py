"""An API of canned answers on a real port: GraphQL by the operation's name, uploads, and one stream of a run."""

import json
import re
import threading
import time
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

OPERATION = re.compile(r"(?:query|mutation|subscription) (\w+)")


class FakeApi:
    """`answers` is the `data` for each operation; a list under "errors" in it is answered as errors instead."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        self.stream: list[dict[str, Any]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.authorizations: set[str | None] = set()
        self.uploads: dict[str, bytes] = {}
        self.upload_answer: tuple[int, dict[str, Any]] = (200, {})
        app = Starlette(
            routes=[
                Route("/graphql", self._graphql, methods=["POST"]),
                WebSocketRoute("/graphql", self._socket),
                Route("/datasets/{id}/content", self._upload, methods=["PUT"]),
            ]
        )
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", ws="websockets-sansio"))
        self._thread = threading.Thread(target=self._server.run)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline, "the fake API did not start"
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    async def _graphql(self, request: Request) -> Response:
        body = await request.json()
        found = OPERATION.search(body["query"])
        assert found is not None
        self.asked.append((found[1], body["variables"]))
        self.authorizations.add(request.headers.get("authorization"))
        answer = self.answers[found[1]]
        return JSONResponse(answer if "errors" in answer else {"data": answer})

    async def _upload(self, request: Request) -> Response:
        self.uploads[request.path_params["id"]] = await request.body()
        status, answer = self.upload_answer
        return JSONResponse(answer, status_code=status)

    async def _socket(self, socket: WebSocket) -> None:
        await socket.accept(subprotocol="graphql-transport-ws")
        init = json.loads(await socket.receive_text())
        self.authorizations.add(init["payload"].get("authorization"))
        await socket.send_json({"type": "connection_ack", "payload": {}})
        subscribe = json.loads(await socket.receive_text())
        self.asked.append(("FollowRun", subscribe["payload"]["variables"]))
        for message in self.stream:
            await socket.send_json({"type": "next", "id": "1", "payload": {"data": {"trainingRun": message}}})
        await socket.send_json({"type": "complete", "id": "1"})
        await socket.receive()
