"""What is asked about apps, deployments and resources. Every question of a viewer begins with what they may see."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from domain.deployment.model import App, AppAccess, Deployment, DeploymentStatus, Resource, ResourceKind, ResourceStatus
from domain.errors import NotFound
from domain.paging import PageOf, page_of
from domain.training.status import Provider
from domain.viewer import Scope, Viewer

GOING = frozenset({DeploymentStatus.STARTING, DeploymentStatus.LIVE, DeploymentStatus.WAKING})
"""Statuses that a worker looks after."""
REACHABLE = frozenset({DeploymentStatus.LIVE, DeploymentStatus.WAKING})
"""Statuses in which the address is worth giving out: it answers, or will soon."""


@dataclass(frozen=True, slots=True)
class FoundApp:
    """What the proxy knows of an app before it knows who asks."""

    id: UUID
    user_id: UUID
    access: AppAccess
    deployment_id: UUID | None
    status: DeploymentStatus | None
    run_id: UUID | None
    host: str | None
    port: int | None


async def find_app(session: AsyncSession, slug: str) -> FoundApp | None:
    """The app at this address and its current deployment, whoever owns it and whoever asks."""
    connection = await session.connection()
    found = await connection.execute(
        sa.text("SELECT id, user_id, access, deployment_id, status, run_id, host, port FROM find_app(:slug)"),
        {"slug": slug},
    )
    row = found.one_or_none()
    if row is None:
        return None
    return FoundApp(
        id=row.id,
        user_id=row.user_id,
        access=AppAccess(row.access),
        deployment_id=row.deployment_id,
        status=DeploymentStatus(row.status) if row.status else None,
        run_id=row.run_id,
        host=row.host,
        port=row.port,
    )


async def app_of(session: AsyncSession, viewer: Viewer, app_id: UUID, *, lock: bool = False) -> App:
    """The viewer's app. Raises `NotFound`, for foreign ones too."""
    user_id = viewer.require(Scope.MODELS_READ)
    statement = select(App).where(App.id == app_id, App.user_id == user_id)
    if lock:
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    app = (await session.exec(statement)).one_or_none()
    if app is None:
        raise NotFound("App")
    return app


async def app_by_slug(session: AsyncSession, user_id: UUID, slug: str) -> App | None:
    """The user's app of this slug."""
    return (await session.exec(select(App).where(App.slug == slug, App.user_id == user_id))).one_or_none()


async def apps_page(session: AsyncSession, user_id: UUID, *, first: int, after: str | None) -> PageOf[App]:
    """A page of the user's apps, newest first."""

    def narrow(statement: SelectOfScalar[App]) -> SelectOfScalar[App]:
        return statement.where(App.user_id == user_id)

    return await page_of(session, App, narrow, first=first, after=after)


async def apps_by_model(session: AsyncSession, model_ids: Sequence[UUID]) -> dict[UUID, App]:
    """The apps of these models, as far as the transaction's viewer may see them."""
    rows = (await session.exec(select(App).where(col(App.model_id).in_(model_ids)))).all()
    return {row.model_id: row for row in rows}


async def apps_by_id(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, App]:
    rows = (await session.exec(select(App).where(col(App.id).in_(ids)))).all()
    return {row.id: row for row in rows}


async def deployments_by_id(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, Deployment]:
    rows = (await session.exec(select(Deployment).where(col(Deployment.id).in_(ids)))).all()
    return {row.id: row for row in rows}


async def newest_deployments(session: AsyncSession, app_id: UUID, *, count: int) -> Sequence[Deployment]:
    """The app's deployments, newest first."""
    statement = select(Deployment).where(Deployment.app_id == app_id).order_by(col(Deployment.id).desc()).limit(count)
    return (await session.exec(statement)).all()


async def deployment_of(session: AsyncSession, viewer: Viewer, deployment_id: UUID) -> Deployment:
    """The viewer's deployment. Raises `NotFound`, for foreign ones too."""
    user_id = viewer.require(Scope.MODELS_READ)
    statement = select(Deployment).where(Deployment.id == deployment_id, Deployment.user_id == user_id)
    deployment = (await session.exec(statement)).one_or_none()
    if deployment is None:
        raise NotFound("Deployment")
    return deployment


async def slug_of_model(session: AsyncSession, model_id: UUID) -> str | None:
    """The slug under which the model is reachable at the moment."""
    statement = (
        select(App.slug)
        .join(Deployment, col(Deployment.id) == col(App.current_deployment_id))
        .where(App.model_id == model_id, col(Deployment.status).in_(sorted(REACHABLE)))
    )
    return (await session.exec(statement)).one_or_none()


@dataclass(frozen=True, slots=True)
class ResourceFilter:
    """Which resources somebody wants to see; empty conditions do not narrow."""

    provider: Provider | None = None
    is_alive: bool | None = None
    """Whether its end is not confirmed yet."""


async def resources_page(
    session: AsyncSession, user_id: UUID, wanted: ResourceFilter, *, first: int, after: str | None
) -> PageOf[Resource]:
    """A page of what the user has or had at providers, newest first."""

    def narrow(statement: SelectOfScalar[Resource]) -> SelectOfScalar[Resource]:
        return _narrowed(statement.where(Resource.user_id == user_id), Resource, wanted)

    return await page_of(session, Resource, narrow, first=first, after=after)


async def operated_resources_page(
    session: AsyncSession, wanted: ResourceFilter, *, first: int, after: str | None
) -> PageOf[Resource]:
    """A page of what all users have or had. The work must be an operator's, else there is nothing."""
    table = _operated()
    return await page_of(session, table, lambda all: _narrowed(all, table, wanted), first=first, after=after)


