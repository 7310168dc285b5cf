"""Trains in sandboxes at E2B: each attempt is one sandbox, in which the order's program runs in the background.

The sandbox knows everything that must survive us: its metadata says whose it is and how long it may work, its folder
`training` holds the program, the log and the end. Whoever dies here leaves nothing that `start` called again, or
`report` of another worker, would not go on with.
"""

import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import httpx2

from db.artifacts import ArtifactRefused, KeptArtifact
from domain.dataset.errors import DiskFull
from domain.secret import masked
from domain.training.report import LogChunk, Outcome, Report, StoredArtifact
from domain.training.status import EndReason, ReportSource
from jobs.programs import COMMAND_RECIPE, program_of
from jobs.providers.base import (
    Account,
    FinishedModel,
    Pace,
    Position,
    ProviderBusy,
    ProviderError,
    ProviderLost,
    ProviderRefused,
    Quote,
    Started,
    TrainingOrder,
)
from jobs.providers.e2b.control import SandboxInfo, price_micros_per_hour
from jobs.providers.e2b.errors import FileMissing, SandboxGone
from jobs.providers.e2b.glimpse import Glimpse, ProgramEnd, ProgramState
from jobs.providers.e2b.sandboxes import CALL_SECONDS, LIFE_SECONDS, E2BSandboxes
from jobs.providers.local.environments import RECIPES
from jobs.trainer_logs import LogReader, Said
from jobs.trainer_logs.text import storable

logger = logging.getLogger("runwire.jobs")

FOLDER = "training"
LIMIT = "limit"
"""The metadata's name for the seconds that a training may take."""
MARGIN_SECONDS = 600
"""What a sandbox lives longer than its training may take: to be made, and to hand over the model."""
EXTEND_SECONDS = 300.0
"""How often a life is extended while there is work."""
SPARE_SECONDS = 60.0
"""Less is not worth a call."""
MOST_WATCHED = 1_000
REPORT_BYTES = 256 * 1024
TAIL_BYTES = 64 * 1024
HOLD_SECONDS = 2.0
"""How long a report waits for the next output. A quiet training costs 24 requests a minute; a wish to stop it waits no
longer than this."""
RECEIPT_LIMIT_BYTES = 16 * 1024 * 1024
ARTIFACT_LIMIT_BYTES = 1024**3
LARGEST_WHOLE = 2**53 - 1
WORDS_CHARACTERS = 2_000
PAGE = "https://e2b.dev/dashboard/inspect/sandbox/"
_EXIT_LINE = b'::runwire {"exit": '
_SCRIPTS = Path(__file__).parent


class KeepArtifact(Protocol):
    """Stores a file of an attempt on this machine, as `db.artifacts.ArtifactStore.keep` does."""

    async def __call__(
        self, tag: str, name: str, chunks: AsyncIterator[bytes], *, limit_bytes: int, sha256: str | None = None
    ) -> KeptArtifact: ...


@dataclass(slots=True)
class _Watch:
    """What this process remembers of a sandbox, and could ask for again."""

    info: SandboxInfo
    extended_at: datetime
    size: int = 0
    """Of its log, when it was last looked at."""


