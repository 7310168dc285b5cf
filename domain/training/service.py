"""The verbs of runs. `record` is the one door by which a run changes; a user's wishes are the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import col, func, select

from domain.ai_model import service as ai_model
from domain.ai_model.model import AIModel
from domain.commands import CheckRun
from domain.dataset import queries as datasets
from domain.deployment.model import Resource, ResourceKind, ResourceStatus
from domain.errors import NotFound
from domain.integration import choosing as integrations
from domain.journal.service import append_feed_event, append_run_event
from domain.sql import plain
from domain.training import queries
from domain.training.choices import Choice
from domain.training.errors import (
    CannotServe,
    CommandsNotPlayed,
    DatasetNeeded,
    IdempotencyKeyReused,
    IntegrationNotUsable,
    ProviderNotAvailable,
    PublicUrlNeeded,
    RunAlreadyEnded,
    RunStillGoing,
    ScenarioNeedsTestMode,
    SimulatorsNotRunning,
    TooManyRuns,
    UnknownScenario,
)
from domain.training.heeding import begin_stopping
from domain.training.model import RunAttempt, TrainingRun
from domain.training.recipe_errors import DatasetFormatUnfit
from domain.training.recipes import DatasetUse, checked_hyperparameters, recipe_of
from domain.training.recording import announce, apply, note_cost, open_attempt, standing_of
from domain.training.report import Outcome, Report
from domain.training.status import ACTIVE, EndReason, Provider, ReportSource, RunStage, RunStatus
from domain.training.wish import RunWish
from domain.viewer import Scope, Viewer
from domain.work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Offer:
    """What this installation can do and allows."""

    providers: frozenset[Provider]
    """Where the operator has an account, and LOCAL where it is offered."""
    active_runs_per_user: int
    time_limit_seconds: int
    longest_time_limit_seconds: int
    unreachable: frozenset[Provider] = frozenset()
    """Providers that cannot reach `public_url`, so that nothing is started there."""
    public_url: str = ""
    has_simulators: bool = False
    scenarios: Mapping[Provider, frozenset[str]] = field(default_factory=dict)
    """What the simulators play."""
    serves_remote_models: bool = True
    """Whether models that were trained elsewhere may be put online here."""
    plays_commands: bool = True
    """Whether the simulators, which really run commands, may run those of users."""


async def start_run(work: UnitOfWork, viewer: Viewer, wish: RunWish, offer: Offer) -> TrainingRun:
    """Write the wish down and ring a worker. The same idempotency key gives the same run.

    Raises `Invalid`, `NotFound` (dataset, config), `Conflict`, `LimitReached`, `Unavailable` (provider)."""
    return await _start(work, viewer, wish, offer, retry_of=None)


async def retry_run(
    work: UnitOfWork, viewer: Viewer, offer: Offer, *, run_id: UUID, idempotency_key: str | None
) -> TrainingRun:
    """Start a new run with the wish of one that has ended."""
    viewer.require(Scope.RUNS_WRITE)
    run = await queries.run_of(work.session, viewer, run_id)
    if not run.status.is_final:
        raise RunStillGoing(run.status)
    model = await work.session.get(AIModel, run.model_id)
    if model is None:
        raise NotFound("AIModel")
    wish = RunWish.again(run, model.name, idempotency_key)
    return await _start(work, viewer, wish, offer, retry_of=run)


async def cancel_run(work: UnitOfWork, viewer: Viewer, *, run_id: UUID) -> TrainingRun:
    """Stop a run the viewer owns; the provider is told afterwards, by a job. Asking twice is asking once.

    Raises `NotFound`, and `RunAlreadyEnded` for READY and FAILED ones."""
    viewer.require(Scope.RUNS_WRITE)
    run = await queries.run_of(work.session, viewer, run_id, lock=True)
    if run.status in (RunStatus.CANCELING, RunStatus.CANCELED):
        return run
    if run.status.is_final:
        raise RunAlreadyEnded(run.status)
    before = standing_of(run)
    run.status, run.stage, run.eta_seconds = RunStatus.CANCELING, RunStage.STOPPING, None
    await announce(work, run, before)
    if await _has_resources(work, run.id):
        run.next_check_at = work.now
        work.enqueue(CheckRun(run.id))
    else:
        await apply(work, run, _word(run, work, EndReason.CANCELED_BY_USER))
    return run


async def sync_run(work: UnitOfWork, viewer: Viewer, *, run_id: UUID) -> TrainingRun:
    """Have the provider read again now, whatever the next check was set to."""
    viewer.require(Scope.RUNS_WRITE)
    run = await queries.run_of(work.session, viewer, run_id, lock=True)
    if not run.status.is_final:
        run.next_check_at = work.now
        work.enqueue(CheckRun(run.id))
    return run


class NoFreeSlot(Exception):
    """As many trainings as may go on at once at this provider do; the run waits."""


@dataclass(frozen=True, slots=True)
class BegunAttempt:
    """An attempt that is about to be started at its provider."""

    attempt: RunAttempt
    may_exist: bool
    """Whether it may have been started before, by somebody who could not write it down."""


async def begin_attempt(work: UnitOfWork, run_id: UUID, *, slots: Mapping[Provider, int]) -> BegunAttempt | None:
    """Write down that the run's attempt is about to be started at its provider; None where it no longer should be.

    The resource's row is there before the resource is, so a lost answer never hides one. Raises `NoFreeSlot`."""
    run = await queries.locked_run(work.session, run_id)
    if run is None or run.status.is_final or run.status is RunStatus.CANCELING or run.stop_reason is not None:
        return None
    attempt = await queries.attempt_of(work.session, run.id, run.attempt)
    assert attempt is not None
    known = await queries.resource_of_tag(work.session, attempt.tag)
    if known is None:
        if attempt.provider in slots and await _is_full(work, attempt.provider, slots[attempt.provider]):
            raise NoFreeSlot
        work.session.add(
            Resource(
                created_at=work.now,
                user_id=run.user_id,
                run_id=run.id,
                provider=attempt.provider,
                kind=ResourceKind.TRAINING,
                tag=attempt.tag,
                attempt=attempt.number,
                gpu_type=attempt.gpu_type,
                integration_id=attempt.integration_id,
                is_test=run.test_mode,
            )
        )
    if attempt.started_at is None:
        attempt.started_at = work.now
    return BegunAttempt(attempt, may_exist=known is not None)


