"""Each recipe with each model learns from real data, and stored models say the same as trained ones."""

from pathlib import Path
from typing import Any

import pytest

from domain.training.recipes import checked_hyperparameters
from jobs.recipes.encoding import BadRows
from jobs.recipes.fitting import fit
from jobs.recipes.models import MODEL_FILE, load, predict, save
from jobs.recipes.tables import Table, read_table
from jobs.recipes.words import BadData, Failure
from tests.jobs.recipes.data import as_csv, diabetes, digits, sentences


def table_of(folder: Path, rows: list[dict[str, Any]]) -> Table:
    path = folder / "content"
    path.write_bytes(as_csv(rows))
    return read_table(path, "CSV")


def fitted(folder: Path, recipe: str, rows: list[dict[str, Any]], **given: object) -> dict[str, Any]:
    return fit(recipe, table_of(folder, rows), checked_hyperparameters(recipe, given, None))


@pytest.mark.parametrize(
    ("recipe", "rows", "given", "metric", "least"),
    [
        ("tabular-classification", digits(600), {"hiddenLayers": [64], "epochs": 25}, "validation_accuracy", 0.9),
        ("tabular-classification", digits(600), {"model": "linear", "epochs": 5}, "validation_accuracy", 0.85),
        ("tabular-classification", digits(300), {"model": "boosted-trees", "epochs": 8}, "validation_accuracy", 0.6),
        ("tabular-regression", diabetes(), {"hiddenLayers": [32], "epochs": 60}, "validation_r2", 0.3),
        ("tabular-regression", diabetes(), {"model": "boosted-trees", "epochs": 20}, "validation_r2", 0.25),
        ("text-classification", sentences(), {"epochs": 3}, "validation_accuracy", 0.9),
    ],
)
def test_it_learns_and_is_the_same_after_storing(
    tmp_path: Path, recipe: str, rows: list[dict[str, Any]], given: dict[str, Any], metric: str, least: float
) -> None:
    bundle = fitted(tmp_path, recipe, rows, **given)
    description = bundle["description"]
    asked = [sample["row"] for sample in description["samples"]]
    receipt = save(tmp_path / "artifact", bundle)

    assert description["metrics"][metric] >= least
    stored = load(tmp_path / "artifact" / MODEL_FILE, receipt["sha256"])
    assert predict(stored, asked)["predictions"] == [sample["prediction"] for sample in description["samples"]]


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    first, second, other = (
        fitted(tmp_path, "tabular-classification", digits(200), epochs=2, seed=seed)["description"]["metrics"]
        for seed in (1, 1, 2)
    )

    assert first == second != other


def test_missing_values_and_categories_are_understood(tmp_path: Path) -> None:
    rows = [
        {
            "size": number if number % 7 else None,
            "colour": "red" if number % 2 else "blue",
            "id": f"nr {number}",
            "label": "odd" if number % 2 else "even",
        }
        for number in range(120)
    ]
    rows += [{"size": 1, "colour": "red", "id": "x", "label": None}]
    bundle = fitted(tmp_path, "tabular-classification", rows, epochs=20)

    description = bundle["description"]
    assert [column["name"] for column in description["columns"]] == ["size", "colour"]
    assert description["rows"] == {"train": 96, "validation": 24}
    answer = predict(bundle, [{"size": None, "colour": "red"}, {"size": 3, "colour": "green"}])
    assert answer["predictions"][0] == "odd"
    assert [set(share) for share in answer["probabilities"]] == [{"odd", "even"}] * 2
    assert sum(answer["probabilities"][0].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("row", "code", "column"),
    [
        ({"size": 1}, "MISSING_COLUMN", "colour"),
        ({"size": "big", "colour": "red"}, "NOT_A_NUMBER", "size"),
        ({"size": [1], "colour": "red"}, "NOT_A_VALUE", "size"),
        ({"size": 1, "colour": {}}, "NOT_A_VALUE", "colour"),
    ],
)
def test_rows_that_cannot_be_read_say_where(tmp_path: Path, row: dict[str, object], code: str, column: str) -> None:
    rows = [{"size": n, "colour": "red" if n % 2 else "blue", "label": n % 2} for n in range(40)]
    bundle = fitted(tmp_path, "tabular-classification", rows, epochs=1)

    with pytest.raises(BadRows) as caught:
        predict(bundle, [{"size": 1, "colour": "red"}, row])

    assert (caught.value.code, caught.value.row, caught.value.column) == (code, 1, column)


@pytest.mark.parametrize(
    ("recipe", "rows", "given", "words"),
    [
        ("tabular-classification", digits(9), {}, "at least 10"),
        ("tabular-classification", [{"a": n, "label": "x"} for n in range(20)], {}, "one class only"),
        ("tabular-classification", [{"a": n, "label": n} for n in range(20)], {}, "is it a class?"),
        ("tabular-classification", [{"label": n % 2} for n in range(20)], {}, "no column to learn from"),
        ("tabular-classification", [{"a": n, "b": n} for n in range(20)], {}, "`targetColumn`"),
        ("tabular-classification", [{"a": None, "label": n % 2} for n in range(20)], {}, "no column to learn from"),
        ("tabular-regression", [{"a": n, "target": "x"} for n in range(20)], {}, "holds text"),
        ("text-classification", [{"a": n, "label": n % 2} for n in range(20)], {}, "`textColumn`"),
        ("text-classification", [{"text": ".", "label": n % 2} for n in range(20)], {}, "no words"),
    ],
)
def test_data_that_does_not_fit_is_told(
    tmp_path: Path, recipe: str, rows: list[dict[str, Any]], given: dict[str, object], words: str
) -> None:
    with pytest.raises(BadData) as caught:
        fitted(tmp_path, recipe, rows, **given)

    assert words in caught.value.message


@pytest.mark.parametrize("model", ["linear", "neural-network"])
def test_a_runaway_is_no_model(tmp_path: Path, model: str) -> None:
    with pytest.raises(Failure) as caught:
        fitted(tmp_path, "tabular-regression", diabetes(), model=model, learningRate=1e6, hiddenLayers=[8], epochs=300)

    assert caught.value.reason == "DIVERGED"


def test_a_changed_file_is_never_opened(tmp_path: Path) -> None:
    receipt = save(tmp_path / "artifact", fitted(tmp_path, "tabular-classification", digits(60), epochs=1))
    path = tmp_path / "artifact" / MODEL_FILE
    path.write_bytes(path.read_bytes() + b"x")

    with pytest.raises(ValueError, match="SHA-256 differs"):
        load(path, receipt["sha256"])


def test_what_a_served_model_shows_is_no_row_of_the_data(tmp_path: Path) -> None:
    rows = [
        {
            "city": "Rio" if number % 3 else "Recife",
            "size": number + 0.5,
            "note": f"secret {number}",
            "kind": "ab"[number % 2],
        }
        for number in range(80)
    ]
    description = fitted(tmp_path, "tabular-classification", rows, targetColumn="kind", epochs=1)["description"]
    assert [example["city"] for example in description["examples"]] == ["Rio", "Rio"]
    assert all("secret" not in str(example) for example in description["examples"])
    sizes = [example["size"] for example in description["examples"]]
    assert all(10 < size < 70 for size in sizes)
