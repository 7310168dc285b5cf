"""What is refused before a recipe starts: hyperparameters that cannot be, and data that does not fit."""

from collections.abc import Sequence
from typing import Any, ClassVar

from domain.errors import Invalid
from domain.training.recipe_kinds import Parameter, ParameterKind, Recipe
from domain.training.recipe_list import RECIPES
from domain.training.status import Provider

FEWEST_ROWS = 10
MOST_SHOWN = 20
_KIND_WORDS = {
    ParameterKind.INT: ("a whole number", "um número inteiro"),
    ParameterKind.FLOAT: ("a number", "um número"),
    ParameterKind.STR: ("a text", "um texto"),
    ParameterKind.BOOL: ("true or false", "verdadeiro ou falso"),
    ParameterKind.INT_LIST: ("a list of whole numbers", "uma lista de números inteiros"),
    ParameterKind.STR_LIST: ("a list of texts", "uma lista de textos"),
    ParameterKind.OBJECT: ("a JSON object of at most 256 KB", "um objeto JSON de até 256 KB"),
}


class HyperparameterError(Invalid):
    """A hyperparameter that cannot be; the field says which."""

    code: ClassVar[str] = "BAD_HYPERPARAMETER"
    en: ClassVar[str] = "The hyperparameter '{name}' cannot be used."
    pt: ClassVar[str] = "O hiperparâmetro '{name}' não pode ser usado."

    def __init__(self, name: str, **params: Any) -> None:
        super().__init__(field=("hyperparameters", name), name=name, **params)


class UnknownRecipe(Invalid):
    """There is no such recipe."""

    code = "UNKNOWN_RECIPE"
    en = "There is no recipe '{recipe}'. There are: {known}."
    pt = "A receita '{recipe}' não existe. Existem: {known}."

    def __init__(self, recipe: str) -> None:
        super().__init__(field=("recipe",), recipe=shown(recipe), known=", ".join(each.name for each in RECIPES))


class UnknownHyperparameter(HyperparameterError):
    """The recipe has no such hyperparameter."""

    code = "UNKNOWN_HYPERPARAMETER"
    en = "The recipe {recipe} has no hyperparameter '{name}'. It has: {known}."
    pt = "A receita {recipe} não tem o hiperparâmetro '{name}'. Ela tem: {known}."

    def __init__(self, recipe: Recipe, name: str) -> None:
        known = ", ".join(parameter.name for parameter in recipe.parameters)
        super().__init__(shown(name), recipe=recipe.name, known=known)


class HyperparameterNeeded(HyperparameterError):
    """The recipe cannot do without it."""

    code = "HYPERPARAMETER_NEEDED"
    en = "The recipe {recipe} needs the hyperparameter '{name}'."
    pt = "A receita {recipe} precisa do hiperparâmetro '{name}'."

    def __init__(self, recipe: Recipe, name: str) -> None:
        super().__init__(name, recipe=recipe.name)


class RecipeNotOnProvider(Invalid):
    """Another provider than the recipe's."""

    code = "RECIPE_NOT_ON_PROVIDER"
    en = "The recipe {recipe} is not trained by {provider}. Who trains it: {known}."
    pt = "A receita {recipe} não é treinada por {provider}. Quem a treina: {known}."

    def __init__(self, recipe: Recipe, provider: Provider) -> None:
        known = ", ".join(sorted(recipe.providers))
        super().__init__(field=("recipe",), recipe=recipe.name, provider=provider.value, known=known)


class DatasetFormatUnfit(Invalid):
    """The recipe reads other formats."""

    code = "DATASET_FORMAT_UNFIT"
    en = "The recipe {recipe} reads {known}, and this dataset is {format}."
    pt = "A receita {recipe} lê {known}, e este conjunto de dados é {format}."

    def __init__(self, recipe: Recipe, format: str) -> None:
        super().__init__(field=("datasetId",), recipe=recipe.name, known=", ".join(recipe.formats), format=format)


class NotATable(Invalid):
    """The dataset holds pictures."""

    code = "NOT_A_TABLE"
    en = "The recipe {recipe} learns from a table, and this dataset holds pictures; choose another dataset or recipe."
    pt = "A receita {recipe} aprende com uma tabela, e este conjunto contém fotos; escolha outro conjunto ou receita."

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(field=("datasetId",), recipe=recipe.name)


class WrongType(HyperparameterError):
    """A value of another kind."""

    code = "HYPERPARAMETER_TYPE"
    en = "The hyperparameter '{name}' must be {kind}."
    pt = "O hiperparâmetro '{name}' deve ser {kind_pt}."

    def __init__(self, parameter: Parameter) -> None:
        kind, kind_pt = _KIND_WORDS[parameter.kind]
        super().__init__(parameter.name, kind=kind, kind_pt=kind_pt)