class E2BTrainer:
    """The provider `E2B` with one account. The reference of a training is its sandbox's id."""

    pace = Pace(0.5, 0.5)  # the waiting is done in `report`
    bills_from_creation = True

    def __init__(
        self,
        account: Account,
        http: httpx2.AsyncClient,
        *,
        keep_artifact: KeepArtifact,
        artifact_limit_bytes: int = ARTIFACT_LIMIT_BYTES,
        life_seconds: int = LIFE_SECONDS,
        hold_seconds: float = HOLD_SECONDS,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self.sandboxes = E2BSandboxes(account, http, call_seconds=call_seconds)
        self._keep_artifact = keep_artifact
        self._artifact_limit_bytes = artifact_limit_bytes
        self._life_seconds = life_seconds
        self._hold_seconds = hold_seconds
        self._watched: OrderedDict[str, _Watch] = OrderedDict()

    async def close(self) -> None:
        await self.sandboxes.close()

    async def start(self, order: TrainingOrder) -> Started:
        """Make the order's sandbox and begin its program in it, or go on where that was left off."""
        program = program_of(order)
        beside = {
            "prepare": program.prepare.encode(),
            "main": program.command.encode(),
            **(_for_commands(order) if order.recipe == COMMAND_RECIPE else {}),
        }
        info = await self.sandboxes.create(
            order.tag,
            {"run": str(order.run_id), LIMIT: str(order.time_limit_seconds)},
            life_seconds=min(self._life_seconds, order.time_limit_seconds + MARGIN_SECONDS),
        )
        try:
            if (await self._look(info.id)).state is ProgramState.ABSENT:
                await self.sandboxes.begin(
                    info.id,
                    FOLDER,
                    (_SCRIPTS / "train.sh").read_text(),
                    program.files,
                    limit_seconds=order.time_limit_seconds,
                    beside=beside,
                )
        except SandboxGone:
            raise ProviderBusy("The sandbox at E2B was gone before its training could begin.") from None
        return _started(info)

    async def find(self, tag: str) -> Started | None:
        """The sandbox of this tag, and whether its program has begun."""
        info = await self.sandboxes.find(tag)
        if info is None:
            return None
        try:
            glimpse = await self._look(info.id)
        except SandboxGone:
            return None
        except ProviderBusy:
            # It is there at least, and can be ended; `start` sees what has begun there, and begins nothing twice.
            return replace(_started(info), has_begun=False)
        return replace(_started(info), has_begun=glimpse.state is not ProgramState.ABSENT)

    async def report(self, reference: str, position: Position, now: datetime) -> Report:
        """The log's next stretch, waited for a little; the end only together with the end of the log."""
        began = time.monotonic()
        try:
            watch = await self._watch(reference, now)
            glimpse = await self._look(
                reference, position.offset, REPORT_BYTES, wait_seconds=self._hold_seconds, seen=watch.size
            )
        except SandboxGone:
            raise await self._gone(reference) from None
        info, watch.size = watch.info, glimpse.size
        now += timedelta(seconds=time.monotonic() - began)
        is_at_end = position.offset + len(glimpse.data) >= glimpse.size
        # Nobody began a program here, or it was killed with its script: either way there is nothing to wait for.
        is_lost = glimpse.state is ProgramState.ABSENT or (glimpse.state is ProgramState.GONE and is_at_end)
        reader = LogReader(position.log_state)
        data = _settled(glimpse)
        said = reader.feed(data.decode(errors="replace"), now)
        lines, percent, eta_seconds, readings = said.lines, said.percent, said.eta_seconds, said.readings
        outcome: Outcome | None = None
        artifact: StoredArtifact | None = None
        if glimpse.is_whole:
            rest = reader.finish(now)
            lines, readings = lines + rest.lines, readings + rest.readings
            percent = rest.percent if rest.percent is not None else percent
            assert glimpse.end is not None
            try:
                outcome, artifact = await self._outcome(reference, position.tag, glimpse, info)
            except SandboxGone:
                raise await self._gone(reference) from None
        end = position.offset + len(data)
        return Report(
            source=ReportSource.POLL,
            attempt=position.attempt,
            at=now,
            status=said.stage.status if said.stage is not None else None,
            stage=said.stage,
            percent=percent,
            eta_seconds=eta_seconds,
            log=LogChunk(position.offset, end, lines, reader.state) if data else None,
            readings=readings,
            warnings=said.warnings,
            began_at=glimpse.began_at,
            cost_micros=max(position.known_cost_micros, info.cost_micros(now)),
            artifact=artifact,
            outcome=outcome,
            vanished=is_lost,
        )

    async def stop(self, reference: str) -> bool:
        """Kill the sandbox; True once E2B knows no such sandbox."""
        self._watched.pop(reference, None)
        return await self.sandboxes.kill(reference)

    async def whose(self) -> str:
        """E2B's API tells no name of a key's team: only that the key opens one, and what lives there."""
        living = await self.sandboxes.control.listed(most=1)
        return "an E2B team" + (" with living sandboxes" if living else "")

    async def quotes(self, gpu_types: Sequence[str], hyperparameters: Mapping[str, Any]) -> Sequence[Quote]:
        """The list price of the default sandbox. There is no choice, and there are no GPUs."""
        return [
            Quote(
                gpu_type=None,
                price_micros_per_hour=price_micros_per_hour(),
                flat_micros=None,
                is_available=None,
                expected_seconds=None,
            )
        ]

    async def alive(self) -> Mapping[str, str]:
        """Sandboxes that bear a run's metadata: reference → tag."""
        return await self.sandboxes.alive()

    async def finished(self, version: str) -> FinishedModel:
        raise ProviderRefused("E2B keeps no models: what was trained there is fetched when the training ends.")

    async def _look(
        self, sandbox_id: str, offset: int = 0, limit_bytes: int = 0, *, wait_seconds: float = 0.0, seen: int = 0
    ) -> Glimpse:
        return await self.sandboxes.look(
            sandbox_id, FOLDER, offset, limit_bytes=limit_bytes, wait_seconds=wait_seconds, seen=seen
        )

    async def _watch(self, reference: str, now: datetime) -> _Watch:
        """What is known of the sandbox; its life is extended now and then, never beyond what the training may take."""
        watch = self._watched.get(reference)
        if watch is not None and (now - watch.extended_at).total_seconds() < EXTEND_SECONDS:
            return watch
        info = await self.sandboxes.control.info(reference)
        if info.is_paused:  # not by us: we would wait for it for ever
            await self.sandboxes.resume(reference, self._life_seconds)
            info = await self.sandboxes.control.info(reference)
        left = (info.started_at + timedelta(seconds=_limit_of(info) + MARGIN_SECONDS) - now).total_seconds()
        wanted = min(float(self._life_seconds), left)
        if wanted > (info.end_at - now).total_seconds() + SPARE_SECONDS:
            try:
                await self.sandboxes.extend(reference, round(wanted))
            except ProviderRefused as refused:
                # The account's plan may allow no longer life: the training has as long as that.
                logger.warning("E2B extends no life.", extra={"sandbox": reference, "words": str(refused)})
        found = self._watched[reference] = _Watch(info, now, watch.size if watch is not None else 0)
        while len(self._watched) > MOST_WATCHED:
            self._watched.popitem(last=False)
        return found

    async def _gone(self, reference: str) -> ProviderError:
        """Why the sandbox does not answer: it is gone, or only stands still and is attached to again."""
        self._watched.pop(reference, None)
        if await self.sandboxes.is_alive(reference):
            return ProviderBusy(f"The sandbox {reference} at E2B does not run just now.")
        return ProviderLost(
            f"The sandbox {reference} vanished from E2B before its training had ended: killed there, lost, or over"
            " the longest life that the account's plan allows."
        )

    async def _outcome(
        self, reference: str, tag: str, glimpse: Glimpse, info: SandboxInfo
    ) -> tuple[Outcome, StoredArtifact | None]:
        """Why it ended, and the model if it ended well."""
        assert glimpse.end is not None
        tail = await self._look(reference, max(0, glimpse.size - TAIL_BYTES), TAIL_BYTES)
        outcome = _bounded(outcome_of(glimpse.end, _heard(tail.data, info.started_at), info.memory_mb))
        if not outcome.succeeded:
            return outcome, None
        try:
            content = await self.sandboxes.read(reference, f"{FOLDER}/artifact/artifact.json", RECEIPT_LIMIT_BYTES)
            receipt = json.loads(content)
            name, sha256 = PurePosixPath(str(receipt["name"])).name, str(receipt["sha256"]).lower()
            kept = await self._keep_artifact(
                tag or info.metadata.get("tag", reference),
                name,
                self.sandboxes.stream(reference, f"{FOLDER}/artifact/{name}"),
                limit_bytes=self._artifact_limit_bytes,
                sha256=sha256,
            )
            details = _storable(dict(receipt.get("details") or {}))
            return outcome, StoredArtifact(name, str(kept.path), kept.bytes, kept.sha256, details)
        except FileMissing:
            if await self._is_a_command(reference):
                return outcome, None
            return Outcome(EndReason.CODE_ERROR, "The training ended well but left no whole model."), None
        except DiskFull as error:
            raise ProviderBusy("The model cannot be stored here: the disk is full.", 30.0) from error
        except ArtifactRefused as refused:
            return Outcome(EndReason.CODE_ERROR, f"The training's model cannot be taken: {refused}"), None
        except (ProviderRefused, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return Outcome(EndReason.CODE_ERROR, "The training left a receipt that cannot be read."), None

    async def _is_a_command(self, reference: str) -> bool:
        """Whether it is a program that may end well without a model."""
        told = await self.sandboxes.run(
            reference, f"test -e {FOLDER}/.runwire/is_silent && ! test -e {FOLDER}/artifact/artifact.json"
        )
        return told.exit_code == 0


def outcome_of(end: ProgramEnd, said: Said, memory_mb: int) -> Outcome:
    """Why it ended: a limit first, then the program's last word, then its exit code."""
    if end.was_over_time:
        return Outcome(EndReason.TIMED_OUT, f"The training was stopped after {end.seconds} seconds, its time limit.")
    failed = end.code != 0
    if failed and end.was_out_of_memory:
        return Outcome(EndReason.MEMORY_LIMIT, f"The training needs more than the sandbox's {memory_mb} MiB of memory.")
    if said.outcome is not None and (not said.outcome.succeeded or not failed):
        return said.outcome
    if not failed:
        return Outcome(EndReason.SUCCEEDED)
    if end.code > 128:
        words = said.last_error_line or f"The program was killed (signal {end.code - 128})."
    else:
        words = said.last_error_line or f"The program ended with exit code {end.code}."
    return Outcome(EndReason.CODE_ERROR, words)


def _started(info: SandboxInfo) -> Started:
    return Started(info.id, PAGE + info.id, info.price_micros_per_hour, began_at=info.started_at)


def _for_commands(order: TrainingOrder) -> dict[str, bytes]:
    """What a program needs that is no recipe of ours: somebody who says that it trains, and who fetches its data."""
    found = {"is_silent": b""}
    if order.dataset is not None:
        found["fetch_data.py"] = (_SCRIPTS / "fetch_data.py").read_bytes()
        for name in ("__init__.py", "fetch.py", "words.py"):
            found[f"recipes/{name}"] = (RECIPES / name).read_bytes()
    return found


def _limit_of(info: SandboxInfo) -> int:
    value = info.metadata.get(LIMIT, "")
    return int(value) if value.isdecimal() and len(value) < 10 else 0


def _settled(glimpse: Glimpse) -> bytes:
    """The bytes that are read now: whole characters, and the script's last line only together with the end, so that the
    stretch that ends a log is never empty."""
    data = glimpse.data
    if glimpse.is_whole:
        return data
    last = data.rfind(b"\n", 0, -1) + 1
    if glimpse.offset + len(data) >= glimpse.size and data[last:].startswith(_EXIT_LINE):
        data = data[:last]
    return data[: len(data) - _open_bytes(data)]


def _open_bytes(data: bytes) -> int:
    """How many of the last bytes are the beginning of a character."""
    for count in range(1, min(4, len(data) + 1)):
        byte = data[-count]
        if byte >= 0xC0:
            return count if count < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            return 0
    return 0


def _heard(tail: bytes, at: datetime) -> Said:
    """What the end of a log says: the program's last word, and its last complaint."""
    reader = LogReader()
    said = reader.feed(tail.decode(errors="replace"), at)
    rest = reader.finish(at)
    return replace(
        said,
        outcome=rest.outcome or said.outcome,
        last_error_line=rest.last_error_line or said.last_error_line,
    )


def _bounded(outcome: Outcome) -> Outcome:
    if outcome.message is None:
        return outcome
    return Outcome(outcome.end_reason, masked(storable(outcome.message))[:WORDS_CHARACTERS])


def _storable(value: Any) -> Any:
    """A sandbox's JSON without the signs that PostgreSQL cannot hold."""
    if isinstance(value, dict):
        return {storable(str(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST_WHOLE:
        return str(value)
    return storable(value) if isinstance(value, str) else value
