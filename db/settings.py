"""Settings of a process, read once from the environment in a `__main__` and then passed."""

import secrets as randomness
import sys
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.errors import DomainError
from domain.secret import Secret
from domain.training.status import Provider

GIB = 1024**3
SHORTEST_SECRET = 32
"""Characters of the shortest key that production takes."""


def _split(value: object) -> object:
    """Lists are written with commas or blanks between."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _address(url: str) -> str:
    """A base address without a slash at its end."""
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
        raise ValueError("not an address that begins with http:// or https://")
    return url.rstrip("/")


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Address = Annotated[str, AfterValidator(_address)]


class UnsafeSettings(DomainError):
    """Production refuses to start like this."""

    code = "UNSAFE_SETTINGS"
    en = "These settings are not safe in production: {problems}"
    pt = "Estas configurações não são seguras em produção: {problems}"

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems="; ".join(problems))


class Settings(BaseSettings):
    """Everything that a deployment may choose. The names are those of the environment, in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True)

    environment: Literal["development", "test", "production"] = "development"
    database_url: str = ""
    """The owner's address: migrations only. Empty: `runwire up` starts an embedded server."""
    api_database_url: str = ""
    """Empty: the owner's address, in the role `runwire_api`."""
    worker_database_url: str = ""
    """Empty: the owner's address, in the role `runwire_worker`."""
    redis_url: str = ""
    bus_urls: Words = ()
    """Pub/sub servers; a stream's is chosen by its hash. Empty: REDIS_URL."""
    public_url: str = ""
    """Where the outside reaches the API. Empty: http://HOST:PORT."""
    apps_url: str = ""
    """Where the outside reaches served models; best another origin than PUBLIC_URL. Empty: PUBLIC_URL."""
    allowed_origins: Words = ()
    """Browser origins, beside our own, that may open sockets and call the API."""
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)] = ()
    """Keys that sign tokens: the first signs, all are accepted."""
    encryption_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)] = ()
    """Keys that encrypt stored credentials: the first writes, all read. Without one production stores none."""
    data_dir: Path = Path(".runwire")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    trusted_proxies: Words = ()
    """Addresses of proxies of our own, whose X-Forwarded-For and -Proto are believed. Empty: none."""
    log_format: Literal["text", "json"] = "text"

    access_token_seconds: int = 900
    refresh_token_days: int = 30
    stream_token_seconds: int = 300
    grant_seconds: int = 7200
    """How long a download grant lives; the trainer may renew it while its run lives."""
    upload_limit_bytes: int = 20 * GIB
    artifact_limit_bytes: int = 5 * GIB
    """What the files of one attempt that trained elsewhere may have together."""
    app_body_limit_bytes: int = 10 * 1024**2
    local_slots: int = Field(default=4, ge=1)
    """Trainings of the provider LOCAL that go on at once; more wait in QUEUED."""
    local_memory_bytes: int = 2 * GIB
    local_disk_bytes: int = 5 * GIB
    run_time_limit_seconds: int = 3600
    """For runs that do not say their own."""
    longest_time_limit_seconds: int = 7 * 24 * 3600
    queue_limit_seconds: int = 6 * 3600
    """How long a run may wait in QUEUED before it fails with QUEUE_TIMED_OUT."""
    preparing_limit_seconds: int = 1800
    """How long a provider may take until a training begins; then the run is stopped."""
    active_runs_per_user: int = 50
    sign_in_attempts_per_minute: int = 10
    introspection: bool | None = None
    """Whether the schema may be read from the API. Unset: everywhere but in production."""
    playground: bool | None = None
    """Whether the playground is served. Unset: everywhere but in production."""
    sandbox_in_production: bool = False
    """Whether `local` may run trainings where ENVIRONMENT=production."""

    replicate_api_token: SecretStr = SecretStr("")
    """The operator's key at Replicate. Empty: runs there need a connected account of the user's."""
    runpod_api_key: SecretStr = SecretStr("")
    """The operator's key at RunPod; empty as above."""
    astria_api_key: SecretStr = SecretStr("")
    """The operator's key at Astria; empty as above."""
    e2b_api_key: SecretStr = SecretStr("")
    """The operator's key at E2B; empty as above."""
    replicate_base_url: Address = "https://api.replicate.com"
    """Where Replicate, or its simulator, answers."""
    runpod_base_url: Address = Field(
        default="https://api.runpod.io", validation_alias=AliasChoices("RUNPOD_BASE_URL", "RUNPOD_API_BASE_URL")
    )
    """Where RunPod, or its simulator, answers. RUNPOD_API_BASE_URL, as RunPod's own package calls it, is read too."""
    astria_base_url: Address = "https://api.astria.ai"
    """Where Astria, or its simulator, answers."""
    e2b_base_url: Address = Field(
        default="https://api.e2b.app", validation_alias=AliasChoices("E2B_BASE_URL", "E2B_API_URL")
    )
    """Where E2B, or its simulator, answers. E2B_API_URL, as E2B's own package calls it, is read too."""
    e2b_app_url_pattern: str = "https://{port}-{id}.e2b.app"
    """Where a port of a sandbox at E2B is reached."""
    runpod_image: str = "runpod/pytorch:2.1.0-py3.10-cuda11.8.0-devel-ubuntu22.04"
    """The image of pods whose run names none."""
    simulators_url: Address = ""
    """Where `runwire simulate` answers, for runs in test mode. Empty: no test mode."""

    @cached_property
    def own_url(self) -> str:
        """The API's address without a slash at its end."""
        return (self.public_url or f"http://{_for_url(self.host)}:{self.port}").rstrip("/")

    @cached_property
    def own_apps_url(self) -> str:
        return (self.apps_url or self.own_url).rstrip("/")

    @property
    def has_own_apps_origin(self) -> bool:
        """Whether served pages live on another origin than the API, so that browsers keep them apart."""
        return _origin(self.own_apps_url) != _origin(self.own_url)

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def shows_schema(self) -> bool:
        return not self.is_production if self.introspection is None else self.introspection

    @property
    def shows_playground(self) -> bool:
        return not self.is_production if self.playground is None else self.playground

    def signing_keys(self) -> tuple[str, ...]:
        """The keys as text. Outside production a key is made once and kept in DATA_DIR."""
        if self.secret_keys:
            return tuple(key.get_secret_value() for key in self.secret_keys)
        return (_kept_key(self.data_dir / "secret_key"),)

    def encryption_keys_or_kept(self) -> tuple[str, ...]:
        """The keys that stored credentials are encrypted with. Outside production one is made once and kept in
        DATA_DIR; in production there is none unless it is given, and storing a credential is refused (`db.vault`)."""
        if self.encryption_keys or self.is_production:
            return tuple(key.get_secret_value() for key in self.encryption_keys)
        return (_kept_key(self.data_dir / "encryption_key"),)

    def api_key_of(self, provider: Provider) -> Secret | None:
        """The operator's own key at a provider; None where they have none, and for LOCAL, which needs none."""
        kept: dict[Provider, SecretStr] = {
            Provider.REPLICATE: self.replicate_api_token,
            Provider.RUNPOD: self.runpod_api_key,
            Provider.ASTRIA: self.astria_api_key,
            Provider.E2B: self.e2b_api_key,
        }
        text = kept[provider].get_secret_value().strip() if provider in kept else ""
        return Secret(text) if text else None

    def base_url_of(self, provider: Provider, *, test_mode: bool = False) -> str:
        """Where a remote provider is asked; in test mode, where its simulator is. Empty where there is none."""
        if test_mode:
            is_simulated = self.simulators_url and provider is not Provider.LOCAL
            return f"{self.simulators_url}/{provider.value.lower()}" if is_simulated else ""
        return {
            Provider.REPLICATE: self.replicate_base_url,
            Provider.RUNPOD: self.runpod_base_url,
            Provider.ASTRIA: self.astria_base_url,
            Provider.E2B: self.e2b_base_url,
        }.get(provider, "")

    def reaches(self, provider: Provider, *, test_mode: bool = False) -> bool:
        """Whether the provider, where it is asked, can reach PUBLIC_URL: for callbacks, data and reports.

        False only for an address of this machine alone and a provider that is elsewhere."""
        if provider is Provider.LOCAL or not is_loopback(urlsplit(self.own_url).hostname or ""):
            return True
        return is_loopback(urlsplit(self.base_url_of(provider, test_mode=test_mode)).hostname or "")

    def problems(self) -> list[str]:
        """What production does not accept, each with its cure."""
        found: list[str] = []
        if not self.secret_keys:
            found.append("SECRET_KEYS is not set: give at least one random key of 32 characters or more")
        elif any(len(key.get_secret_value()) < SHORTEST_SECRET for key in self.secret_keys):
            found.append("SECRET_KEYS holds a key shorter than 32 characters: make one with `openssl rand -base64 32`")
        host = urlsplit(self.own_url).hostname or ""
        if not self.public_url or is_loopback(host):
            found.append("PUBLIC_URL is not set or names this machine only: give the address that the outside reaches")
        elif not self.public_url.startswith("https://"):
            found.append("PUBLIC_URL is not https: put a TLS proxy in front and give its address")
        if not (self.database_url or self.api_database_url or self.worker_database_url):
            found.append("DATABASE_URL is not set: give a PostgreSQL 15 or newer")
        if not self.redis_url:
            found.append("REDIS_URL is not set: give a Redis 6 or newer")
        if "*" in self.allowed_origins:
            found.append("ALLOWED_ORIGINS allows every origin: name the front ends")
        if any(len(key.get_secret_value()) < SHORTEST_SECRET for key in self.encryption_keys):
            cure = "make one with `openssl rand -base64 32`"
            found.append(f"ENCRYPTION_KEYS holds a key shorter than 32 characters: {cure}")
        for provider in Provider:
            parts = urlsplit(self.base_url_of(provider))
            if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
                found.append(f"{provider.value}_BASE_URL is not https: keys would travel in plain text")
        return found

    def checked(self) -> Self:
        """These settings; raises `UnsafeSettings` where production would not be safe with them."""
        problems = self.problems() if self.is_production else []
        if problems:
            raise UnsafeSettings(problems)
        return self


def read_settings() -> Settings:
    """The settings of a process that serves or works; ends it with a sentence where it cannot go on with them."""
    try:
        settings = Settings().checked()
    except UnsafeSettings as error:
        sys.exit(error.message())
    except ValidationError as error:
        first = error.errors()[0]
        sys.exit(f"{'.'.join(map(str, first['loc'])).upper()}: {first['msg']}.")
    missing = [name for name in ("database_url", "redis_url") if not getattr(settings, name)]
    if settings.api_database_url or settings.worker_database_url:
        missing = [name for name in missing if name != "database_url"]
    if missing:
        names = " and ".join(name.upper() for name in missing)
        sys.exit(f"{names} must be set to the address of a server; `runwire up` brings servers of its own.")
    return settings


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1", "") or host.startswith("127.") or host.endswith(".localhost")


def _for_url(host: str) -> str:
    host = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
    return f"[{host}]" if ":" in host else host


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _kept_key(path: Path) -> str:
    """A random key in a file that only we may read; two processes that start at once agree on one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x") as file:
            path.chmod(0o600)
            file.write(randomness.token_urlsafe(48))
    except FileExistsError:
        pass
    key = path.read_text()
    return key or _kept_key(path)
