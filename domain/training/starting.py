"""What a run begins with: a wish, checked whole, and the row that is written for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from domain.ai_model import service as ai_model
from domain.commands import CheckRun
from domain.dataset import queries as datasets
from domain.integration import choosing as integrations
from domain.journal.service import append_run_event
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
    ScenarioNeedsTestMode,
    SimulatorsNotRunning,
    TooManyRuns,
    UnknownScenario,
)
from domain.training.model import TrainingRun
from domain.training.recipe_errors import DatasetFormatUnfit
from domain.training.recipes import DatasetUse, checked_hyperparameters, recipe_of
from domain.training.recording import open_attempt
from domain.training.status import Provider
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


async def start(
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
