"""Trains one recipe on one table, telling every step."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .encoding import encode_table, feature_columns, fit_encoder
from .learners import Learner, diverged, learner_of, one_epoch
from .models import predict
from .tables import Column, Table
from .words import TELL_EVERY_SECONDS, BadData, Throttle, say, tell

ROWS_NEEDED = 10
SAMPLES = 5
EXAMPLES = 10
"""Made-up rows that a served model shows."""
USUAL_ROWS = 5
"""A value is usual where at least so many rows have it."""
FREE_TEXT = "Write your own text here."
CLASS_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers to learn from and to judge by."""

    train: Any
    check: Any


def fit(recipe: str, table: Table, options: Mapping[str, Any]) -> dict[str, Any]:
    """The trained bundle: model, encoder, and `description` with columns, classes, metrics and stored samples."""
    target = table.column(_target_name(table, options))
    if target.kind == "json":
        raise BadData(f"Column {target.name!r} holds lists or objects; it cannot be predicted.")
    known = ~np.isnan(target.values.astype(np.float64)) if target.kind == "number" else target.values != ""
    if not known.all():
        say(f"WARNING {int((~known).sum()):,} rows are left out: column {target.name!r} is empty there")
        table = _only(table, known)
        target = table.column(target.name)
    if table.rows < ROWS_NEEDED:
        raise BadData(f"{table.rows} usable rows are too few; at least {ROWS_NEEDED} are needed.")
    if recipe == "text-classification":
        return _fit_text(table, target, options)
    columns = feature_columns(table, target.name, options.get("ignoredColumns") or ())
    if recipe == "tabular-regression":
        return _fit_numbers(table, target, columns, options)
    return _fit_classes(table, target, columns, options)


def _fit_classes(
    table: Table, target: Column, columns: list[dict[str, Any]], options: Mapping[str, Any]
) -> dict[str, Any]:
    classes, labels = classes_of(target)
    split = _split(table.rows, options, labels)
    encoder = fit_encoder(table, columns, split.train)
    features = encode_table(encoder, table)
    _tell_data(table, len(columns), split, classes)
    everything = np.arange(len(classes))
    learner = learner_of(options["model"], options, features[split.train], labels[split.train], everything)

    def judge(model: Any) -> dict[str, float]:
        return {"validation_accuracy": _accuracy(model, features[split.check], labels[split.check])}

    model, metrics = _epochs(learner, int(options["epochs"]), judge)
    bundle = {"model": model, "encoder": encoder, "words": None, "center": 0.0, "spread": 1.0}
    return _described(bundle, "tabular-classification", table, target, columns, classes, metrics, split)


def _fit_numbers(
    table: Table, target: Column, columns: list[dict[str, Any]], options: Mapping[str, Any]
) -> dict[str, Any]:
    if target.kind != "number":
        raise BadData(f"Column {target.name!r} holds text; tabular-regression predicts numbers.")
    wanted = target.values.astype(np.float64)
    split = _split(table.rows, options, None)
    encoder = fit_encoder(table, columns, split.train)
    features = encode_table(encoder, table)
    center = float(wanted[split.train].mean())
    spread = float(wanted[split.train].std()) or 1.0
    scaled = (wanted - center) / spread
    _tell_data(table, len(columns), split, None)
    learner = learner_of(options["model"], options, features[split.train], scaled[split.train], None)

    def judge(model: Any) -> dict[str, float]:
        guessed = model.predict(features[split.check])
        if not np.isfinite(guessed).all():
            raise diverged()
        wrong = (guessed * spread + center) - wanted[split.check]
        variance = float(np.mean((wanted[split.check] - wanted[split.check].mean()) ** 2)) or 1.0
        squared = float(np.mean(wrong**2))
        return {
            "validation_r2": 1.0 - squared / variance,
            "validation_rmse": squared**0.5,
            "validation_mae": float(np.mean(np.abs(wrong))),
        }

    model, metrics = _epochs(learner, int(options["epochs"]), judge)
    bundle = {"model": model, "encoder": encoder, "words": None, "center": center, "spread": spread}
    return _described(bundle, "tabular-regression", table, target, columns, None, metrics, split)


