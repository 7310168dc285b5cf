"""Every refusal of the room says the same in both languages, with a code of its own."""

import inspect
from string import Formatter

import pytest

from domain.account import errors
from domain.error_codes import ErrorCode
from domain.errors import DomainError

REFUSALS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, DomainError) and kind.__module__ == errors.__name__
]


def facts_in(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.__name__)
def test_both_languages_tell_the_same_facts(kind: type[DomainError]) -> None:
    assert {"code", "en", "pt"} <= set(vars(kind))
    assert kind.en != kind.pt
    assert facts_in(kind.en) == facts_in(kind.pt)
    assert kind.code in ErrorCode.__members__


def test_codes_are_not_shared() -> None:
    assert len({kind.code for kind in REFUSALS}) == len(REFUSALS)
