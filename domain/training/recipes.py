"""The recipes, and the check of a run's hyperparameters against its recipe and its dataset's columns."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from domain.training.recipe_errors import (
    FEWEST_ROWS,
    ColumnNeeded,
    ColumnNotInDataset,
    ColumnUnfit,
    ColumnUsedTwice,
    HyperparameterNeeded,
    NotAChoice,
    NotATable,
    NothingToLearnFrom,
    OutOfRange,
    TooFewRows,
    TooLong,
    UnknownHyperparameter,
    UnknownRecipe,
    WrongType,
)
from domain.training.recipe_kinds import DatasetUse, Parameter, ParameterKind, Recipe
from domain.training.recipe_list import RECIPES

__all__ = ["DatasetUse", "Parameter", "ParameterKind", "Recipe", "checked_hyperparameters", "recipe_of", "recipes"]

TARGET_NAMES = ("target", "label")
TEXT_NAMES = ("text",)
LARGEST_OBJECT_BYTES = 256 * 1024
_NUMBER_KINDS = frozenset({"number", "integer"})
_UNUSABLE_KINDS = frozenset({"json", "empty"})
"""Columns that no recipe reads: lists and objects, or nothing at all."""


def recipes() -> tuple[Recipe, ...]:
    """All recipes, in the order to show them."""
    return RECIPES


def recipe_of(name: str) -> Recipe:
    """The recipe of that name. Raises `UnknownRecipe`."""
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    raise UnknownRecipe(name)


def checked_hyperparameters(
    recipe: str,
    given: Mapping[str, object],
    columns: Sequence[Mapping[str, Any]] | None,
    *,
    row_count: int | None = None,
) -> dict[str, object]:
    """All hyperparameters of a run, with defaults for those that were not given or are null.

    `columns` are the dataset's reports (`name`, `kind`, and where known `distinct`); None if nothing is known of them.
    Raises the refusals above, with the field that is wrong.
    """
    chosen = recipe_of(recipe)
    for name in given:
        if chosen.parameter(name) is None:
            raise UnknownHyperparameter(chosen, name)
    values: dict[str, object] = {}
    for parameter in chosen.parameters:
        value = given.get(parameter.name)
        if value is None:
            if parameter.is_required:
                raise HyperparameterNeeded(chosen, parameter.name)
            value = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        else:
            value = _checked_value(parameter, value)
        values[parameter.name] = value
    if chosen.dataset is not DatasetUse.TABLE:
        return values
    if columns is not None and not columns:
        raise NotATable(chosen)
    if row_count is not None and row_count < FEWEST_ROWS:
        raise TooFewRows(row_count)
    if columns is not None:
        _check_columns(chosen, values, {str(column["name"]): column for column in columns}, row_count)
    return values


def _checked_value(parameter: Parameter, value: object) -> object:
    match parameter.kind:
        case ParameterKind.BOOL:
            if not isinstance(value, bool):
                raise WrongType(parameter)
            return value
        case ParameterKind.STR:
            if not isinstance(value, str):
                raise WrongType(parameter)
            if parameter.choices and value not in parameter.choices:
                raise NotAChoice(parameter)
            return value
        case ParameterKind.INT | ParameterKind.FLOAT:
            return _checked_number(parameter, value)
        case ParameterKind.INT_LIST:
            if not isinstance(value, list | tuple):
                raise WrongType(parameter)
            if not 1 <= len(value) <= (parameter.most or len(value)):
                raise OutOfRange(parameter)
            return [_checked_number(parameter, each) for each in value]
        case ParameterKind.STR_LIST:
            if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
                raise WrongType(parameter)
            if parameter.most is not None and len(value) > parameter.most:
                raise TooLong(parameter)
            return list(value)
        case ParameterKind.OBJECT:
            if not isinstance(value, Mapping) or len(orjson.dumps(dict(value))) > LARGEST_OBJECT_BYTES:
                raise WrongType(parameter)
            return dict(value)


def _checked_number(parameter: Parameter, value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongType(parameter)
    minimum = -math.inf if parameter.minimum is None else parameter.minimum
    maximum = math.inf if parameter.maximum is None else parameter.maximum
    if not minimum <= value <= maximum:  # not a number is nowhere between
        raise OutOfRange(parameter)
    if parameter.kind is ParameterKind.FLOAT:
        return float(value)
    if not float(value).is_integer():
        raise WrongType(parameter)
    return int(value)


def _check_columns(
    recipe: Recipe, values: dict[str, object], columns: Mapping[str, Mapping[str, Any]], row_count: int | None
) -> None:
    """Names of columns must be the dataset's; those that were not given are chosen here, so that the run says them."""
    names = list(columns)
    for parameter in recipe.parameters:
        value = values[parameter.name]
        if parameter.is_column and value is not None:
            for name in [value] if isinstance(value, str) else _texts(value):
                if name not in columns:
                    raise ColumnNotInDataset(parameter.name, name, names)
    target = _chosen(values, "targetColumn", TARGET_NAMES, names)
    if target in _texts(values.get("ignoredColumns")):
        raise ColumnUsedTwice("ignoredColumns", target)
    _check_target(recipe, target, columns[target], row_count)
    if recipe.reads_text:
        others = [name for name in names if name != target]
        texts = [name for name in others if _holds_text(columns[name])]
        if not others:
            raise NothingToLearnFrom(target)
        text = _chosen(values, "textColumn", TEXT_NAMES if "text" in others else tuple(texts[:2]), others, only=True)
        if text == target:
            raise ColumnUsedTwice("textColumn", text)
        if not _holds_text(columns[text]):
            raise ColumnUnfit("textColumn", text, recipe, "a column of texts", "uma coluna de textos")
        return
    ignored = {target, *_texts(values.get("ignoredColumns"))}
    if all(name in ignored or _kind(column) in _UNUSABLE_KINDS for name, column in columns.items()):
        raise NothingToLearnFrom(target)


