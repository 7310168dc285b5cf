"""Which API a command speaks to, and as whom: options, the environment, else what `runwire up` left in DATA_DIR."""

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from graph.cli import documents
from graph.cli.client import Client, Credential
from graph.cli.errors import ClientError, Missing, NotAllowed, Usage

LOCAL_EMAIL = "you@runwire.local"
FILE = "session.json"
PASSWORD_FILE = "local_password"
ALL_SCOPES = (
    "RUNS_READ", "RUNS_WRITE", "DATASETS_READ", "DATASETS_WRITE", "MODELS_READ", "MODELS_WRITE",
    "ACCOUNT_READ", "ACCOUNT_WRITE",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LocalSession:
    """The running, or last, installation of a data directory, and an API key of its own user."""

    url: str
    token: str
    email: str = LOCAL_EMAIL

    def __repr__(self) -> str:
        return f"LocalSession({self.url!r}, {self.email!r})"

    @classmethod
    def read(cls, data_dir: Path) -> Self | None:
        """What is there; None when there is nothing readable."""
        try:
            found = json.loads((data_dir / FILE).read_text())
            return cls(**{name: str(found[name]) for name in ("url", "token", "email")})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, data_dir: Path) -> None:
        """Keep it, readable by this user only."""
        write_private(data_dir / FILE, json.dumps(asdict(self), indent=2) + "\n")


def address(url: str | None, data_dir: Path) -> str:
    """Which API is meant. Raises `Usage` where nothing tells."""
    local = LocalSession.read(data_dir)
    if url is not None:
        return url
    if local is None:
        raise Usage(
            f"Which API? There is no {data_dir / FILE} of a `runwire up`; start one, or give --url (RUNWIRE_URL) "
            "and --token (RUNWIRE_TOKEN)."
        )
    return local.url


def connect(url: str | None, token: str | None, data_dir: Path) -> Client:
    """The API that is meant, as whoever the token names, else as the local user: whose key no other API is shown.

    Raises `Usage` or `NotAllowed` where it cannot be told which, or as whom.
    """
    client = Client(address(url, data_dir))
    local = LocalSession.read(data_dir)
    if token is None and local is not None and Client(local.url).url == client.url:
        token = local.token
    if token is None:
        raise NotAllowed(
            f"As whom? Give --token or RUNWIRE_TOKEN for {client.url}; `runwire token --url {client.url} --email …` "
            "makes one."
        )
    client.credential = Credential(token)
    return client


async def sign_in_locally(url: str, data_dir: Path, connect: Callable[..., Client] = Client) -> LocalSession:
    """The local user's API key for the API at `url`: the kept one while it works, else a new one.

    The user is made through the public API, with a random password that stays in DATA_DIR. Raises `ClientError`.
    """
    kept = LocalSession.read(data_dir)
    if kept is not None:
        try:
            async with connect(url, Credential(kept.token)) as client:
                await client.ask(documents.VIEWER)
            session = LocalSession(url, kept.token, kept.email)
            session.write(data_dir)
            return session
        except (NotAllowed, Missing):
            pass  # of another database, or revoked
    async with connect(url) as client:
        await sign_in(client, LOCAL_EMAIL, _kept_password(data_dir), sign_up=True)
        session = LocalSession(url, await create_key(client, "runwire up", ALL_SCOPES))
    session.write(data_dir)
    return session


async def sign_in(client: Client, email: str, password: str, *, sign_up: bool = False) -> None:
    """Sign the client in; with `sign_up` the account is made where there is none. Raises `ClientError`."""
    given = {"email": email, "password": password}
    try:
        session = await client.ask(documents.SIGN_IN, input=given)
    except ClientError:
        if not sign_up:
            raise
        session = await client.ask(documents.SIGN_UP, input=given)
    client.credential = Credential.of_session(session)


async def create_key(client: Client, name: str, scopes: tuple[str, ...], *, test_mode: bool = False) -> str:
    """The text of a new API key, which is not to be had again. Raises `ClientError`."""
    mode = {"testMode": True} if test_mode else {}
    answer = await client.ask(documents.CREATE_API_KEY, input={"name": name, "scopes": list(scopes), **mode})
    return str(answer["token"])


def write_private(path: Path, text: str) -> None:
    """Replace a file by one that only this user can read, at once."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def _kept_password(data_dir: Path) -> str:
    path = data_dir / PASSWORD_FILE
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text()