async def note_started(
    work: UnitOfWork,
    run_id: UUID,
    *,
    attempt: int,
    reference: str,
    url: str | None = None,
    price_micros_per_hour: int = 0,
    began_at: datetime | None = None,
) -> None:
    """The provider has the attempt, under this reference, since then. One that is known under another reference is left
    so: what was started a second time belongs to nobody, and is ended as a stray."""
    run = await queries.locked_run(work.session, run_id)
    row = await queries.attempt_of(work.session, run_id, attempt)
    assert run is not None and row is not None
    if row.reference not in (None, reference):
        return
    row.reference, row.provider_url, row.price_micros_per_hour = reference, url, price_micros_per_hour
    resource = (await work.session.exec(select(Resource).where(Resource.tag == row.tag))).one()
    resource.reference = reference
    resource.price_micros_per_hour = price_micros_per_hour
    resource.began_at = resource.began_at or began_at or work.now
    resource.cost_at = resource.cost_at or resource.began_at
    if resource.status is ResourceStatus.INTENDED:
        resource.status = ResourceStatus.ALIVE
    elif resource.status is ResourceStatus.ENDED:  # ended while it was started: then it is there once more
        resource.status, resource.ended_at = ResourceStatus.ENDING, None
    report = Report(source=ReportSource.POLL, attempt=attempt, at=work.now, stage=RunStage.CREATING_SANDBOX)
    await apply(work, run, report)


async def note_no_capacity(work: UnitOfWork, run_id: UUID, *, attempt: int, message: str, most_tries: int) -> bool:
    """The provider had no free machine. After so many tries the attempt is over, and the next choice gets its turn;
    after the last choice the run is. Gives whether the same attempt is to be tried again."""
    run = await queries.locked_run(work.session, run_id)
    row = await queries.attempt_of(work.session, run_id, attempt)
    if run is None or row is None or run.attempt != attempt or run.status.is_final:
        return False
    row.capacity_tries += 1
    if row.capacity_tries < most_tries:
        return True
    resource = await queries.resource_of_tag(work.session, row.tag)
    if resource is not None and resource.reference is None:
        resource.status, resource.ended_at, resource.age_seconds = ResourceStatus.ENDED, work.now, 0.0
    await apply(work, run, _word(run, work, EndReason.NO_CAPACITY, message))
    return False


async def record(
    work: UnitOfWork, run_id: UUID, report: Report, *, report_sequence: int | None = None
) -> TrainingRun | None:
    """Fold what a signal says into the run; the only way a run changes by itself.

    Gives the run as it is afterwards, or None if there is no such run. Reports may come late, twice, in any order;
    those of a script that numbers its own are taken once each, in the order of their numbers."""
    run = await queries.locked_run(work.session, run_id)
    if run is not None:
        await apply(work, run, report, report_sequence=report_sequence)
    return run


