"""Small real data: digits, diabetes, and sentences of two kinds."""

import csv
import io
import json
from typing import Any

from sklearn.datasets import load_diabetes, load_digits


def digits(rows: int) -> list[dict[str, Any]]:
    """Handwritten digits as 64 pixels and a label."""
    pixels, labels = load_digits(return_X_y=True)
    return [
        {**{f"pixel{place}": float(value) for place, value in enumerate(row)}, "label": int(label)}
        for row, label in zip(pixels[:rows], labels[:rows], strict=True)
    ]


def diabetes() -> list[dict[str, Any]]:
    """Ten measurements of 442 patients, and how the disease went on; the sex as a word."""
    data = load_diabetes()
    rows = []
    for values, target in zip(data.data, data.target, strict=True):
        row: dict[str, Any] = dict(zip(data.feature_names, map(float, values), strict=True))
        row["sex"] = "female" if row["sex"] > 0 else "male"
        rows.append({**row, "target": float(target)})
    return rows


def sentences() -> list[dict[str, Any]]:
    """Two hundred remarks about food and weather."""
    food = ["soup", "bread", "cheese", "café", "rice"]
    weather = ["rain", "wind", "sunshine", "snow", "clouds"]
    opening = ["today there was", "I remember", "we had", "she spoke of", "nothing but"]
    ending = ["again", "in the morning", "near the sea", "for hours"]
    return [
        {"text": f"{first} {word} {last}", "label": label}
        for label, words in (("food", food), ("weather", weather))
        for word in words
        for first in opening
        for last in ending
    ]


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    """The rows under a line of names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    """One object per line."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
