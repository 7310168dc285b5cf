"""Work for later. A command holds ids only, and none may exist that a sweep cannot derive again from rows."""

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Command:
    """Something to be done by a worker; `name` is stable, since it waits in Redis."""

    name: ClassVar[str]


@dataclass(frozen=True, slots=True)
class CheckRun(Command):
    """Look at a run now: start it, ask its provider, stop it, deploy it, whatever its row says."""

    name: ClassVar[str] = "training.check_run"
    run_id: UUID


@dataclass(frozen=True, slots=True)
class CheckDeployment(Command):
    """Look at a deployment now: start it, wake it or stop it, whatever its row says."""

    name: ClassVar[str] = "deployment.check_deployment"
    deployment_id: UUID


@dataclass(frozen=True, slots=True)
class RemoveDatasetFile(Command):
    """Remove the stored bytes of a deleted dataset."""

    name: ClassVar[str] = "dataset.remove_file"
    dataset_id: UUID


@dataclass(frozen=True, slots=True)
class ApplyCallback(Command):
    """Apply a callback that was kept: fold it into its run, or have the provider read again."""

    name: ClassVar[str] = "callback.apply"
    callback_id: UUID
