"""Documents on their way from text to execution: parsed within limits, validated once, remembered."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import strawberry
from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSyntaxError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    parse,
    specified_rules,
    validate,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from graph.executor import PreparedText
from graph.limits import DOCUMENT_TOO_LARGE, DocumentLimits, Measure
from graph.wording import without_given

PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
OPERATION_UNCLEAR = "OPERATION_RESOLUTION_FAILURE"

LONGEST_KEPT_TEXT = 64 * 1024
"""Longer documents, with whole files as string literals, are not remembered."""
MOST_ERRORS = 50


class RequestErrors(Exception):
    """A request that is refused before any resolver ran, with the `errors` to answer."""

    def __init__(self, errors: Sequence[dict[str, Any]]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(error["message"] for error in errors))


@dataclass(frozen=True, slots=True)
class Prepared:
    """One operation of a valid document, ready to be executed."""

    text: PreparedText
    operation_name: str | None
    kind: OperationType


@dataclass(frozen=True, slots=True)
class _Entry:
    text: PreparedText | None
    errors: tuple[dict[str, Any], ...]
    """As they are told: the errors themselves would keep the syntax tree and their tracebacks alive."""
    size: int


class Documents:
    """The least recently used documents of a process, valid and invalid ones alike: a client that repeats a broken
    document costs no more than one that repeats a good one."""

    def __init__(
        self,
        schema: strawberry.Schema,
        limits: DocumentLimits,
        *,
        introspection: bool = True,
        suggestions: bool = True,
        most_entries: int = 500,
        most_bytes: int = 4 * 1024 * 1024,
    ) -> None:
        self.schema = schema
        self.limits = limits
        self.suggestions = suggestions
        self.most_entries = most_entries
        self.most_bytes = most_bytes
        self.bytes = 0
        self.misses = 0
        self._rules = [*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule]
        if not introspection:
            self._rules.append(NoSchemaIntrospectionCustomRule)
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def prepare(self, text: str, operation_name: str | None = None) -> Prepared:
        """The operation to execute. Raises `RequestErrors`."""
        entry = self._entry(text)
        if entry.text is None:
            raise RequestErrors(entry.errors)
        operation = _choose(entry.text.document, operation_name)
        return Prepared(entry.text, operation.name.value if operation.name else None, operation.operation)

    def _entry(self, text: str) -> _Entry:
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        known = self._entries.get(key)
        if known is not None:
            self._entries.move_to_end(key)
            return known
        self.misses += 1
        entry = self._read(text)
        if entry.size <= LONGEST_KEPT_TEXT:
            self._entries[key] = entry
            self.bytes += entry.size
            while len(self._entries) > self.most_entries or self.bytes > self.most_bytes:
                _, dropped = self._entries.popitem(last=False)
                self.bytes -= dropped.size
        return entry

    def _read(self, text: str) -> _Entry:
        try:
            document = parse(text, max_tokens=self.limits.tokens)
            Measure(self.limits).check(document)
        except GraphQLSyntaxError as error:
            too_long = f"more than {self.limits.tokens} tokens" in error.message
            return _refused(text, [error], DOCUMENT_TOO_LARGE if too_long else PARSE_FAILED)
        except GraphQLError as error:
            return _refused(text, [error], VALIDATION_FAILED)
        errors = validate(
            self.schema._schema,
            document,
            self._rules,
            max_errors=MOST_ERRORS,
            hide_suggestions=not self.suggestions,
        )
        if errors:
            return _refused(text, errors, VALIDATION_FAILED)
        return _Entry(PreparedText.of(text, document), (), len(text))


def _refused(text: str, errors: Sequence[GraphQLError], code: str) -> _Entry:
    return _Entry(None, tuple(_told(error, code) for error in errors), len(text))


def _told(error: GraphQLError, code: str) -> dict[str, Any]:
    told = {**error.formatted, "message": without_given(error.message)}
    return {**told, "extensions": {"code": code, **(error.extensions or {})}}


def _choose(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if name is not None:
        operations = [node for node in operations if node.name and node.name.value == name]
        if not operations:
            raise RequestErrors([_unclear(f"There is no operation named '{name[:100]}' in this document.")])
    if not operations:
        raise RequestErrors([_unclear("This document holds no operation.")])
    if len(operations) > 1:
        raise RequestErrors([_unclear("This document holds several operations: say which one by 'operationName'.")])
    return operations[0]


def _unclear(message: str) -> dict[str, Any]:
    return {"message": message, "extensions": {"code": OPERATION_UNCLEAR}}