async def stop_run(work: UnitOfWork, run_id: UUID, reason: EndReason, message: str | None = None) -> None:
    """Have a run stopped that went beyond a limit; it ends so once its provider has confirmed."""
    run = await queries.locked_run(work.session, run_id)
    if run is not None:
        begin_stopping(work, run, reason, message)


async def settle_cost(work: UnitOfWork, resource: Resource, cost_micros: int) -> None:
    """What a resource cost in the end. Where its run is over already, the owner's feed tells; runs never move again.

    The resource's row is locked; its run's row is locked first by whoever calls."""
    if resource.run_id is None or resource.attempt is None:
        resource.cost_micros = max(resource.cost_micros, cost_micros)
        return
    run = await queries.locked_run(work.session, resource.run_id)
    attempt = await queries.attempt_of(work.session, resource.run_id, resource.attempt)
    if run is None or attempt is None:
        return
    before = run.cost_micros
    await note_cost(work, run, attempt, cost_micros)
    if run.status.is_final:
        if run.cost_micros != before:
            run.announced_cost_micros = run.cost_micros
        data = {"runId": str(run.id), "costMicros": run.cost_micros, "resourceId": str(resource.id)}
        await append_feed_event(work, run.user_id, "cost.settled", data)
    else:
        await announce(work, run, standing_of(run))


async def give_up(work: UnitOfWork, run_id: UUID, reason: EndReason, message: str | None = None) -> None:
    """Our own word that a run ends: it waited too long, was refused, or cannot be deployed."""
    run = await queries.locked_run(work.session, run_id)
    if run is not None:
        await apply(work, run, _word(run, work, reason, message))


async def finish_deployment(work: UnitOfWork, run_id: UUID, *, slug: str) -> None:
    """The run's address answered as it should: the run is READY."""
    run = await queries.locked_run(work.session, run_id)
    if run is None or run.status is not RunStatus.DEPLOYING:
        return
    run.app_slug = slug
    await append_run_event(work, run, "run.deployment_ready", {"slug": slug})
    await apply(work, run, _word(run, work, EndReason.SUCCEEDED))


@dataclass(frozen=True, slots=True)
class CheckedWish:
    """A wish that could be started, with all that follows from it."""

    user_id: UUID
    wish: RunWish
    places: list[Choice]
    """Where it may be done, each with the credential that it is done with."""
    hyperparameters: dict[str, object]
    deploy: bool
    """Whether we are to put the result online; a model that stays at its provider answers there."""


async def checked_wish(
    work: UnitOfWork, viewer: Viewer, wish: RunWish, offer: Offer, *, test_mode: bool | None = None
) -> CheckedWish:
    """Everything that is checked before a run begins; nothing is written.

    Raises `Invalid`, `NotFound` (dataset, config), `Unavailable` (provider)."""
    user_id = viewer.require(Scope.RUNS_WRITE)
    test_mode = viewer.test_mode if test_mode is None else test_mode
    if wish.training_config_id is not None:
        wish = wish.with_config(await queries.config_of(work.session, user_id, wish.training_config_id))
    wish = wish.checked(longest_time_limit_seconds=offer.longest_time_limit_seconds)
    if wish.scenario is not None and not test_mode:
        raise ScenarioNeedsTestMode
    places = [
        await _usable(work, user_id, choice, offer, test_mode=test_mode, scenario=wish.scenario)
        for choice in wish.places
    ]
    assert wish.recipe is not None
    recipe = recipe_of(wish.recipe)
    if test_mode and recipe.runs_users_code and not offer.plays_commands:
        raise CommandsNotPlayed
    columns: Sequence[dict[str, Any]] | None = None
    rows: int | None = None
    if wish.dataset_id is not None:
        data = await datasets.ready_dataset_of(work.session, user_id, wish.dataset_id)
        columns, rows = data.columns, data.row_count
        if data.format.value not in recipe.formats:
            raise DatasetFormatUnfit(recipe, data.format.value)
    hyperparameters = checked_hyperparameters(wish.recipe, wish.hyperparameters, columns, row_count=rows)
    if wish.dataset_id is None and recipe.dataset is not DatasetUse.OPTIONAL:
        raise DatasetNeeded(wish.recipe)
    deploy = wish.deploy and recipe.is_served_by_us
    if deploy and not offer.serves_remote_models and any(place.provider is not Provider.LOCAL for place in places):
        raise CannotServe
    return CheckedWish(user_id, wish, places, hyperparameters, deploy)


