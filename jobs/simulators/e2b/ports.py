"""What an app in a sandbox serves, reached from outside: `/_port/<sandbox>/<port>/…`, or the host
`<port>-<sandbox>.<domain>` as at E2B.

All sandboxes of a simulator share this machine's ports: two apps need two numbers. A port is forwarded only to a
process of its own sandbox.
"""

import asyncio
import re
from collections.abc import AsyncGenerator

import httpx2
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from jobs.simulators.e2b.agent import Agents, Trouble

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
ANSWER_LIMIT_SECONDS = 60.0
HOST = re.compile(r"(\d{1,5})-(i[a-z0-9]+)\.")
_HOP = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length"}
)


class Ports:
    """The proxy before the apps."""

    def __init__(self, agents: Agents) -> None:
        self.agents = agents
        self._http: httpx2.AsyncClient | None = None

    def routes(self) -> list[Route]:
        return [
            Route("/_port/{sandbox_id}/{port:int}", self.by_path, methods=METHODS),
            Route("/_port/{sandbox_id}/{port:int}/{path:path}", self.by_path, methods=METHODS),
        ]

    async def by_path(self, request: Request) -> Response:
        values = request.path_params
        return await self.forward(request, values["sandbox_id"], values["port"], values.get("path", ""))

    async def forward(self, request: Request, sandbox_id: str, port: int, path: str) -> Response:
        try:
            sandbox = self.agents.running(sandbox_id)
        except Trouble as trouble:
            return trouble.response()
        closed = JSONResponse(
            {
                "sandboxId": sandbox_id,
                "message": "The sandbox is running but port is not open",
                "port": port,
                "code": 502,
            },
            502,
        )
        if sandbox.scenario == "port_not_open" or not await asyncio.to_thread(sandbox.machine.listens, port):
            return closed
        if self._http is None:
            self._http = httpx2.AsyncClient(trust_env=False, timeout=ANSWER_LIMIT_SECONDS)
        wish = self._http.build_request(
            request.method,
            f"http://127.0.0.1:{port}/{path}",
            params=request.url.query,
            headers=[(name, value) for name, value in request.headers.items() if name not in _HOP],
            content=await request.body(),
        )
        try:
            answer = await self._http.send(wish, stream=True)
        except httpx2.TransportError:
            return closed
        headers = {name: value for name, value in answer.headers.items() if name not in _HOP}
        return StreamingResponse(_content_of(answer), answer.status_code, headers)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None


async def _content_of(answer: httpx2.Response) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()
