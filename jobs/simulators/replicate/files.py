"""Uploaded input files, as the SDK sends file-like inputs before it creates anything; and the weights that are left."""

import base64
import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from jobs.simulators.kit import seeded
from jobs.simulators.replicate.problems import Refusal, not_found
from jobs.simulators.replicate.training import SimulatedTraining

KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class StoredFile:
    id: str
    account: str
    name: str
    content_type: str
    content: bytes
    made_at: datetime

    def shown(self, base_url: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "content_type": self.content_type,
            "size": len(self.content),
            "etag": hashlib.md5(self.content, usedforsecurity=False).hexdigest(),
            "checksums": {
                "sha256": hashlib.sha256(self.content).hexdigest(),
                "md5": hashlib.md5(self.content, usedforsecurity=False).hexdigest(),
            },
            "metadata": {},
            "created_at": f"{self.made_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z",
            "expires_at": f"{(self.made_at + KEPT).astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z",
            "urls": {"get": f"{base_url}/v1/files/{self.id}"},
        }


class FileShelf:
    """The files of all accounts, each seen by its own."""

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}

    async def add(self, account: str, request: Request, now: datetime) -> StoredFile:
        """One multipart upload, its part named `content`."""
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Refusal(415, "Unsupported media type in request: a multipart form is needed.")
        async with request.form(max_files=1) as form:
            part = form.get("content")
            if not isinstance(part, UploadFile):
                raise Refusal(400, "Missing content")
            content = await part.read()
            name, content_type = part.filename or "file", part.content_type or "application/octet-stream"
        name_id = base64.b64encode(f"{account}:{len(self._files)}:{name}".encode()).decode().rstrip("=")
        stored = StoredFile(name_id.replace("+", "-").replace("/", "_"), account, name, content_type, content, now)
        self._files[stored.id] = stored
        return stored

    def of(self, account: str) -> Mapping[str, StoredFile]:
        return {name: file for name, file in self._files.items() if file.account == account}

    def get(self, account: str, file_id: str) -> StoredFile:
        stored = self.of(account).get(file_id)
        if stored is None:
            raise not_found()
        return stored

    def delete(self, account: str, file_id: str) -> None:
        del self._files[self.get(account, file_id).id]


def weights_of(training: SimulatedTraining) -> bytes:
    """The archive at the address that a success names."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        weights = seeded(0, training.id, "weights").randbytes(4_096)
        entry = tarfile.TarInfo("output/flux_train_replicate/lora.safetensors")
        entry.size = len(weights)
        archive.addfile(entry, io.BytesIO(weights))
    return content.getvalue()