async def _start(
    work: UnitOfWork, viewer: Viewer, wish: RunWish, offer: Offer, *, retry_of: TrainingRun | None
) -> TrainingRun:
    user_id = viewer.require(Scope.RUNS_WRITE)
    # What was played by simulators is never done for real by trying it again.
    test_mode = viewer.test_mode or (retry_of is not None and retry_of.test_mode)
    digest = wish.digest
    if wish.idempotency_key is not None:
        # Two requests with one key take turns, so that the second finds the first one's run.
        turn = f"{user_id}:{wish.idempotency_key}"
        await plain(work.session, "SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))", key=turn)
        known = await queries.run_by_key(work.session, user_id, wish.idempotency_key)
        if known is not None:
            if known.request_digest != digest or known.test_mode != test_mode:
                raise IdempotencyKeyReused
            return known
    checked = await checked_wish(work, viewer, wish, offer, test_mode=test_mode)
    wish = checked.wish
    model = await ai_model.model_for_run(work, user_id, wish.model_name)
    if await queries.count_active(work.session, user_id) >= offer.active_runs_per_user:
        raise TooManyRuns(offer.active_runs_per_user)
    run = TrainingRun(
        created_at=work.now,
        user_id=user_id,
        model_id=model.id,
        dataset_id=wish.dataset_id,
        training_config_id=wish.training_config_id,
        retry_of_id=retry_of.id if retry_of is not None else None,
        provider=checked.places[0].provider,
        choices=[place.as_json() for place in checked.places],
        image=wish.image,
        keep_seconds=wish.keep_seconds,
        rules={code.value: action.value for code, action in wish.rules.items()},
        test_mode=test_mode,
        scenario=wish.scenario,
        recipe=wish.recipe,
        hyperparameters=checked.hyperparameters,
        tags=list(wish.tags),
        notes=dict(wish.metadata),
        deploy=checked.deploy,
        budget_micros=wish.budget_micros,
        time_limit_seconds=wish.time_limit_seconds or offer.time_limit_seconds,
        idempotency_key=wish.idempotency_key,
        request_digest=digest,
        next_check_at=work.now,
    )
    work.session.add(run)
    await work.session.flush()
    await append_run_event(work, run, "run.status_changed", {"from": None, "to": run.status.value, "final": False})
    await open_attempt(work, run)
    await ai_model.follow_run(work, run)
    work.enqueue(CheckRun(run.id))
    return run


async def _usable(
    work: UnitOfWork, user_id: UUID, choice: Choice, offer: Offer, *, test_mode: bool, scenario: str | None
) -> Choice:
    """The choice, with the credential that it is to be done with. Raises where it cannot be done."""
    if choice.provider is Provider.LOCAL:
        if Provider.LOCAL not in offer.providers:
            raise ProviderNotAvailable(choice.provider)
        return choice
    if test_mode:
        if not offer.has_simulators:
            raise SimulatorsNotRunning
        if scenario is not None and scenario not in offer.scenarios.get(choice.provider, ()):
            raise UnknownScenario(choice.provider, scenario)
        return replace(choice, integration_id=None)
    integration_id = choice.integration_id
    if integration_id is not None:
        row = await integrations.usable(work.session, user_id, integration_id)
        if row is None or row.provider is not choice.provider:
            raise IntegrationNotUsable(choice.provider)
    elif choice.provider not in offer.providers:
        newest = await integrations.newest_usable(work.session, user_id, choice.provider)
        if newest is None:
            raise ProviderNotAvailable(choice.provider)
        integration_id = newest.id
    if choice.provider in offer.unreachable:
        raise PublicUrlNeeded(choice.provider, offer.public_url)
    return replace(choice, integration_id=integration_id)


async def _is_full(work: UnitOfWork, provider: Provider, slots: int) -> bool:
    """Whether so many trainings go on there; those who ask take turns until they have written theirs down."""
    await plain(work.session, "SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))", key=f"slots:{provider}")
    statement = (
        select(func.count())
        .select_from(Resource)
        .join(TrainingRun, col(TrainingRun.id) == col(Resource.run_id))
        .where(
            Resource.provider == provider,
            Resource.kind == ResourceKind.TRAINING,
            col(Resource.status) != ResourceStatus.ENDED,
            col(TrainingRun.status).in_(sorted(ACTIVE - {RunStatus.DEPLOYING})),
        )
    )
    return (await work.session.exec(statement)).one() >= slots


async def _has_resources(work: UnitOfWork, run_id: UUID) -> bool:
    statement = select(Resource.id).where(Resource.run_id == run_id, Resource.kind == ResourceKind.TRAINING).limit(1)
    return (await work.session.exec(statement)).first() is not None


def _word(run: TrainingRun, work: UnitOfWork, reason: EndReason, message: str | None = None) -> Report:
    return Report(source=ReportSource.WORKER, attempt=run.attempt, at=work.now, outcome=Outcome(reason, message))
