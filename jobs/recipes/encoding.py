"""Turns rows into the numbers that a model learns from, the same way in training and in serving.

What is learned here is plain data and scikit-learn objects, so a stored model needs none of our classes to be opened.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.preprocessing import OneHotEncoder

from .tables import Column, Numbers, Table, Texts, number_of, text_of
from .words import BadData, say

CATEGORY_LIMIT = 50
TEXT_SHARE = 0.5


class BadRows(Exception):
    """Rows that a model cannot read; says which row and column, and what was expected."""

    def __init__(self, code: str, message: str, row: int | None = None, column: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.row = row
        self.column = column


def feature_columns(table: Table, target: str, ignored: Sequence[str]) -> list[dict[str, Any]]:
    """Which columns to learn from, and as what; columns that cannot help are told and left out."""
    found: list[dict[str, Any]] = []
    for column in table.columns:
        if column.name == target or column.name in ignored:
            continue
        if column.kind == "json" or column.missing == table.rows:
            why = "it holds lists or objects" if column.kind == "json" else "it is empty"
            say(f"WARNING column {column.name!r} is left out: {why}")
            continue
        if column.kind == "number":
            values = column.values[~np.isnan(column.values.astype(np.float64))]
            facts = {"minimum": float(values.min()), "maximum": float(values.max())}
            found.append({"name": column.name, "kind": "number", **facts})
            continue
        values, counts = np.unique(column.values.astype(str), return_counts=True)
        if len(values) > max(20, TEXT_SHARE * table.rows):
            say(f"WARNING column {column.name!r} is left out: nearly every row has a text of its own")
            continue
        common = values[np.argsort(-counts, kind="stable")][:CATEGORY_LIMIT]
        found.append({"name": column.name, "kind": "category", "values": [str(value) for value in common]})
    if not found:
        raise BadData("There is no column to learn from beside the target.")
    return found


def fit_encoder(table: Table, columns: Sequence[Mapping[str, Any]], rows: Any) -> dict[str, Any]:
    """Learn means, spreads and categories from these rows of the table."""
    numbers, texts = _blocks_of_table(table, columns)
    numbers, texts = numbers[rows], texts[rows]
    center = np.zeros(numbers.shape[1])
    scale = np.ones(numbers.shape[1])
    for index in range(numbers.shape[1]):
        known = numbers[:, index][~np.isnan(numbers[:, index])]
        if len(known):
            center[index] = known.mean()
            spread = known.std()
            scale[index] = spread if spread > 1e-12 else 1.0
    categories = None
    if texts.shape[1]:
        categories = OneHotEncoder(handle_unknown="ignore", max_categories=CATEGORY_LIMIT, sparse_output=False)
        categories.fit(texts)
    return {"columns": [dict(column) for column in columns], "center": center, "scale": scale, "categories": categories}


def encode_table(encoder: Mapping[str, Any], table: Table) -> Numbers:
    """The matrix of a whole table."""
    return _encode(encoder, *_blocks_of_table(table, encoder["columns"]))


def encode_rows(encoder: Mapping[str, Any], rows: Sequence[Mapping[str, object]]) -> Numbers:
    """The matrix of rows that somebody sent; raises BadRows."""
    number_names = [column["name"] for column in encoder["columns"] if column["kind"] == "number"]
    text_names = [column["name"] for column in encoder["columns"] if column["kind"] == "category"]
    numbers = np.empty((len(rows), len(number_names)), np.float64)
    texts: Texts = np.empty((len(rows), len(text_names)), np.object_)
    for index, row in enumerate(rows):
        for place, name in enumerate(number_names):
            text = cell(row, name, index)
            try:
                numbers[index, place] = number_of(text)
            except ValueError:
                message = f"Row {index}: column {name!r} needs a number."
                raise BadRows("NOT_A_NUMBER", message, index, name) from None
        for place, name in enumerate(text_names):
            texts[index, place] = cell(row, name, index).strip()
    with np.errstate(over="ignore"):
        matrix = _encode(encoder, numbers, texts)
    too_large = ~np.isfinite(matrix).all(axis=1)
    if too_large.any():
        index = int(np.argmax(too_large))
        raise BadRows("OUT_OF_RANGE", f"Row {index}: its numbers are too large for this model.", index)
    return matrix


def cell(row: Mapping[str, object], name: str, index: int) -> str:
    """One value of a row as text; a column may be null, but it must be there."""
    if name not in row:
        raise BadRows("MISSING_COLUMN", f"Row {index}: column {name!r} is missing.", index, name)
    try:
        return text_of(row[name])
    except TypeError:
        message = f"Row {index}: column {name!r} needs one value, not a list or an object."
        raise BadRows("NOT_A_VALUE", message, index, name) from None


def _blocks_of_table(table: Table, columns: Sequence[Mapping[str, Any]]) -> tuple[Numbers, Texts]:
    def stacked(kind: str, element: Any) -> Any:
        chosen: list[Column] = [table.column(column["name"]) for column in columns if column["kind"] == kind]
        block = np.empty((table.rows, len(chosen)), element)
        for index, column in enumerate(chosen):
            block[:, index] = column.values
        return block

    return stacked("number", np.float64), stacked("category", np.object_)


def _encode(encoder: Mapping[str, Any], numbers: Numbers, texts: Texts) -> Numbers:
    scaled = (numbers - encoder["center"]) / encoder["scale"]
    scaled = np.where(np.isnan(scaled), 0.0, scaled)  # where nothing was known, the mean
    if encoder["categories"] is None:
        return scaled
    return np.hstack([scaled, np.asarray(encoder["categories"].transform(texts), np.float64)])