def _fit_text(table: Table, target: Column, options: Mapping[str, Any]) -> dict[str, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    name = options.get("textColumn") or _only_text_column(table, target.name)
    if name == target.name:
        raise BadData(f"Column {name!r} cannot be both the text and the target.")
    texts = table.column(name).values.astype(object)
    if table.column(name).kind != "text":
        raise BadData(f"Column {name!r} holds no text; text-classification needs text.")
    classes, labels = classes_of(target)
    split = _split(table.rows, options, labels)
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), max_features=int(options["vocabulary"]))
    try:
        words.fit(texts[split.train])
    except ValueError as error:
        raise BadData(f"Column {name!r} holds no words to learn from.") from error
    features = words.transform(texts)
    columns = [{"name": name, "kind": "text"}]
    _tell_data(table, features.shape[1], split, classes, "words")
    linear = {"learningRate": 0.5, **{key: value for key, value in options.items() if value is not None}}
    everything = np.arange(len(classes))
    learner = learner_of("linear", linear, features[split.train], labels[split.train], everything)

    def judge(model: Any) -> dict[str, float]:
        return {"validation_accuracy": _accuracy(model, features[split.check], labels[split.check])}

    model, metrics = _epochs(learner, int(options["epochs"]), judge)
    bundle = {"model": model, "encoder": None, "words": words, "center": 0.0, "spread": 1.0}
    return _described(bundle, "text-classification", table, target, columns, classes, metrics, split)


def _epochs(learner: Learner, epochs: int, judge: Callable[[Any], dict[str, float]]) -> tuple[Any, dict[str, float]]:
    """All epochs; the model of the best one by the first metric, and its metrics."""
    began = time.monotonic()
    throttle = Throttle(TELL_EVERY_SECONDS)
    waiting: list[dict[str, Any]] = []
    best: tuple[float, Any, dict[str, float]] | None = None
    for epoch in range(1, epochs + 1):
        loss = one_epoch(learner)
        metrics = judge(learner.model)
        name, score = next(iter(metrics.items()))
        if best is None or score >= best[0]:
            best = (score, learner.snapshot(), {"loss": loss, **metrics})
        say(f"epoch {epoch}/{epochs} loss {loss:.4f} {name} {score:.4f}")
        waiting.append({"name": "loss", "step": epoch, "value": loss})
        waiting.append({"name": name, "step": epoch, "value": score})
        # Fast epochs are told together, and never more than fit in a line.
        if throttle.ready() or epoch == epochs or len(waiting) >= 60:
            left = (time.monotonic() - began) / epoch * (epochs - epoch)
            tell(percent=round(100 * epoch / epochs, 2), etaSeconds=round(left, 2), readings=waiting)
            waiting = []
    if best is None:
        raise BadData("At least one epoch is needed.")
    return best[1], best[2]


def classes_of(target: Column) -> tuple[list[Any], Any]:
    """The distinct labels, and each row's place among them. Whole numbers stay numbers."""
    if target.kind == "number":
        values, labels = np.unique(target.values.astype(np.float64), return_inverse=True)
        classes: list[Any] = [int(value) if value.is_integer() else float(value) for value in values.tolist()]
    else:
        names, labels = np.unique(target.values.astype(str), return_inverse=True)
        classes = [str(name) for name in names]
    if len(classes) < 2:
        raise BadData(f"Column {target.name!r} holds one class only; there is nothing to tell apart.")
    if len(classes) > CLASS_LIMIT or len(classes) > len(labels) / 2:
        raise BadData(f"Column {target.name!r} holds {len(classes):,} classes for {len(labels):,} rows; is it a class?")
    return classes, labels


def _split(rows: int, options: Mapping[str, Any], labels: Any) -> Split:
    """A random part of the rows for judging; for classes, the same part of each."""
    random = np.random.default_rng(int(options["seed"]))
    share = float(options["testFraction"])
    groups = [np.arange(rows)] if labels is None else [np.flatnonzero(labels == each) for each in np.unique(labels)]
    check: list[Any] = []
    train: list[Any] = []
    for group in groups:
        shuffled = random.permutation(group)
        # A class must be seen at least once, so a single row is learned from.
        count = min(len(shuffled) - 1, max(1, round(share * len(shuffled))))
        check.append(shuffled[:count])
        train.append(shuffled[count:])
    return Split(random.permutation(np.concatenate(train)), np.concatenate(check))


