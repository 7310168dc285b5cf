"""A run's hyperparameters are checked against its recipe and its dataset before anything is written."""

from typing import Any

import pytest

from domain.errors import Invalid, error_codes
from domain.training.recipe_errors import (
    ColumnNeeded,
    ColumnNotInDataset,
    ColumnUnfit,
    ColumnUsedTwice,
    HyperparameterError,
    HyperparameterNeeded,
    NotAChoice,
    NothingToLearnFrom,
    OutOfRange,
    TooFewRows,
    TooLong,
    UnknownHyperparameter,
    UnknownRecipe,
    WrongType,
)
from domain.training.recipes import checked_hyperparameters, recipes

NUMBERS: list[dict[str, Any]] = [{"name": "width", "kind": "NUMBER"}, {"name": "height", "kind": "NUMBER"}]
FLOWERS: list[dict[str, Any]] = [*NUMBERS, {"name": "label", "kind": "TEXT", "distinct": 3}]
NOTES: dict[str, Any] = {"name": "notes", "kind": "JSON"}
HOUSES: list[dict[str, Any]] = [*NUMBERS, {"name": "target", "kind": "NUMBER", "distinct": 90}]
SENTENCES: list[dict[str, Any]] = [
    {"name": "sentence", "kind": "TEXT"},
    {"name": "label", "kind": "TEXT", "distinct": 2},
]


def test_defaults_are_filled_in_and_columns_chosen() -> None:
    assert checked_hyperparameters("tabular-classification", {}, FLOWERS, row_count=100) == {
        "targetColumn": "label",
        "ignoredColumns": [],
        "model": "neural-network",
        "hiddenLayers": [512, 256],
        "batchSize": None,
        "learningRate": None,
        "regularization": 0.0001,
        "testFraction": 0.2,
        "seed": 0,
        "epochs": 60,
    }


def test_what_was_checked_once_is_accepted_again() -> None:
    once = checked_hyperparameters("text-classification", {"epochs": 3.0}, SENTENCES, row_count=100)

    assert once["textColumn"] == "sentence"
    assert once["epochs"] == 3
    assert checked_hyperparameters("text-classification", once, SENTENCES, row_count=100) == once


def test_without_a_dataset_the_columns_stay_open() -> None:
    assert checked_hyperparameters("tabular-regression", {"targetColumn": "price"}, None)["targetColumn"] == "price"
    assert checked_hyperparameters("tabular-regression", {}, None)["targetColumn"] is None


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"epoch": 3}, UnknownHyperparameter),
        ({"epochs": "3"}, WrongType),
        ({"epochs": True}, WrongType),
        ({"epochs": 2.5}, WrongType),
        ({"epochs": 0}, OutOfRange),
        ({"epochs": 10_001}, OutOfRange),
        ({"learningRate": float("nan")}, OutOfRange),
        ({"learningRate": -1}, OutOfRange),
        ({"testFraction": 1}, OutOfRange),
        ({"hiddenLayers": 5}, WrongType),
        ({"hiddenLayers": []}, OutOfRange),
        ({"hiddenLayers": [5, 0]}, OutOfRange),
        ({"hiddenLayers": [1] * 6}, OutOfRange),
        ({"hiddenLayers": ["5"]}, WrongType),
        ({"model": "forest"}, NotAChoice),
        ({"model": 1}, WrongType),
        ({"targetColumn": "colour"}, ColumnNotInDataset),
        ({"targetColumn": ["label"]}, WrongType),
        ({"ignoredColumns": ["colour"]}, ColumnNotInDataset),
        ({"ignoredColumns": "width"}, WrongType),
        ({"ignoredColumns": ["width"] * 1_001}, TooLong),
        ({"ignoredColumns": ["label"]}, ColumnUsedTwice),
    ],
)
def test_a_bad_value_is_refused_where_it_stands(given: dict[str, object], refusal: type[HyperparameterError]) -> None:
    with pytest.raises(refusal) as caught:
        checked_hyperparameters("tabular-classification", given, FLOWERS, row_count=100)

    (name,) = given
    assert caught.value.field == ("hyperparameters", name)
    assert f"'{name}'" in caught.value.message("en")
    assert f"'{name}'" in caught.value.message("pt-BR")


