"""Servers in a provider's place that do it no honour."""

import json
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.providers.base import RemoteTrainer, Started, TrainingOrder
from tests.conformance.driver import Driver
from tests.conformance.life import beginning

LOUD_CHARACTERS = 100_000
"""More than any adapter shows of an answer."""
Call = Callable[[], Awaitable[object]]


def calls_of(driver: Driver, trainer: RemoteTrainer, order: TrainingOrder) -> Mapping[str, Call]:
    """Everything that a provider can be asked, by the method's name; without what asks nobody."""
    position = beginning(driver, order, Started(driver.stranger))
    all_calls: Mapping[str, Call] = {
        "whose": trainer.whose,
        "start": lambda: trainer.start(order),
        "find": lambda: trainer.find(order.tag),
        "report": lambda: trainer.report(driver.stranger, position, driver.now),
        "stop": lambda: trainer.stop(driver.stranger),
        "alive": trainer.alive,
        "quotes": lambda: trainer.quotes(driver.gpu_types, order.hyperparameters),
        "finished": lambda: trainer.finished(driver.stranger),
    }
    return {name: call for name, call in all_calls.items() if name not in driver.by_itself}


def refusing(status: int, headers: Mapping[str, str] | None = None) -> ASGIApp:
    """Answers everything with this status and a sentence wherever a vendor would put one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse(_words("Not now."), status, headers=dict(headers or {}))(scope, receive, send)

    return app


def parroting(status: int, through: ASGIApp | None = None) -> ASGIApp:
    """Refuses with all that it was sent: the address, the headers and the body, also as addresses and JSON write them.

    With `through` only what is created is refused so, and all else goes there.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if through is not None and (request.method != "POST" or path.endswith("/v1/models")):
            return await through(scope, receive, send)
        body = (await request.body()).decode("utf-8", "replace")
        heard = [f"{name}: {value}" for name, value in request.headers.items()]
        said = " ".join([str(request.url), unquote(str(request.url)), *heard, body])
        said = "\n".join([said, quote(said, safe=""), json.dumps(said)])
        await JSONResponse(_words(said[:LOUD_CHARACTERS]), status)(scope, receive, send)

    return app


def _words(said: str) -> Mapping[str, object]:
    return {"title": said, "detail": said, "message": said, "error": said, "errors": [said], "code": 400}