def _accuracy(model: Any, features: Any, labels: Any) -> float:
    return float(np.mean(model.predict(features) == labels))


def _only(table: Table, known: Any) -> Table:
    columns = tuple(Column(column.name, column.kind, column.values[known]) for column in table.columns)
    return Table(columns, int(known.sum()))


def _target_name(table: Table, options: Mapping[str, Any]) -> str:
    if options.get("targetColumn"):
        return str(options["targetColumn"])
    for name in ("target", "label"):
        if any(column.name == name for column in table.columns):
            return name
    raise BadData("Say in `targetColumn` which column is to be predicted; none is named target or label.")


def _only_text_column(table: Table, target: str) -> str:
    names = [column.name for column in table.columns if column.kind == "text" and column.name != target]
    if "text" in names:
        return "text"
    if len(names) == 1:
        return names[0]
    raise BadData("Say in `textColumn` which column holds the text.")


def _tell_data(table: Table, width: int, split: Split, classes: list[Any] | None, what: str = "columns") -> None:
    target = "a number" if classes is None else f"{len(classes)} classes"
    say(
        f"{table.rows:,} rows, {width:,} {what}, predicting {target}; "
        f"learning from {len(split.train):,}, judging by {len(split.check):,}"
    )


def _described(
    bundle: dict[str, Any],
    recipe: str,
    table: Table,
    target: Column,
    columns: list[dict[str, Any]],
    classes: list[Any] | None,
    metrics: dict[str, float],
    split: Split,
) -> dict[str, Any]:
    """The bundle with its description, and a few rows with what it says of them, to prove a deployment with."""
    bundle["description"] = {
        "recipe": recipe,
        "target": target.name,
        "columns": columns,
        "classes": classes,
        "metrics": {name: round(value, 6) for name, value in metrics.items()},
        "rows": {"train": len(split.train), "validation": len(split.check)},
    }
    rows = [_row_of(table, columns, int(number)) for number in split.check[:SAMPLES]]
    answers = predict(bundle, rows)["predictions"]
    bundle["description"]["samples"] = [
        {"row": row, "prediction": answer} for row, answer in zip(rows, answers, strict=True)
    ]
    bundle["description"]["examples"] = _examples(table, columns, target, split)
    return bundle


def _examples(table: Table, columns: list[dict[str, Any]], target: Column, split: Split) -> list[dict[str, Any]]:
    """Made-up rows to try the model with, one for each class: what is usual in many rows, and no row that there is.

    Whoever has a model's address sees them; the data itself is its owner's."""
    rows = split.train
    groups = [rows]
    if target.kind == "text" or len(np.unique(target.values[rows])) <= EXAMPLES:
        kinds = [rows[target.values[rows] == kind] for kind in sorted(set(target.values[rows].tolist()))]
        groups = [group for group in kinds if len(group) >= USUAL_ROWS][:EXAMPLES] or [rows]
    return [{column["name"]: _usual(table.column(column["name"]), group) for column in columns} for group in groups]


def _usual(column: Column, rows: Any) -> Any:
    """The middle number, or the most frequent of few texts; free text is nobody's business."""
    values = column.values[rows]
    if column.kind == "number":
        known = values[~np.isnan(values.astype(np.float64))]
        return round(float(np.median(known.astype(np.float64))), 4) if len(known) else None
    found, counts = np.unique(values, return_counts=True)
    often = counts >= USUAL_ROWS
    return str(found[often][counts[often].argmax()]) if often.any() else FREE_TEXT


def _row_of(table: Table, columns: list[dict[str, Any]], number: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in columns:
        value = table.column(column["name"]).values[number]
        if column["kind"] == "number":
            row[column["name"]] = None if np.isnan(value) else float(value)
        else:
            row[column["name"]] = str(value)
    return row
