"""A client of the public API: GraphQL and files over HTTP. Streams are in `stream.py`.

    async with Client("http://127.0.0.1:8000", Credential(token)) as client:
        run = await client.ask(documents.START_RUN, input={...})
        async for message in client.follow(run["id"]):
            ...

It uses nothing but what a partner can use, and may serve as the pattern for a client in another language.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx2
from anyio import Path as AsyncPath
from anyio import open_file

from db.settings import is_loopback
from graph.cli import documents
from graph.cli.errors import ClientError, Missing, NotAllowed, Unreachable, Usage, of_graphql, of_problem
from graph.cli.stream import Drop, Stream

TIMEOUT_SECONDS = 30.0
UPLOAD_BLOCK_BYTES = 256 * 1024
RENEW_AFTER = 2 / 3
"""Of a token's life."""
PROBLEMS = frozenset({"NotFound", "Invalid", "Conflict", "Forbidden", "LimitReached", "Unavailable"})


class Credential:
    """What the client shows: an API key, which stays, or the tokens of a session, which are renewed."""

    def __init__(self, token: str, *, refresh_token: str | None = None, expires_at: datetime | None = None) -> None:
        self.token = token
        self.refresh_token = refresh_token
        self.expires_at = expires_at
        self._renew_at: datetime | None = None
        if refresh_token is not None and expires_at is not None:
            now = datetime.now(UTC)
            self._renew_at = now + max((expires_at - now) * RENEW_AFTER, timedelta(seconds=1))

    def __repr__(self) -> str:
        return "Credential(•••)"

    @classmethod
    def of_session(cls, session: dict[str, Any]) -> Self:
        """The credential for an answer of signUp, signIn or refreshSession."""
        return cls(
            session["accessToken"],
            refresh_token=session["refreshToken"],
            expires_at=datetime.fromisoformat(session["expiresAt"]),
        )

    def renew_in_seconds(self) -> float | None:
        """How long until it should be renewed; None when it need not or cannot be."""
        return max(0.0, (self._renew_at - datetime.now(UTC)).total_seconds()) if self._renew_at else None


