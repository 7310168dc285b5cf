"""The stable codes of all refusals, of all rooms, as one enum."""

import importlib
from enum import StrEnum

from domain.errors import error_codes

ROOMS = ("account", "ai_model", "callback", "dataset", "deployment", "integration", "journal", "training")

for _room in ROOMS:
    importlib.import_module(f"domain.{_room}.errors")
importlib.import_module("domain.training.recipes")
importlib.import_module("domain.training.configs")
importlib.import_module("domain.viewer")
importlib.import_module("domain.paging")

ErrorCode = StrEnum("ErrorCode", {code: code for code in error_codes()})  # type: ignore[misc]  # mypy wants a literal
