"""The remote providers, each made of an account. Their modules are imported when the first of them is wanted."""

import httpx2

from db.artifacts import ArtifactStore
from db.settings import Settings
from domain.training.status import Provider
from jobs.providers.base import Account, Pace, ProviderRefused, RemoteTrainer

TEST_PACE = Pace(first_seconds=1.0, longest_seconds=5.0)
"""Simulators train in seconds, and nobody minds being asked."""


def trainer_for_account(account: Account, http: httpx2.AsyncClient, settings: Settings) -> RemoteTrainer:
    """The adapter of the account's provider. Raises `ProviderRefused` for LOCAL, which has no accounts."""
    match account.provider:
        case Provider.REPLICATE:
            from jobs.providers.replicate.trainer import ReplicateTrainer

            return ReplicateTrainer(account, http)
        case Provider.RUNPOD:
            from jobs.providers.runpod.trainer import RunPodTrainer

            if account.is_test:  # a simulated pod that was just created is hidden for five seconds at most
                return RunPodTrainer(account, http, image=settings.runpod_image, list_seconds=1.0, grace_seconds=10.0)
            return RunPodTrainer(account, http, image=settings.runpod_image)
        case Provider.ASTRIA:
            from jobs.providers.astria.trainer import AstriaTrainer

            return AstriaTrainer(account, http, pace=TEST_PACE if account.is_test else None)
        case Provider.E2B:
            from jobs.providers.e2b.trainer import E2BTrainer

            store = ArtifactStore.of(settings)
            return E2BTrainer(account, http, keep_artifact=store.keep)
        case Provider.LOCAL:
            raise ProviderRefused("The provider LOCAL needs no account.")