@pytest.mark.parametrize(
    ("recipe", "given", "columns", "rows", "refusal", "field"),
    [
        ("forecast", {}, FLOWERS, 100, UnknownRecipe, ("recipe",)),
        ("tabular-classification", {}, NUMBERS, 100, ColumnNeeded, ("hyperparameters", "targetColumn")),
        ("tabular-classification", {}, FLOWERS[2:], 100, NothingToLearnFrom, ("datasetId",)),
        (
            "tabular-classification",
            {"ignoredColumns": ["width", "height"]},
            FLOWERS,
            100,
            NothingToLearnFrom,
            ("datasetId",),
        ),
        ("tabular-classification", {}, FLOWERS, 9, TooFewRows, ("datasetId",)),
        ("tabular-classification", {}, HOUSES, 100, ColumnUnfit, ("hyperparameters", "targetColumn")),
        (
            "tabular-classification",
            {},
            [*NUMBERS, {"name": "label", "kind": "TEXT", "distinct": 1}],
            100,
            ColumnUnfit,
            ("hyperparameters", "targetColumn"),
        ),
        (
            "tabular-classification",
            {},
            [*NUMBERS, {"name": "label", "kind": "JSON", "distinct": 3}],
            100,
            ColumnUnfit,
            ("hyperparameters", "targetColumn"),
        ),
        ("tabular-classification", {}, [*FLOWERS[2:], NOTES], 100, NothingToLearnFrom, ("datasetId",)),
        ("text-classification", {}, [*FLOWERS, NOTES], 100, ColumnNeeded, ("hyperparameters", "textColumn")),
        (
            "tabular-regression",
            {"targetColumn": "label"},
            FLOWERS,
            100,
            ColumnUnfit,
            ("hyperparameters", "targetColumn"),
        ),
        ("text-classification", {}, FLOWERS, 100, ColumnNeeded, ("hyperparameters", "textColumn")),
        (
            "text-classification",
            {"textColumn": "width"},
            FLOWERS,
            100,
            ColumnUnfit,
            ("hyperparameters", "textColumn"),
        ),
        (
            "text-classification",
            {"textColumn": "label"},
            SENTENCES,
            100,
            ColumnUsedTwice,
            ("hyperparameters", "textColumn"),
        ),
        (
            "text-classification",
            {},
            [*SENTENCES, {"name": "remark", "kind": "TEXT"}],
            100,
            ColumnNeeded,
            ("hyperparameters", "textColumn"),
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(
    recipe: str,
    given: dict[str, object],
    columns: list[dict[str, Any]],
    rows: int,
    refusal: type[Invalid],
    field: tuple[str, ...],
) -> None:
    with pytest.raises(refusal) as caught:
        checked_hyperparameters(recipe, given, columns, row_count=rows)

    assert caught.value.field == field
    assert caught.value.message("en") != caught.value.message("pt-BR")
    assert caught.value.code in error_codes()


def test_refusals_name_what_there_is() -> None:
    with pytest.raises(UnknownHyperparameter, match=r"no hyperparameter 'epoch'\. It has: targetColumn, .*epochs"):
        checked_hyperparameters("tabular-classification", {"epoch": 3}, FLOWERS)
    with pytest.raises(ColumnNotInDataset, match=r"no column 'colour'.* It has: width, height, label"):
        checked_hyperparameters("tabular-classification", {"targetColumn": "colour"}, FLOWERS)
    with pytest.raises(UnknownRecipe, match="tabular-classification, tabular-regression, text-classification"):
        checked_hyperparameters("forecast", {}, FLOWERS)


def test_every_default_is_itself_allowed() -> None:
    for recipe in recipes():
        needed = {parameter.name: "needed" for parameter in recipe.parameters if parameter.is_required}
        defaults = {parameter.name: parameter.default for parameter in recipe.parameters} | needed
        chosen = checked_hyperparameters(recipe.name, needed, None)
        assert checked_hyperparameters(recipe.name, defaults, None) == chosen


def test_what_a_recipe_needs_must_be_given() -> None:
    with pytest.raises(HyperparameterNeeded) as refused:
        checked_hyperparameters("command", {"requirements": ["numpy"]}, None)
    assert refused.value.field == ("hyperparameters", "command")
