"""People who do everything that the product offers, and much of it wrongly, with secrets in all the wrong places."""

import json
import secrets as randomness
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx2

from domain.training.status import Provider
from graph.cli import documents
from graph.cli.client import Client, Credential
from graph.cli.session import ALL_SCOPES
from tests.e2e import everything
from tests.e2e.harness import Run, run_of
from tests.e2e.leaks import Secrets
from tests.e2e.recording import NAME, Recording, RecordingTransport, follow_events, follow_socket

PREFIXES = {Provider.REPLICATE: "r8_", Provider.RUNPOD: "rpa_", Provider.ASTRIA: "sd_", Provider.E2B: "e2b_"}
FOLLOW_SECONDS = 50.0
_PROBLEM = "...on Problem { code message field }"
CONNECT = f"""mutation Connect($input: ConnectIntegrationInput!) {{
  connectIntegration(input: $input) {{ __typename ...on Integration {{ id name accountName errorMessage }} {_PROBLEM} }}
}}"""
TEST = f"""mutation Test($id: ID!) {{
  testIntegration(id: $id) {{ __typename ...on Integration {{ id status accountName errorMessage }} {_PROBLEM} }}
}}"""
DISCONNECT = f"""mutation Disconnect($id: ID!) {{
  disconnectIntegration(id: $id) {{ __typename ...on Integration {{ id status }} {_PROBLEM} }}
}}"""
STREAM_TOKEN = f"""mutation StreamToken($run: ID) {{
  createStreamToken(runId: $run) {{ __typename ...on StreamToken {{ token }} {_PROBLEM} }}
}}"""
SYNC_MODEL = f"""mutation SyncModel($id: ID!, $version: String) {{
  syncModel(id: $id, providerVersion: $version) {{ __typename {_PROBLEM} }}
}}"""
QUOTE = f"""mutation Quote($input: StartTrainingRunInput!) {{
  quoteTrainingRun(input: $input) {{ __typename {_PROBLEM} }}
}}"""
RENEW = f"mutation Renew($token: String!) {{ renewConnection(accessToken: $token) {{ __typename {_PROBLEM} }} }}"
FOLLOW_ACTIVITY = """subscription Activity {
  activity { __typename seq ... on RunLogged { lines { text } } ... on TrainingRunMessage { runId message } }
}"""
Allowed = set[tuple[str, str]]
"""Answers that hand a secret out on purpose: the answer's name and the secret."""


