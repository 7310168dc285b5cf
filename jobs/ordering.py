"""What a provider is asked with: the account of an attempt, its order, and how far it was followed."""

from functools import partial

from db.storage import DatasetStore
from domain.ai_model.model import AIModel
from domain.dataset import service as dataset
from domain.dataset.model import Dataset
from domain.integration import service as integration
from domain.integration.model import Integration
from domain.secret import Secret
from domain.training.model import PodTokenKind, RunAttempt, TrainingRun
from domain.training.status import Provider
from domain.training.tokens import issue_pod_token
from jobs.context import JobContext
from jobs.providers.base import (
    CredentialRefused,
    DatasetOrder,
    HomeOrder,
    Position,
    ProviderError,
    ProviderRefused,
    Trainer,
    TrainingOrder,
)
from jobs.sharing import check_shared


async def trainer_of(context: JobContext, run: TrainingRun, attempt: RunAttempt) -> Trainer:
    """Who does this attempt's work, with the account that it is done with. Raises `ProviderRefused`."""
    return await context.trainer_for(
        attempt.provider,
        user_id=run.user_id,
        integration_id=attempt.integration_id,
        test_mode=run.test_mode,
        scenario=run.scenario,
    )


async def note_refusal(context: JobContext, run: TrainingRun, attempt: RunAttempt, error: ProviderError) -> None:
    """Where it is a user's own key that the provider refused, its owner can see that at the integration."""
    if not isinstance(error, CredentialRefused) or attempt.integration_id is None:
        return
    async with context.begin() as work:
        row = await work.session.get(Integration, attempt.integration_id)
        if row is not None and row.secret is not None:
            await integration.note_tested(
                work, run.user_id, integration_id=row.id, tested=row.secret, refusal=str(error)
            )


def position_of(run: TrainingRun, attempt: RunAttempt) -> Position:
    """How far the attempt was followed."""
    return Position(
        offset=attempt.log_offset,
        attempt=attempt.number,
        tag=attempt.tag,
        hyperparameters=run.hyperparameters,
        log_state=attempt.log_state,
        begun_at=attempt.started_at,
        heard_at=attempt.heard_at,
        price_micros_per_hour=attempt.price_micros_per_hour,
        known_cost_micros=attempt.cost_micros,
    )


async def order_of(context: JobContext, run: TrainingRun, attempt: RunAttempt) -> TrainingOrder:
    """The attempt's order, with a grant for its data and tokens of its own where the provider is elsewhere. Raises
    `ProviderRefused` where the dataset is gone, or another user's model is named."""
    settings = context.settings
    data: DatasetOrder | None = None
    home: HomeOrder | None = None
    callback: Secret | None = None
    async with context.begin() as work:
        await check_shared(work.session, run, attempt)
        model = await work.session.get(AIModel, run.model_id)
        if run.dataset_id is not None:
            row = await work.session.get(Dataset, run.dataset_id)
            _, grant = await dataset.grant_download(
                work, run=run, attempt=attempt.number, seconds=settings.grant_seconds
            )
            if row is None or row.sha256 is None:
                raise ProviderRefused("The dataset is gone.")
            data = _dataset_order(context, row, grant, attempt)
        if attempt.provider is Provider.RUNPOD:
            token = await issue_pod_token(work, run, attempt.number, PodTokenKind.POD)
            home = HomeOrder(settings.own_url, token)
        if attempt.provider is Provider.ASTRIA:
            token = await issue_pod_token(work, run, attempt.number, PodTokenKind.CALLBACK)
            callback = Secret(f"{settings.own_url}/webhooks/astria/{token.reveal()}")
    if attempt.provider is Provider.REPLICATE:
        callback = Secret(f"{settings.own_url}/webhooks/replicate?run={attempt.tag}")
    return TrainingOrder(
        tag=attempt.tag,
        run_id=run.id,
        attempt=attempt.number,
        recipe=run.recipe or "",
        hyperparameters=run.hyperparameters,
        dataset=data,
        time_limit_seconds=run.time_limit_seconds,
        memory_limit_bytes=settings.local_memory_bytes,
        disk_limit_bytes=settings.local_disk_bytes,
        model_name=model.name if model is not None else "",
        gpu_type=attempt.gpu_type,
        image=run.image,
        home=home,
        callback_url=callback,
        keep_seconds=run.keep_seconds,
    )


def _dataset_order(context: JobContext, row: Dataset, grant: Secret, attempt: RunAttempt) -> DatasetOrder:
    assert row.sha256 is not None
    store = DatasetStore.of(context.settings)
    # The tag in the address is how a training is found again whose provider shows nothing else of ours.
    mark = f"?for={attempt.tag}" if attempt.provider is Provider.REPLICATE else ""
    return DatasetOrder(
        url=f"{context.settings.own_url}/datasets/download{mark}",
        token=grant,
        format=row.format.value,
        bytes=row.bytes,
        sha256=row.sha256,
        name=row.name,
        open=partial(store.open, row.id),
    )
