"""Trains on this machine: each attempt is a sandbox with the recipe's program in it."""

import hashlib
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from anyio import to_thread

from domain.training.report import LogChunk, Outcome, Report, StoredArtifact
from domain.training.status import EndReason, ReportSource
from jobs.providers.base import Pace, Position, ProviderLost, ProviderRefused, Started, TrainingOrder
from jobs.providers.local.environments import environment
from jobs.providers.local.programs import program, put_order, put_recipes
from jobs.providers.local.sandbox import ExitRecord, Sandbox, SandboxState
from jobs.providers.local.transcript import Transcript, transcript_of

REPORT_BYTES = 256 * 1024
REPORT_LINES = 1_000
TAIL_BYTES = 128 * 1024
RECEIPT_LIMIT_BYTES = 16 * 1024 * 1024
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class LocalTrainer:
    """The provider `local`. The reference of a training is its tag."""

    pace = Pace(first_seconds=0.25, longest_seconds=0.25)
    bills_from_creation = False

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    async def start(self, order: TrainingOrder) -> Started:
        """Start the training's sandbox once; building the environment for the first time takes seconds.

        Raises `ProviderBusy` when that cannot be done now, `ProviderRefused` for an order that cannot be met.
        """
        dataset = order.dataset
        if dataset is None:
            raise ProviderRefused("The provider LOCAL trains its recipes on a dataset; none was given.")
        sandbox = _sandbox(self.data_dir, order.tag)
        if await Sandbox.find(self.data_dir, order.tag) is None:
            content = {
                "runId": str(order.run_id),
                "attempt": order.attempt,
                "recipe": order.recipe,
                "hyperparameters": dict(order.hyperparameters),
                "dataset": {
                    "url": dataset.url,
                    "token": dataset.token.reveal(),
                    "format": str(dataset.format),
                    "bytes": dataset.bytes,
                    "sha256": dataset.sha256,
                },
            }

            def fill(home: Path) -> None:
                put_recipes(home)
                put_order(home, content)

            await sandbox.create(
                program(
                    "train",
                    await environment(self.data_dir),
                    memory_limit_bytes=order.memory_limit_bytes,
                    disk_limit_bytes=order.disk_limit_bytes,
                    time_limit_seconds=order.time_limit_seconds,
                    mask=[dataset.token.reveal()],
                ),
                fill,
            )
        await sandbox.start()
        return Started(order.tag)

    async def find(self, tag: str) -> Started | None:
        """The tag itself if its sandbox exists."""
        return Started(tag) if await Sandbox.find(self.data_dir, tag) is not None else None

    async def report(self, reference: str, position: Position, now: datetime) -> Report:
        """The log's next stretch and what it says; the end only together with the end of the log.

        Raises `ProviderLost` when there is no such sandbox.
        """
        sandbox = await Sandbox.find(self.data_dir, reference)
        if sandbox is None:
            raise ProviderLost("This machine has no sandbox for this training.")
        state = await sandbox.state()  # before the log is read: what ends afterwards is told the next time
        if state is SandboxState.NEW:
            await sandbox.start()  # whoever made it died before it could be started
        log = await sandbox.read_log(position.offset, REPORT_BYTES, REPORT_LINES)
        said = transcript_of(log.lines)
        outcome: Outcome | None = None
        artifact: StoredArtifact | None = None
        if state is SandboxState.EXITED and log.at_end:
            outcome, artifact = await self._outcome(sandbox)
        vanished = state is SandboxState.VANISHED and log.at_end
        if outcome is not None and outcome.end_reason is EndReason.CANCELED_BY_USER:
            # Stopped, by the run's own wish or with the whole installation; a run that did not wish it tries again.
            outcome, vanished = None, True
        return Report(
            source=ReportSource.POLL,
            attempt=position.attempt,
            at=now,
            status=said.stage.status if said.stage is not None else None,
            stage=said.stage,
            percent=said.percent,
            eta_seconds=said.eta_seconds,
            log=LogChunk(position.offset, log.end, tuple(said.lines)) if log.end > position.offset else None,
            readings=tuple(said.readings),
            artifact=artifact,
            outcome=outcome,
            vanished=vanished,
        )

    async def stop(self, reference: str) -> bool:
        """End the sandbox and all that descends from it; True once none of it is left."""
        sandbox = _sandbox(self.data_dir, reference)
        return await sandbox.stop()

    async def _outcome(self, sandbox: Sandbox) -> tuple[Outcome, StoredArtifact | None]:
        record = await sandbox.exit_record()
        if record is None:
            raise ProviderLost("The sandbox's exit record is gone.")
        tail = await to_thread.run_sync(_tail, sandbox.folder / "log")
        outcome = outcome_of(record, transcript_of(tail))
        if not outcome.succeeded:
            return outcome, None
        artifact = await to_thread.run_sync(_artifact, sandbox.home / "artifact")
        if artifact is None:
            return Outcome(EndReason.CODE_ERROR, "The training ended well but left no whole model."), None
        return outcome, artifact


def outcome_of(record: ExitRecord, said: Transcript) -> Outcome:
    """Why it ended: a limit or a wish first, then the program's last word, then its exit code."""
    if record.end_reason is not None:
        return Outcome(EndReason(record.end_reason), record.message)
    failed = record.exit_code != 0
    if said.end_reason is not None and (said.end_reason is not EndReason.SUCCEEDED or not failed):
        return Outcome(said.end_reason, said.end_message)
    if record.signal is not None:
        return Outcome(
            EndReason.CODE_ERROR, said.last_error_line or f"The program was killed (signal {record.signal})."
        )
    if failed:
        words = said.last_error_line or f"The program ended with exit code {record.exit_code}."
        return Outcome(EndReason.CODE_ERROR, words)
    return Outcome(EndReason.CODE_ERROR, "The program ended without saying how.")


def _sandbox(data_dir: Path, tag: str) -> Sandbox:
    try:
        return Sandbox(data_dir, tag)
    except ValueError as error:
        raise ProviderRefused(str(error)) from error


def _tail(path: Path) -> list[bytes]:
    """The last whole lines of a log: the word about its end is among them."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    return lines if size <= TAIL_BYTES else lines[1:]


def _artifact(folder: Path) -> StoredArtifact | None:
    """The model that the receipt names, if it is there and is what the receipt says."""
    try:
        if (folder / "artifact.json").stat().st_size > RECEIPT_LIMIT_BYTES:
            return None
        receipt: dict[str, Any] = json.loads((folder / "artifact.json").read_text(encoding="utf-8"))
        path = folder / Path(receipt["name"]).name
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != receipt["sha256"]:
            return None
        details = _storable(dict(receipt["details"]))
        return StoredArtifact(path.name, str(path), path.stat().st_size, sha256, details)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _storable(value: Any) -> Any:
    """A sandbox's JSON without the signs that PostgreSQL cannot hold: with one of them no report could be kept, and
    the run would be looked at in vain for ever."""
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return _UNSTORABLE.sub("\ufffd", value) if isinstance(value, str) else value