@dataclass
class Careless:
    """One user, and what came of what they did."""

    url: str
    recording: Recording
    secrets: Secrets
    handed_out: Allowed
    name: str
    access: str = ""
    refresh: str = ""
    api_key: str = ""
    test_key: str = ""
    stream_token: str = ""
    integrations: dict[Provider, str] = field(default_factory=dict)
    keys: dict[Provider, str] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    _last: str = ""
    """The name of the last answer."""

    def __post_init__(self) -> None:
        self.password = f'Pass "word"/{randomness.token_urlsafe(12)} é'
        self.email = f"{self.name}-{randomness.token_hex(4)}@example.com"
        self.secrets.add("a password", self.password)
        self.http = httpx2.AsyncClient(
            base_url=self.url, transport=RecordingTransport(self.recording), trust_env=False, timeout=30
        )

    # In order

    async def arrive(self) -> None:
        """Sign up, sign in again and again, make keys and tokens."""
        given = {"email": self.email, "password": self.password}
        await self._session(documents.SIGN_UP, "signUp", input=given)
        await self.ask("wrong password", documents.SIGN_IN, input={**given, "password": self.password + "!"})
        await self.ask("password for an address", documents.SIGN_IN, input={**given, "email": self.password})
        await self.ask("signed up twice", documents.SIGN_UP, input=given)
        await self._session(documents.SIGN_IN, "signIn", input=given)
        stale = self.refresh
        await self._session(documents.REFRESH_SESSION, "refreshSession", refreshToken=stale)
        await self._session(documents.SIGN_IN, "signIn", input=given)  # another one, to be ended by a copied token
        copied = self.refresh
        await self._session(documents.REFRESH_SESSION, "refreshSession", refreshToken=copied)
        await self.ask("a refresh token twice", documents.REFRESH_SESSION, refreshToken=copied)
        await self._session(documents.SIGN_IN, "signIn", input=given)
        for test_mode in (False, True):
            wish = {"name": "a key", "scopes": list(ALL_SCOPES), "testMode": test_mode}
            made = await self.ask("createApiKey", documents.CREATE_API_KEY, input=wish)
            token = self._handed("an API key", made["createApiKey"]["token"])
            self.test_key, self.api_key = (token, self.api_key) if test_mode else (self.test_key, token)
        made = await self.ask("createStreamToken", STREAM_TOKEN)
        self.stream_token = self._handed("a stream token", made["createStreamToken"]["token"])

    async def connect(self) -> None:
        """Connect an account at each provider, and fail to connect others."""
        for provider, prefix in PREFIXES.items():
            key = f"{prefix}sim_{self.name}-{randomness.token_hex(6)}"
            wrong = prefix + randomness.token_hex(20)
            formless = randomness.token_hex(20)
            self.secrets.add(f"a user's key at {provider}", key)
            self.secrets.add(f"a key that {provider} refuses", wrong, formless, f"{key}.unauthorized")
            for refused in (wrong, formless, f"{key}.unauthorized"):
                wish = {"provider": provider.value, "name": "wrong", "apiKey": refused}
                answer = await self.ask("a key that is refused", CONNECT, input=wish)
                assert answer["connectIntegration"]["code"] == "PROVIDER_KEY_REFUSED"
            answer = await self.ask(
                "connectIntegration", CONNECT, input={"provider": provider.value, "name": "mine", "apiKey": key}
            )
            self.keys[provider] = key
            self.integrations[provider] = answer["connectIntegration"]["id"]
            await self.ask("testIntegration", TEST, id=self.integrations[provider])

    async def upload(self, rows: Path, pictures: Path) -> None:
        async with self.client() as client:
            for name, format, path in (("rows", "CSV", rows), ("pictures", "ZIP", pictures)):
                made = await client.ask(documents.CREATE_DATASET, input={"name": name, "format": format})
                await client.upload(made["id"], path)
                self.datasets[name] = made["id"]

    async def start(self, title: str, wish: Mapping[str, Any], *, test_mode: bool = False) -> None:
        """Start a run, and read it over a socket from then on if somebody calls `follow`."""
        token = self.test_key if test_mode else self.access
        given = {"modelName": title, "deploy": False, **wish}
        answer = await self.ask(f"start {title}", documents.START_RUN, token=token, input=given)
        started = answer["startTrainingRun"]
        assert started["__typename"] == "TrainingRun", started
        self.runs[title] = run_of(started)

    async def follow(self) -> None:
        """All runs over sockets, some as plain event streams too, each to its end."""
        async with anyio.create_task_group() as group:
            init = {"authorization": f"Bearer {self.api_key}"}
            group.start_soon(self._follow, "socket of all", init, FOLLOW_ACTIVITY, {})
            for title, run in self.runs.items():
                init = {"authorization": f"Bearer {self.access}"}
                group.start_soon(self._follow_run, f"socket of {title}", init, run.id)
            for title, run in list(self.runs.items())[:4]:
                path = f"/runs/{run.id}/events?access_token={quote(self.stream_token)}"
                group.start_soon(self._follow_events, f"events of {title}", path)

    # Wrongly

    async def stumble(self) -> None:
        """Requests that are refused, each with a secret where it does not belong."""
        key = self.keys[Provider.REPLICATE]
        field = f'connectIntegration(input: {{provider: REPLICATE, name: "x", apiKey: "{key}"'
        texts = {
            "a document that breaks off": f"mutation {{ {field}",
            "an unknown field": f'mutation {{ {field}, secret: "{self.password_in_json}"}}) {{ __typename }} }}',
            "a key for an enum": f'mutation {{ connectIntegration(input: {{provider: "{key}"}}) {{ __typename }} }}',
            "a key without quotes": f"mutation {{ connectIntegration(input: {{apiKey: {key}}}) {{ __typename }} }}",
            "a key for a field": f"query {{ {key} }}",
            "a key for an argument": f'query {{ trainingRun(id: "x", {key}: 1) {{ id }} }}',
            "a token for an id": f'query {{ trainingRun(id: "{self.access}") {{ id }} }}',
            "a token for a cursor": f'query {{ trainingRuns(after: "{self.api_key}") {{ nodes {{ id }} }} }}',
            "a token for a number": f'query {{ trainingRuns(first: "{self.refresh}") {{ nodes {{ id }} }} }}',
            "a token for a slug": f'query {{ app(slug: "{self.stream_token}") {{ id }} }}',
        }
        for title, text in texts.items():
            await self.send(title, "POST", "/graphql", json={"query": text})
        wishes: dict[str, tuple[str, dict[str, Any]]] = {
            "keys of a wrong type": (
                CONNECT,
                {"input": {"provider": "REPLICATE", "name": [key], "apiKey": {"x": key}}},
            ),
            "a key for a provider": (CONNECT, {"input": {"provider": key, "name": "x", "apiKey": key}}),
            "a key with a blank": (
                CONNECT,
                {"input": {"provider": "REPLICATE", "name": "x", "apiKey": f"{key} {key}"}},
            ),
            "a key too long": (CONNECT, {"input": {"provider": "E2B", "name": "x", "apiKey": key * 20}}),
            "a key at another provider": (CONNECT, {"input": {"provider": "E2B", "name": "x", "apiKey": key}}),
            "a key too many": (CONNECT, {"input": {"provider": "E2B", "name": "x", "apiKey": key, key: key}}),
            "a password as a list": (documents.SIGN_IN, {"input": {"email": "x", "password": [self.password]}}),
            "an access token to refresh": (documents.REFRESH_SESSION, {"refreshToken": self.access}),
            "a refresh token to renew": (RENEW, {"token": self.refresh}),
            "a scope": (documents.CREATE_API_KEY, {"input": {"name": "x", "scopes": [self.api_key]}}),
            "a version": (SYNC_MODEL, {"id": self.access, "version": key}),
        }
        for title, (document, variables) in wishes.items():
            body = {"query": document, "variables": variables}
            await self.send(title, "POST", "/graphql", json=body, headers=self.as_me)
        broken = json.dumps({"query": "{", "password": self.password})[:-1]
        await self.send("JSON that breaks off", "POST", "/graphql", content=broken, headers=_JSON)
        await self.send("no JSON", "POST", "/graphql", content=f"token={self.access}", headers=_JSON)
        await self.send("a form", "POST", "/graphql", data={"apiKey": key, "password": self.password})
        await self._headers()
        await self._addresses()

    async def _headers(self) -> None:
        basic = b64encode(f"{self.email}:{self.password}".encode()).decode()
        for title, value in {
            "a refresh token": f"Bearer {self.refresh}",
            "a stream token": f"Bearer {self.stream_token}",
            "a provider's key": f"Bearer {self.keys[Provider.RUNPOD]}",
            "a password": f"Basic {basic}",
            "no scheme": self.access,
            "a token that is cut": f"Bearer {self.access[:-4]}",
            "two tokens": f"Bearer {self.access}, Bearer {self.api_key}",
        }.items():
            headers = {"authorization": value}
            await self.send(
                f"header: {title}", "POST", "/graphql", json={"query": "{ viewer { id } }"}, headers=headers
            )
            await self.send(f"header: {title}, a file", "GET", "/datasets/download", headers=headers)
            await self.send(f"header: {title}, a report", "POST", "/runs/x/reports", json={}, headers=headers)
            init = {"authorization": value}
            await self._follow_run(f"socket: {title}", init, next(iter(self.runs.values())).id, limit_seconds=3)
        await self._follow_run("socket: other words", {"token": self.access, "password": self.password}, "x")

    async def _addresses(self) -> None:
        run = next(iter(self.runs.values())).id
        key, access = self.keys[Provider.ASTRIA], self.access
        for title, path in {
            "a query": f"/graphql?query={{viewer{{id}}}}&access_token={access}",
            "a key": f"/graphql?apiKey={key}&password={quote(self.password)}",
            "a path": f"/{self.api_key}/{quote(self.access)}/{key}",
            "an access token": f"/runs/{run}/events?access_token={access}",
            "an API key": f"/events?access_token={self.api_key}",
            "a refresh token": f"/events?access_token={self.refresh}&after={self.refresh}",
            "a run": f"/runs/{access}/events",
            "an app": f"/apps/{self.stream_token}/predict?token={access}",
            "a model": f"/runs/{self.api_key}/program",
        }.items():
            await self.send(f"address: {title}", "GET", path)
        for title, path in {
            "a webhook": f"/webhooks/astria/{self.api_key}",
            "a webhook of nobody": f"/webhooks/{key}",
            "a tag": f"/webhooks/replicate?run={access}&token={self.refresh}",
            "an artifact": f"/runs/{run}/artifacts/{self.api_key}",
        }.items():
            body = json.dumps({"token": access, "id": key})
            await self.send(f"call: {title}", "POST", path, content=body, headers={**_JSON, "webhook-id": "x"})
        await self.send("upload", "PUT", f"/datasets/{self.api_key}/content", content=b"a,b\n", headers=self.as_me)

    # Later

    async def look_around(self, *, is_operator: bool = False) -> None:
        """Read everything that there is to be read."""
        for name, document in everything.queries():
            answer = await self.send(name, "POST", "/graphql", json={"query": document}, headers=self.as_me)
            errors = answer.json().get("errors")
            assert not errors or (name in _FOR_OPERATORS and not is_operator), (name, errors)
        for path in ("/healthz", "/readyz", "/metrics", "/playground", "/"):
            await self.send(path, "GET", path)
        for title, run in self.runs.items():
            for suffix in ("", "/status", "/events"):
                await self._follow_events(f"{title}{suffix}", f"/runs/{run.id}{suffix}", headers=self.as_me)

    async def leave(self) -> None:
        """Take everything back."""
        for id in self.integrations.values():
            await self.ask("disconnectIntegration", DISCONNECT, id=id)

    # Means

    @property
    def as_me(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.access}"}

    @property
    def password_in_json(self) -> str:
        return json.dumps(self.password)[1:-1]

    def client(self) -> Client:
        return Client(self.url, Credential(self.access), transport=RecordingTransport(self.recording))

    async def send(self, title: str, method: str, path: str, **options: Any) -> httpx2.Response:
        with self.recording.titled(title):
            answer = await self.http.request(method, path, **options)
        self._last = str(answer.extensions[NAME])
        return answer

    async def ask(self, title: str, document: str, *, token: str | None = None, **variables: Any) -> Any:
        """The data of an answer without errors."""
        shown = token or self.access
        headers = {"authorization": f"Bearer {shown}"} if shown else {}
        body = {"query": document, "variables": variables}
        answer = (await self.send(title, "POST", "/graphql", json=body, headers=headers)).json()
        assert "errors" not in answer, (title, answer["errors"])
        return answer["data"]

    async def _session(self, document: str, title: str, **variables: Any) -> None:
        self.access = ""
        session = (await self.ask(title, document, **variables))[title]
        self.access = self._handed("an access token", session["accessToken"])
        self.refresh = self._handed("a refresh token", session["refreshToken"])

    def _handed(self, kind: str, text: str) -> str:
        """A secret that the last answer gave on purpose: there it may stand, and nowhere else."""
        self.secrets.add(kind, text)
        self.handed_out.add((self._last, text))
        return text

    async def _follow_run(
        self, title: str, init: dict[str, Any], run_id: str, *, limit_seconds: float = FOLLOW_SECONDS
    ) -> None:
        await self._follow(title, init, documents.FOLLOW_RUN, {"id": run_id}, limit_seconds=limit_seconds)

    async def _follow(
        self,
        title: str,
        init: dict[str, Any],
        document: str,
        variables: dict[str, Any],
        *,
        limit_seconds: float = FOLLOW_SECONDS,
    ) -> None:
        await follow_socket(self.recording, self.url, title, init, document, variables, limit_seconds=limit_seconds)

    async def _follow_events(self, title: str, path: str, **options: Any) -> None:
        with self.recording.titled(title):
            await follow_events(self.http, path, limit_seconds=FOLLOW_SECONDS, **options)


_JSON = {"content-type": "application/json"}
_FOR_OPERATORS = frozenset({"callbacks", "providerFigures"})
