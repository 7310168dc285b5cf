"""What a resolver is given: who asks, and the pieces of the process that answer."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from strawberry.types import Info as StrawberryInfo

from db.bus import RedisBus
from db.settings import Settings
from db.unit_of_work import Database, SqlUnitOfWork
from domain.viewer import Viewer

if TYPE_CHECKING:
    from graph.auth import Authentication
    from graph.limiter import AttemptLimiter
    from graph.live.hub import Hub
    from jobs.accounts import Accounts


@dataclass(frozen=True, slots=True)
class Services:
    """The pieces of an API process, put together in `graph/app.py`."""

    settings: Settings
    database: Database
    bus: RedisBus
    hub: "Hub"
    authentication: "Authentication"
    attempts: "AttemptLimiter"
    accounts: "Accounts | None" = None
    """The accounts at remote providers; None in tests that ask none."""


@dataclass(slots=True)
class Context:
    """One operation's context; on a socket each operation has its own, and each event a fresh one."""

    services: Services
    viewer: Viewer
    request_id: str = ""
    client_address: str = ""
    user_agent: str = ""
    connection: Any | None = None
    """The open socket or stream, if the operation came by one (`graph.live.connections.Connection`)."""
    loaders: dict[str, Any] = field(default_factory=dict)
    """DataLoaders by name, made on first use; never older than one event."""

    @property
    def settings(self) -> Settings:
        return self.services.settings

    @property
    def accounts(self) -> "Accounts":
        if self.services.accounts is None:
            raise RuntimeError("This process was put together without accounts at providers.")
        return self.services.accounts

    @property
    def now(self) -> datetime:
        return self.services.database.clock.now()

    def begin(self) -> AbstractAsyncContextManager[SqlUnitOfWork]:
        """A transaction as the viewer."""
        return self.services.database.begin(self.viewer)

    def fresh(self) -> "Context":
        """The same operation, with nothing loaded yet."""
        return Context(
            services=self.services,
            viewer=self.viewer,
            request_id=self.request_id,
            client_address=self.client_address,
            user_agent=self.user_agent,
            connection=self.connection,
        )


Info = StrawberryInfo[Context, None]
