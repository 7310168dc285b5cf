"""Stored models: one file that holds all a prediction needs, and how to ask it."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from .encoding import BadRows, cell, encode_rows

MODEL_FILE = "model.joblib"
FORMAT = 1


def save(folder: Path, bundle: Mapping[str, Any]) -> dict[str, Any]:
    """Write the model, its readable description and the receipt `artifact.json`; the receipt is returned."""
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / MODEL_FILE
    joblib.dump({"format": FORMAT, **bundle}, target, compress=3)
    receipt = {
        "name": MODEL_FILE,
        "bytes": target.stat().st_size,
        "sha256": sha256_of(target),
        "details": bundle["description"],
    }
    write_json(folder / "model.json", bundle["description"])
    write_json(folder / "artifact.json", receipt)
    return receipt


def load(path: Path, sha256: str) -> dict[str, Any]:
    """Open a stored model; a file with another checksum is not opened at all, since opening runs what it holds."""
    if sha256_of(path) != sha256.lower():
        raise ValueError("The model file is not the one that was trained: its SHA-256 differs.")
    bundle: dict[str, Any] = joblib.load(path)
    if bundle.get("format") != FORMAT:
        raise ValueError("The model file has an unknown format.")
    return bundle


def predict(bundle: Mapping[str, Any], rows: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    """`predictions`, one per row, and for classes `probabilities`, each by the class's name. Raises BadRows."""
    description = bundle["description"]
    model = bundle["model"]
    features = bundle_features(bundle, rows)
    with np.errstate(all="ignore"):
        return _answers(description, bundle, model, features)


def _answers(description: Mapping[str, Any], bundle: Mapping[str, Any], model: Any, features: Any) -> dict[str, Any]:
    if description["classes"] is None:
        values = model.predict(features) * bundle["spread"] + bundle["center"]
        _check_finite(values)
        return {"predictions": [float(value) for value in values]}
    probabilities = np.asarray(model.predict_proba(features))
    _check_finite(probabilities.sum(axis=1))
    classes = [description["classes"][int(place)] for place in model.classes_]
    return {
        "predictions": [classes[int(place)] for place in probabilities.argmax(axis=1)],
        "probabilities": [
            {str(name): round(float(share), 6) for name, share in zip(classes, row, strict=True)}
            for row in probabilities
        ],
    }


def _check_finite(values: Any) -> None:
    """Absurdly large numbers in a row overflow on their way through a model."""
    for index, value in enumerate(values):
        if not np.isfinite(value):
            raise BadRows("OUT_OF_RANGE", f"Row {index}: its numbers are too large for this model.", index)


def bundle_features(bundle: Mapping[str, Any], rows: Sequence[Mapping[str, object]]) -> Any:
    """What the model learns from, of these rows."""
    if bundle["words"] is None:
        return encode_rows(bundle["encoder"], rows)
    name = bundle["description"]["columns"][0]["name"]
    texts = [cell(row, name, index) for index, row in enumerate(rows)]
    for index, text in enumerate(texts):
        if not text.strip():
            raise BadRows("EMPTY_TEXT", f"Row {index}: column {name!r} holds no text.", index, name)
    return bundle["words"].transform(texts)


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: object) -> None:
    """The file appears whole or not at all."""
    draft = path.with_name(path.name + ".new")
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
