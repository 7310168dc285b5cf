"""What a machine elsewhere runs for an attempt, made from rows as it asks for it."""

import gzip
import io
import tarfile

from sqlmodel.ext.asyncio.session import AsyncSession

from domain.ai_model.model import AIModel
from domain.callback.errors import NoProgram, PodTokenRefused
from domain.callback.queries import FoundToken
from domain.dataset.model import Dataset
from domain.secret import Secret
from domain.training import queries
from domain.training.model import TrainingRun
from jobs.programs import program_of
from jobs.providers.base import DatasetOrder, ProviderRefused, TrainingOrder

PREPARE_FILE = "prepare.sh"
COMMAND_FILE = "command.sh"


async def order_of(session: AsyncSession, found: FoundToken) -> TrainingOrder:
    """The order of the token's attempt; the session must be of the run's owner.

    It names no address to fetch the dataset from: the machine was given a grant of its own when it was started, and
    fetches the data before the program runs. Raises `PodTokenRefused`, `NoProgram`."""
    run = await session.get(TrainingRun, found.run_id)
    attempt = await queries.attempt_of(session, found.run_id, found.attempt)
    if run is None or attempt is None:
        raise PodTokenRefused
    data: DatasetOrder | None = None
    if run.dataset_id is not None:
        row = await session.get(Dataset, run.dataset_id)
        if row is None or row.sha256 is None or row.deleted_at is not None:
            raise NoProgram
        data = DatasetOrder("", Secret(""), row.format.value, row.bytes, row.sha256, row.name)
    model = await session.get(AIModel, run.model_id)
    return TrainingOrder(
        tag=attempt.tag,
        run_id=run.id,
        attempt=attempt.number,
        recipe=run.recipe or "",
        hyperparameters=run.hyperparameters,
        dataset=data,
        time_limit_seconds=run.time_limit_seconds,
        memory_limit_bytes=0,
        disk_limit_bytes=0,
        model_name=model.name if model is not None else "",
        gpu_type=attempt.gpu_type,
        image=run.image,
    )


def archive_of(order: TrainingOrder) -> bytes:
    """The order's program as a compressed tar: its files, what prepares the machine, and what trains.

    The same order is the same bytes. Raises `NoProgram`."""
    try:
        program = program_of(order)
    except (ProviderRefused, KeyError, TypeError, ValueError):
        raise NoProgram from None
    scripts = {PREPARE_FILE: program.prepare.encode(), COMMAND_FILE: program.command.encode()}
    if set(scripts) & set(program.files):
        raise NoProgram
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in sorted({**program.files, **scripts}.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o600
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)
