"""What a script has uploaded before it said that it succeeded, compared with what its program says of it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from db.artifacts import ArtifactRefused, ArtifactStore
from db.storage import FileMissing
from domain.training.report import StoredArtifact
from jobs.trainer_logs.text import storable

RECEIPT = "artifact.json"
RECEIPT_LIMIT_BYTES = 16 * 1024 * 1024
BLOCK_BYTES = 1024 * 1024
DEEPEST = 100
LARGEST_WHOLE = 2**53 - 1


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """The files that an attempt left in the store."""

    model: StoredArtifact | None
    """What the receipt of a recipe names, if it is there and is what the receipt says."""
    others: tuple[StoredArtifact, ...]
    """Every file, where there is no receipt."""


def left_behind(store: ArtifactStore, tag: str) -> LeftBehind:
    """What the attempt left. Reads all of it, so it takes seconds for gigabytes. Blocks."""
    if (receipt := _receipt(store, tag)) is not None:
        return LeftBehind(_model(store, tag, receipt), ())
    files = (_stored(store, tag, name, {}) for name in sorted(store.sizes(tag)) if name != RECEIPT)
    return LeftBehind(None, tuple(file for file in files if file is not None))


def _receipt(store: ArtifactStore, tag: str) -> dict[str, Any] | None:
    try:
        with store.open(tag, RECEIPT) as file:
            content = file.read(RECEIPT_LIMIT_BYTES + 1)
        receipt = json.loads(content) if len(content) <= RECEIPT_LIMIT_BYTES else None
    except (FileMissing, OSError, ValueError, RecursionError):
        return None
    return receipt if isinstance(receipt, dict) else None


def _model(store: ArtifactStore, tag: str, receipt: dict[str, Any]) -> StoredArtifact | None:
    name, sha256, details = receipt.get("name"), receipt.get("sha256"), receipt.get("details")
    if not isinstance(name, str) or not isinstance(sha256, str) or not isinstance(details, dict):
        return None
    try:
        found = _stored(store, tag, PurePosixPath(name).name, _storable(details))
    except ValueError:
        return None
    return found if found is not None and found.sha256 == sha256.lower() else None


def _stored(store: ArtifactStore, tag: str, name: str, details: dict[str, object]) -> StoredArtifact | None:
    try:
        with store.open(tag, name) as file:
            digest, size = hashlib.sha256(), 0
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
                size += len(block)
    except (FileMissing, ArtifactRefused, OSError):
        return None
    return StoredArtifact(name, str(store.path_of(tag, name)), size, digest.hexdigest(), details)


def _storable(value: Any, depth: int = 0) -> Any:
    """A program's JSON as PostgreSQL can hold it: with anything else no report could be kept. Raises `ValueError`."""
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return {storable(str(key)): _storable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item, depth + 1) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST_WHOLE:
        return str(value)
    return storable(value) if isinstance(value, str) else value
