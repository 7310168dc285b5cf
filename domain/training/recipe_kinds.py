"""What a recipe is made of, as data."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from domain.training.status import Provider


class ParameterKind(StrEnum):
    """What a hyperparameter's value is."""

    INT = "INT"
    FLOAT = "FLOAT"
    STR = "STR"
    BOOL = "BOOL"
    INT_LIST = "INT_LIST"
    STR_LIST = "STR_LIST"
    OBJECT = "OBJECT"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One hyperparameter of a recipe. `default` None means that the trainer chooses by the data."""

    name: str
    kind: ParameterKind
    description: str
    default: Any = None
    minimum: float | None = None
    """Smallest number, or each number's of a list."""
    maximum: float | None = None
    most: int | None = None
    """Longest list."""
    choices: tuple[str, ...] = ()
    is_column: bool = False
    """Whether the value names columns of the dataset."""
    is_required: bool = False


class DatasetUse(StrEnum):
    """What a recipe does with a dataset."""

    TABLE = "TABLE"
    """Learns from its rows; needs one."""
    FILE = "FILE"
    """Hands it over as it is; needs one."""
    OPTIONAL = "OPTIONAL"
    """Hands it over as it is, if there is one."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One thing that can be trained."""

    name: str
    sentence: str
    sentence_pt: str
    formats: tuple[str, ...]
    """The dataset formats it reads."""
    parameters: tuple[Parameter, ...]
    predicts_number: bool = False
    reads_text: bool = False
    providers: frozenset[Provider] = frozenset({Provider.LOCAL, Provider.RUNPOD, Provider.E2B})
    """Who can train it."""
    dataset: DatasetUse = DatasetUse.TABLE
    runs_users_code: bool = False
    """Whether what it runs is its user's own program, and not ours or the provider's."""

    @property
    def is_served_by_us(self) -> bool:
        """Whether what it leaves is a model that we can put online; else it stays where it was trained."""
        return self.dataset is DatasetUse.TABLE

    def parameter(self, name: str) -> Parameter | None:
        """The hyperparameter of that name."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)