async def operated_resource(session: AsyncSession, resource_id: UUID) -> Resource | None:
    """Anybody's resource. The work must be an operator's, else there is none."""
    table = _operated()
    return (await session.exec(select(table).where(table.id == resource_id))).one_or_none()


def _operated() -> type[Resource]:
    """The table as operators see it: row level security shows everybody else their own rows only."""
    columns = [sa.column(column.name, column.type) for column in sa.inspect(Resource).columns]
    seen = sa.func.operated_resources().table_valued(*columns).alias("operated")
    table: type[Resource] = aliased(Resource, seen, adapt_on_names=True)
    return table


def _narrowed(
    statement: SelectOfScalar[Resource], table: type[Resource], wanted: ResourceFilter
) -> SelectOfScalar[Resource]:
    if wanted.provider is not None:
        statement = statement.where(table.provider == wanted.provider)
    if wanted.is_alive is not None:
        ended = col(table.status) == ResourceStatus.ENDED
        statement = statement.where(~ended if wanted.is_alive else ended)
    return statement


async def app_of_model(session: AsyncSession, model_id: UUID) -> App | None:
    return (await session.exec(select(App).where(App.model_id == model_id))).one_or_none()


async def locked_app(session: AsyncSession, app_id: UUID) -> App:
    """The app, whoever owns it, locked until the transaction ends."""
    statement = select(App).where(App.id == app_id).with_for_update(key_share=True)
    return (await session.exec(statement.execution_options(populate_existing=True))).one()


async def locked_deployment(session: AsyncSession, deployment_id: UUID) -> Deployment:
    """The deployment, whoever owns it, locked until the transaction ends."""
    statement = select(Deployment).where(Deployment.id == deployment_id).with_for_update(key_share=True)
    return (await session.exec(statement.execution_options(populate_existing=True))).one()


async def going_deployment(session: AsyncSession, app_id: UUID, run_id: UUID) -> Deployment | None:
    """The newest deployment of this run's result that was neither stopped nor given up."""
    statement = (
        select(Deployment)
        .where(Deployment.app_id == app_id, Deployment.run_id == run_id, col(Deployment.status).in_(sorted(GOING)))
        .order_by(col(Deployment.id).desc())
        .limit(1)
    )
    return (await session.exec(statement)).one_or_none()


async def going_deployments_of_run(session: AsyncSession, run_id: UUID) -> Sequence[UUID]:
    """Those of the run's deployments that were neither stopped nor given up."""
    statement = select(Deployment.id).where(Deployment.run_id == run_id, col(Deployment.status).in_(sorted(GOING)))
    return (await session.exec(statement)).all()


async def resource_of(session: AsyncSession, deployment_id: UUID) -> Resource:
    """What the deployment has at its provider."""
    return (await session.exec(select(Resource).where(Resource.deployment_id == deployment_id))).one()


async def claim_deployments(
    session: AsyncSession,
    *,
    worker_id: UUID,
    now: datetime,
    lease_seconds: float,
    count: int,
    deployment_id: UUID | None = None,
) -> list[UUID]:
    """Take the lease of deployments that are due, or of this one, unless somebody holds it."""
    due = (
        select(Deployment.id)
        .where(sa.or_(col(Deployment.lease_until).is_(None), col(Deployment.lease_until) < now))
        .order_by(col(Deployment.next_check_at))
        .limit(count)
        .with_for_update(skip_locked=True, key_share=True)
    )
    if deployment_id is not None:
        due = due.where(Deployment.id == deployment_id)
    else:
        due = due.where(col(Deployment.status).in_(sorted(GOING)), col(Deployment.next_check_at) <= now)
    statement = (
        sa.update(Deployment)
        .where(col(Deployment.id).in_(due.scalar_subquery()))
        .values(lease_owner=worker_id, lease_until=now + timedelta(seconds=lease_seconds))
        .returning(col(Deployment.id))
    )
    return list((await session.exec(statement)).scalars())


async def renew_lease(
    session: AsyncSession, *, worker_id: UUID, deployment_id: UUID, now: datetime, lease_seconds: float
) -> None:
    """Go on holding a deployment."""
    statement = (
        sa.update(Deployment)
        .where(col(Deployment.id) == deployment_id, col(Deployment.lease_owner) == worker_id)
        .values(lease_until=now + timedelta(seconds=lease_seconds))
    )
    await session.exec(statement)


async def release_lease(session: AsyncSession, *, worker_id: UUID, deployment_id: UUID) -> None:
    """Let go of a deployment; when it is looked at again is `next_check_at`."""
    statement = (
        sa.update(Deployment)
        .where(col(Deployment.id) == deployment_id, col(Deployment.lease_owner) == worker_id)
        .values(lease_owner=None, lease_until=None)
    )
    await session.exec(statement)


async def claim_ending(
    session: AsyncSession, *, now: datetime, again_seconds: float, count: int, deployment_id: UUID | None = None
) -> list[UUID]:
    """Apps whose end the provider has not confirmed and is to be asked about now; nobody else asks meanwhile."""
    due = (
        select(Resource.id)
        .where(Resource.kind == ResourceKind.APP, Resource.status == ResourceStatus.ENDING)
        .order_by(col(Resource.next_check_at))
        .limit(count)
        .with_for_update(skip_locked=True, key_share=True)
    )
    if deployment_id is not None:
        due = due.where(Resource.deployment_id == deployment_id)
    else:
        due = due.where(sa.or_(col(Resource.next_check_at).is_(None), col(Resource.next_check_at) <= now))
    statement = (
        sa.update(Resource)
        .where(col(Resource.id).in_(due.scalar_subquery()))
        .values(next_check_at=now + timedelta(seconds=again_seconds))
        .returning(col(Resource.id))
    )
    return list((await session.exec(statement)).scalars())
