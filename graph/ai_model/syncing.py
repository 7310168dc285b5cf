"""Reading a model's provider again, with the credential that it was trained with; nothing else is believed."""

from uuid import UUID

import anyio

from domain.ai_model import queries, service
from domain.ai_model.errors import BadVersion, ProviderNotReadable, VersionNotSupported
from domain.ai_model.model import AIModel
from domain.errors import NotFound
from domain.training.service import check_mode
from domain.training.status import Provider
from domain.viewer import Scope
from graph.context import Context
from jobs.providers.base import (
    CredentialRefused,
    FinishedModel,
    ProviderError,
    ProviderLost,
    ProviderRefused,
    RemoteTrainer,
)

READ_SECONDS = 9.0
LONGEST_VERSION = 300


async def synced_model(context: Context, model_id: UUID, version: str | None) -> AIModel:
    """The model after its provider was read. Raises `NotFound`, `Invalid`, `TooManyAttempts`, `Unavailable`."""
    viewer = context.viewer
    user_id = viewer.require(Scope.MODELS_WRITE)
    if version is not None and not (1 <= len(version) <= LONGEST_VERSION and version.isprintable()):
        raise BadVersion(LONGEST_VERSION)
    await context.services.attempts.check_reads(user_id)
    async with context.begin() as work:
        model = await service.sync_model(work, viewer, model_id=model_id)
        last = await queries.latest_remote_attempt(work.session, model.id)
        if last is None and version is not None:
            raise VersionNotSupported(Provider.LOCAL)
        if last is not None:
            check_mode(viewer, last.run)
    if last is None:
        return model
    wanted = version or last.attempt.reference
    if wanted is None or (version is None and (not last.run.status.is_final or last.run.id == model.trained_run_id)):
        return model  # a worker looks at it, or there is nothing that we do not know
    try:
        found = await _read(context, last, wanted)
    except VersionNotSupported:
        if version is None:
            return model  # its last training left nothing at the provider
        raise
    if found is None:
        if version is None:
            return model
        raise NotFound("AIModel", field=("providerVersion",))
    provider = last.attempt.provider
    async with context.begin() as work:
        if last.attempt.integration_id is None:
            # The operator's account holds the models of all its users.
            references = [name for name in (found.reference, found.version) if name is not None]
            test_mode = last.run.test_mode
            if not await queries.is_reference_of(work.session, user_id, provider, references, test_mode=test_mode):
                raise NotFound("AIModel", field=("providerVersion",))
        return await service.attach_version(
            work, viewer, model_id=model_id, provider=provider, version=found.version, url=found.url
        )


async def _read(context: Context, last: queries.RemoteAttempt, version: str) -> FinishedModel | None:
    """The finished model, as the provider has it; None where it has none. No transaction is open."""
    from jobs.accounts import Wanted

    accounts = context.services.accounts
    attempt, run = last.attempt, last.run
    if accounts is None:
        raise ProviderNotReadable(attempt.provider)
    wanted = Wanted(attempt.provider, run.user_id, attempt.integration_id, run.test_mode, run.scenario)
    try:
        with anyio.fail_after(READ_SECONDS):
            trainer = await accounts.trainer_of(wanted)
            if not isinstance(trainer, RemoteTrainer):
                raise VersionNotSupported(attempt.provider)
            return await trainer.finished(version)
    except ProviderLost:
        return None
    except CredentialRefused:  # nothing is known of the version then
        raise ProviderNotReadable(attempt.provider) from None
    except ProviderRefused:
        raise VersionNotSupported(attempt.provider) from None
    except (ProviderError, TimeoutError):
        raise ProviderNotReadable(attempt.provider) from None