def _chosen(
    values: dict[str, object], parameter: str, usual: Sequence[str], names: Sequence[str], *, only: bool = False
) -> str:
    """The column that was named, or the one with a usual name; with `only`, if just one is usual."""
    given = values[parameter]
    if isinstance(given, str):
        return given
    found = [name for name in usual if name in names]
    if not found or (only and len(found) > 1):
        raise ColumnNeeded(parameter, names)
    values[parameter] = found[0]
    return found[0]


def _check_target(recipe: Recipe, name: str, column: Mapping[str, Any], row_count: int | None) -> None:
    distinct = column.get("distinct")
    if recipe.predicts_number:
        if not _holds_numbers(column):
            raise ColumnUnfit("targetColumn", name, recipe, "a column of numbers", "uma coluna de números")
        return
    if _kind(column) in _UNUSABLE_KINDS:
        raise ColumnUnfit("targetColumn", name, recipe, "a column of classes", "uma coluna de classes")
    if not isinstance(distinct, int):
        return
    if distinct < 2:
        raise ColumnUnfit("targetColumn", name, recipe, "at least two classes", "pelo menos duas classes")
    if row_count is not None and distinct > row_count / 2:
        needs, needs_pt = "a column with far fewer classes than rows", "uma coluna com bem menos classes que linhas"
        raise ColumnUnfit("targetColumn", name, recipe, needs, needs_pt)


def _holds_numbers(column: Mapping[str, Any]) -> bool:
    return _kind(column) in _NUMBER_KINDS


def _holds_text(column: Mapping[str, Any]) -> bool:
    return _kind(column) not in _NUMBER_KINDS | _UNUSABLE_KINDS


def _kind(column: Mapping[str, Any]) -> str:
    """The dataset room's word for what the column holds."""
    return str(column.get("kind", "")).lower()


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list | tuple) else []
