"""A sandbox may write what it likes into its receipt; no word of it may keep the run from being looked after."""

import hashlib
import json
from pathlib import Path

from jobs.providers.local.trainer import _artifact


def test_signs_that_cannot_be_stored_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(b"model")
    details = {"classes": ["a\0", "b\ud800"], "samples": [{"row": {"x\0": 1}, "label": None}]}
    receipt = {"name": "model.joblib", "sha256": hashlib.sha256(b"model").hexdigest(), "details": details}
    (tmp_path / "artifact.json").write_text(json.dumps(receipt))

    artifact = _artifact(tmp_path)

    assert artifact is not None
    assert artifact.details == {
        "classes": ["a\ufffd", "b\ufffd"],
        "samples": [{"row": {"x\ufffd": 1}, "label": None}],
    }


def test_a_receipt_without_end_is_none(tmp_path: Path) -> None:
    (tmp_path / "artifact.json").write_text('{"details": ' + "[" * 100_000)

    assert _artifact(tmp_path) is None