class OutOfRange(HyperparameterError):
    """A number too small or too large, or a list too long or empty."""

    code = "HYPERPARAMETER_RANGE"
    en = "The hyperparameter '{name}' must be {rule}."
    pt = "O hiperparâmetro '{name}' deve ser {rule_pt}."

    def __init__(self, parameter: Parameter) -> None:
        limits = f"{parameter.minimum:g}", f"{parameter.maximum:g}"
        rule = "between {} and {}".format(*limits)
        rule_pt = "um valor entre {} e {}".format(*limits)
        if parameter.most is not None:
            rule = f"a list of 1 to {parameter.most} values, each {rule}"
            rule_pt = f"uma lista de 1 a {parameter.most} valores, cada um {rule_pt.removeprefix('um valor ')}"
        super().__init__(parameter.name, rule=rule, rule_pt=rule_pt)


class TooLong(HyperparameterError):
    """A list of names with too many entries."""

    code = "HYPERPARAMETER_TOO_LONG"
    en = "The hyperparameter '{name}' may hold at most {most} values."
    pt = "O hiperparâmetro '{name}' pode ter no máximo {most} valores."

    def __init__(self, parameter: Parameter) -> None:
        super().__init__(parameter.name, most=parameter.most)


class NotAChoice(HyperparameterError):
    """A word that is not one of the possible ones."""

    code = "HYPERPARAMETER_CHOICE"
    en = "The hyperparameter '{name}' must be one of: {choices}."
    pt = "O hiperparâmetro '{name}' deve ser um destes: {choices}."

    def __init__(self, parameter: Parameter) -> None:
        super().__init__(parameter.name, choices=", ".join(parameter.choices))


class ColumnNotInDataset(HyperparameterError):
    """The dataset has no column of that name."""

    code = "COLUMN_NOT_IN_DATASET"
    en = "The dataset has no column '{column}', which '{name}' asks for. It has: {known}."
    pt = "O conjunto de dados não tem a coluna '{column}', pedida em '{name}'. Ele tem: {known}."

    def __init__(self, name: str, column: str, columns: Sequence[str]) -> None:
        super().__init__(name, column=shown(column), known=listed(columns))


class ColumnNeeded(HyperparameterError):
    """Nothing says which column is meant."""

    code = "COLUMN_NEEDED"
    en = "Say in '{name}' which column is meant. The dataset has: {known}."
    pt = "Diga em '{name}' qual é a coluna. O conjunto de dados tem: {known}."

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        super().__init__(name, known=listed(columns))


class ColumnUsedTwice(HyperparameterError):
    """One column cannot be the question and the answer."""

    code = "COLUMN_USED_TWICE"
    en = "The column '{column}' is the target, so '{name}' cannot name it too."
    pt = "A coluna '{column}' é o alvo; '{name}' não pode usá-la também."

    def __init__(self, name: str, column: str) -> None:
        super().__init__(name, column=shown(column))


class ColumnUnfit(HyperparameterError):
    """The column holds what this recipe cannot use."""

    code = "COLUMN_UNFIT"
    en = "The column '{column}' does not fit '{name}': {recipe} needs {needs}."
    pt = "A coluna '{column}' não serve para '{name}': {recipe} precisa de {needs_pt}."

    def __init__(self, name: str, column: str, recipe: Recipe, needs: str, needs_pt: str) -> None:
        super().__init__(name, column=shown(column), recipe=recipe.name, needs=needs, needs_pt=needs_pt)


class NothingToLearnFrom(Invalid):
    """The target is the only column left."""

    code = "NOTHING_TO_LEARN_FROM"
    en = "The dataset has no column beside the target '{column}' to learn from."
    pt = "O conjunto de dados não tem nenhuma coluna além do alvo '{column}' para aprender."

    def __init__(self, column: str) -> None:
        super().__init__(field=("datasetId",), column=shown(column))


class TooFewRows(Invalid):
    """Too little data to learn from and to judge by."""

    code = "TOO_FEW_ROWS"
    en = "The dataset has {rows} rows; at least {fewest} are needed."
    pt = "O conjunto de dados tem {rows} linhas; são necessárias pelo menos {fewest}."

    def __init__(self, rows: int) -> None:
        super().__init__(field=("datasetId",), rows=rows, fewest=FEWEST_ROWS)


def listed(names: Sequence[str]) -> str:
    """The first names, for a sentence."""
    first = ", ".join(shown(name) for name in names[:MOST_SHOWN])
    return f"{first}, …" if len(names) > MOST_SHOWN else first


def shown(text: str) -> str:
    """A name that somebody sent, short enough for a sentence."""
    return text if len(text) <= 60 else f"{text[:59]}…"