class Client:
    """The API at `url` (its origin, or the address of `/graphql`), as whoever the credential names."""

    def __init__(
        self, url: str, credential: Credential | None = None, *, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/graphql")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Usage(f"{url!r} is no address of an API; give one like http://127.0.0.1:8000.")
        self.credential = credential
        self.is_on_this_machine = is_loopback(parts.hostname)
        # A proxy from the environment could not reach this machine's own addresses.
        self._http = httpx2.AsyncClient(
            timeout=TIMEOUT_SECONDS, trust_env=not self.is_on_this_machine, transport=transport
        )
        self._renewing = asyncio.Lock()

    @property
    def graphql_url(self) -> str:
        return f"{self.url}/graphql"

    @property
    def socket_url(self) -> str:
        return "ws" + self.graphql_url.removeprefix("http")

    @property
    def authorization(self) -> str | None:
        """The value of the header `Authorization`, and of `authorization` in `connection_init`."""
        return f"Bearer {self.credential.token}" if self.credential else None

    async def ask(self, document: str, **variables: Any) -> Any:
        """The value of the operation's one field. Raises the refusal that is there instead, `Missing` for null."""
        data = await self.execute(document, variables)
        value = next(iter(data.values()))
        if value is None:
            raise Missing("There is no such thing, or it is not yours.", code="NOT_FOUND")
        if isinstance(value, dict) and value.get("__typename") in PROBLEMS:
            raise of_problem(value)
        return value

    async def execute(self, document: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """The `data` of an answer without errors. A token that has ended is renewed, once. Raises `ClientError`."""
        shown = self.credential
        try:
            return await self._execute(document, variables)
        except NotAllowed:
            if shown is None or not await self.renew(shown.token):
                raise
        return await self._execute(document, variables)

    async def renew(self, ended_token: str) -> bool:
        """Get a new access token for the session; False where there is no session, or where it has ended too.

        A refresh token works once, and showing it twice ends its session: so one asks, and the others wait.
        """
        async with self._renewing:
            if self.credential is None or self.credential.refresh_token is None:
                return False
            if self.credential.token != ended_token:
                return True  # somebody was faster
            refresh_token = self.credential.refresh_token
            self.credential = None
            try:
                answer = await self._execute(documents.REFRESH_SESSION, {"refreshToken": refresh_token})
            except NotAllowed:
                return False
            session = answer["refreshSession"]
            if session["__typename"] in PROBLEMS:
                return False
            self.credential = Credential.of_session(session)
            return True

    def follow(
        self, run_id: str, *, after: str | None = None, on_drop: Callable[[Drop], None] | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """A run's messages to its end: a snapshot (or, with the cursor `after`, what was missed), then each event once.

        A lost connection is resumed, and told to `on_drop`. Raises `ClientError`.
        """
        stream = Stream(self, documents.FOLLOW_RUN, {"id": run_id}, after=after, on_drop=on_drop)
        return stream.messages()

    async def upload(
        self, dataset_id: str, path: Path, *, on_progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """Send a file as a dataset's content; `on_progress` gets the number of bytes sent. Raises `ClientError`."""
        size = (await AsyncPath(path).stat()).st_size

        async def blocks() -> AsyncIterator[bytes]:
            sent = 0
            async with await open_file(path, "rb") as file:
                while block := await file.read(UPLOAD_BLOCK_BYTES):
                    yield block
                    sent += len(block)
                    if on_progress:
                        on_progress(sent)

        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        address = f"{self.url}/datasets/{quote(dataset_id, safe='')}/content"
        response = await self._send("PUT", address, content=blocks(), headers=headers)
        answer = _json_of(response)
        if response.is_success:
            return answer
        raise _of_http(response.status_code, answer)

    async def post_json(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask a served model, which needs no credential and is shown none. Raises `ClientError`."""
        try:
            response = await self._http.post(url, json=body)
        except httpx2.HTTPError as error:
            raise Unreachable(f"The model at {url} does not answer ({type(error).__name__}).") from error
        answer = _json_of(response)
        if response.is_success:
            return answer
        raise _of_http(response.status_code, answer)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _execute(self, document: str, variables: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Accept": "application/graphql-response+json, application/json;q=0.9"}
        body = {"query": document, "variables": variables or {}}
        response = await self._send("POST", self.graphql_url, json=body, headers=headers)
        answer = _json_of(response)
        if errors := answer.get("errors"):
            raise of_graphql(errors)
        data = answer.get("data")
        if not isinstance(data, dict):
            raise _of_http(response.status_code, answer)
        return data

    async def _send(self, method: str, url: str, **options: Any) -> httpx2.Response:
        headers = options.pop("headers", {})
        if self.authorization:
            headers = {**headers, "Authorization": self.authorization}
        try:
            return await self._http.request(method, url, headers=headers, **options)
        except httpx2.HTTPError as error:
            raise Unreachable(
                f"Nobody answers at {self.url} ({type(error).__name__}). Is it running? `runwire up` starts it; "
                "--url or RUNWIRE_URL name another address."
            ) from error


async def last_of(messages: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any] | None:
    """The last message of a stream, once it has completed."""
    last = None
    async with aclosing(messages):
        async for message in messages:
            last = message
    return last


def _json_of(response: httpx2.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {}


def _of_http(status: int, answer: dict[str, Any]) -> ClientError:
    """The error for an answer that is not what was asked for: GraphQL's `errors`, a `Problem`, or only a status."""
    if errors := answer.get("errors"):
        return of_graphql(errors)
    kind = {401: "Forbidden", 403: "Forbidden", 404: "NotFound", 429: "LimitReached"}.get(status, "")
    if "code" in answer and "message" in answer:
        return of_problem({"__typename": kind, **answer})
    text = f"The server answered with HTTP {status}, and nothing that this client understands."
    if status in (502, 503, 504):
        return Unreachable(text)
    return of_problem({"__typename": kind, "code": f"HTTP_{status}", "message": text})
