"""An API process, put together: services, routes, guards, and the loops that run beside them."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import anyio
import httpx2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from db.bus import RedisBus
from db.postgres import api_engine, is_unavailable
from db.settings import Settings
from db.unit_of_work import Database
from db.vault import Vault
from domain.clock import Clock
from domain.errors import Unavailable
from domain.viewer import Viewer
from graph.auth import Authentication
from graph.context import Context, Services
from graph.endpoint import GraphQLEndpoint
from graph.guards import Guards
from graph.limiter import AttemptLimiter, CallLimiter
from graph.live.connections import Connections
from graph.live.hub import Hub
from graph.routes.app_origin import with_apps
from graph.routes.apps import AppProxy
from graph.routes.artifacts import artifact_routes
from graph.routes.callbacks import callback_routes
from graph.routes.datasets import dataset_routes
from graph.routes.events import event_routes
from graph.routes.health import health_routes
from graph.routes.playground import playground_routes
from graph.routes.pods import pod_routes
from graph.routes.status import status_routes
from graph.schema import schema
from graph.transport import RequestFacts, TransportSettings
from jobs.accounts import Accounts, loaded_from, provider_http
from jobs.queue import ArqQueue

logger = logging.getLogger("runwire.graph")

REVOCATIONS_SECONDS = 2.0
"""How often open connections are compared with the database, which knows of revocations that Redis lost."""
BODY_BYTES = 1024 * 1024
WEBHOOK_BYTES = 10 * 1024 * 1024
"""Providers send a whole log along; what is refused for its size is lost, for most of them call once."""
CREDENTIAL_ENDED = "The credential was revoked or has expired: come back with a new one."


class Api:
    """The pieces of an API process and the ASGI app over them."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.bus = RedisBus(settings.bus_urls or (settings.redis_url,))
        self.queue = ArqQueue(settings.redis_url)
        self.database = Database(api_engine(settings), bus=self.bus, queue=self.queue, clock=clock)
        self.hub = Hub(self.database, self.bus, on_control=self._control)
        self.attempts = AttemptLimiter(settings.redis_url, per_minute=settings.sign_in_attempts_per_minute)
        self.calls = CallLimiter(settings.redis_url)
        self.transport = TransportSettings(
            allowed_origins=frozenset(settings.allowed_origins),
            introspection=settings.shows_schema,
            suggestions=settings.shows_schema,
        )
        self.connections = Connections(
            self.database.clock,
            per_principal=self.transport.connections_per_principal,
            unauthenticated_per_address=self.transport.unauthenticated_per_address,
        )
        self.provider_http: httpx2.AsyncClient = provider_http()
        self.accounts = Accounts(
            settings, self.provider_http, Vault(settings.encryption_keys_or_kept()), loaded_from(self.database)
        )
        self.services = Services(
            settings=settings,
            database=self.database,
            bus=self.bus,
            hub=self.hub,
            authentication=Authentication(settings, self.database),
            attempts=self.attempts,
            accounts=self.accounts,
        )
        self.proxy = AppProxy(self.services)
        self.app: ASGIApp = Guards(with_apps(self._starlette(), self.proxy, settings), body_limit_of=body_limit_of)

    def _starlette(self) -> Starlette:
        settings = self.settings
        origins = list(settings.allowed_origins)
        return Starlette(
            routes=self._routes(),
            lifespan=self._lifespan,
            middleware=[
                Middleware(
                    CORSMiddleware,
                    allow_origins=origins,
                    allow_methods=["GET", "POST", "PUT", "OPTIONS"],
                    allow_headers=["Authorization", "Content-Type", "Content-Digest", "Last-Event-ID", "If-None-Match"],
                    expose_headers=["ETag", "Retry-After", "X-Request-Id"],
                    max_age=600,
                )
            ]
            if origins
            else [],
        )

    def _routes(self) -> list[BaseRoute]:
        services = self.services
        endpoint = GraphQLEndpoint(
            schema,
            authenticate=services.authentication.authenticate,
            context_of=self._context,
            connections=self.connections,
            settings=self.transport,
            is_unavailable=lambda error: isinstance(error, Unavailable) or is_unavailable(error),
        )
        return [
            Route("/graphql", endpoint),
            WebSocketRoute("/graphql", endpoint),
            *dataset_routes(services),
            *status_routes(services),
            *event_routes(services, self.connections, self.transport),
            *pod_routes(services, self.calls),
            *artifact_routes(services, self.calls),
            *callback_routes(services, self.calls),
            *health_routes(services, self.connections),
            *(playground_routes() if self.settings.shows_playground else []),
            Route("/", _home, methods=["GET"]),
        ]

    def _context(self, viewer: Viewer, facts: RequestFacts) -> Context:
        return Context(
            services=self.services,
            viewer=viewer,
            request_id=facts.request_id,
            client_address=facts.client_address,
            user_agent=facts.user_agent,
            connection=facts.connection,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(self.hub.run)
            group.start_soon(self.connections.watch)
            group.start_soon(self._watch_revocations)
            yield
            group.cancel_scope.cancel()
        await self.proxy.close()
        await self.accounts.close()
        await self.provider_http.aclose()
        await self.database.close()
        await self.attempts.close()
        await self.calls.close()
        await self.queue.close()
        await self.bus.close()

    async def _control(self, message: dict[str, Any]) -> None:
        """Another process revoked a credential."""
        self._end_credential(UUID(message["credential"]))

    async def _watch_revocations(self) -> None:
        while True:
            await anyio.sleep(REVOCATIONS_SECONDS)
            try:
                ended = await self.services.authentication.ended_credentials(self.connections.credential_ids())
            except Unavailable:
                continue
            except Exception:
                logger.exception("Revocations could not be compared; they are in two seconds.")
                continue
            for credential_id in ended:
                self._end_credential(credential_id)

    def _end_credential(self, credential_id: UUID) -> None:
        self.services.authentication.forget(credential_id)
        self.connections.close_credential(credential_id, CREDENTIAL_ENDED)


def body_limit_of(path: str) -> int | None:
    """Uploads, artifacts and served models stream and count for themselves."""
    if path.startswith("/webhooks/"):
        return WEBHOOK_BYTES
    is_artifact = path.startswith("/runs/") and "/artifacts/" in path
    if is_artifact or path.startswith("/apps/") or (path.startswith("/datasets/") and path.endswith("/content")):
        return None
    return BODY_BYTES


async def _home(_: Request) -> Response:
    return RedirectResponse("/playground")
