"""Orders, images, and a trainer with a simulator behind it, or with answers that the test gives."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import httpx2

from domain.secret import Secret
from domain.training.report import Report
from domain.training.status import Provider
from jobs.providers.astria.trainer import AstriaTrainer
from jobs.providers.base import Account, DatasetOrder, Position, TrainingOrder
from jobs.simulators.astria import AstriaSimulator

RUN = UUID("01890000-0000-7000-8000-000000000001")
TAG = f"run-{RUN.hex}-1"
URLS = [f"https://files.example/{number}.jpg" for number in range(4)]
NOW = datetime(2026, 11, 20, 10, 10, tzinfo=UTC)
CALLBACK = "https://app.example/webhooks/astria/rwc-unguessable-words"
DEFAULTS: Mapping[str, Any] = {
    "className": "woman",
    "baseTuneId": 1504944,
    "modelType": "lora",
    "preset": None,
    "branch": "flux1",
    "imageUrls": [],
    "token": None,
    "faceCrop": None,
    "steps": None,
    "extra": None,
}
"""As the domain fills them in."""
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 60
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 60
WEBP = b"RIFF\x24\0\0\0WEBPVP8 " + b"\0" * 60


def order(
    tag: str = TAG,
    dataset: DatasetOrder | None = None,
    callback: str | None = CALLBACK,
    **hyperparameters: object,
) -> TrainingOrder:
    given = {"imageUrls": URLS} if dataset is None else {}
    return TrainingOrder(
        tag=tag,
        run_id=RUN,
        attempt=1,
        recipe="image-tune",
        hyperparameters={**DEFAULTS, **given, **hyperparameters},
        dataset=dataset,
        time_limit_seconds=3_600,
        memory_limit_bytes=2**30,
        disk_limit_bytes=2**30,
        callback_url=Secret(callback) if callback is not None else None,
    )


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def dataset(content: bytes, kind: str = "ZIP") -> DatasetOrder:
    return DatasetOrder(
        url="http://127.0.0.1:1/datasets/download",
        token=Secret("rwg_not_to_be_used"),
        format=kind,
        bytes=len(content),
        sha256=sha256(content).hexdigest(),
        open=lambda: io.BytesIO(content),
    )


def images(count: int = 4) -> dict[str, bytes]:
    return {f"people/{number}.jpg": JPEG + bytes([number]) for number in range(count)}


def position(**hyperparameters: object) -> Position:
    return Position(offset=0, attempt=1, tag=TAG, hyperparameters={**DEFAULTS, **hyperparameters})


@dataclass
class Bench:
    """A simulator, and trainers for its accounts."""

    simulator: AstriaSimulator
    http: httpx2.AsyncClient
    base_url: str

    def trainer(self, scenario: str | None = None, *, account: str = "acme", **options: Any) -> AstriaTrainer:
        key = f"sd_sim_{account}" + (f".{scenario}" if scenario else "")
        return AstriaTrainer(Account(Provider.ASTRIA, Secret(key), self.base_url, is_test=True), self.http, **options)

    async def report(self, trainer: AstriaTrainer, reference: str, **hyperparameters: object) -> Report:
        return await trainer.report(reference, position(**hyperparameters), self.simulator.clock.now())


def told(
    answers: Callable[[httpx2.Request], httpx2.Response] | Sequence[httpx2.Response], **options: Any
) -> AstriaTrainer:
    """A trainer whose vendor answers as the test says."""
    if not callable(answers):
        waiting = list(answers)

        def answer(request: httpx2.Request) -> httpx2.Response:
            return waiting.pop(0)

        answers = answer
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answers), trust_env=False)
    return AstriaTrainer(Account(Provider.ASTRIA, Secret("sd_key"), "https://api.astria.ai"), http, **options)
