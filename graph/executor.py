"""Execution of documents that were parsed, measured and validated before, without graphql-core's leak per event."""

from typing import Any

import strawberry
from graphql import DocumentNode, GraphQLError
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types import ExecutionContext


class Executor(StrawberryGraphQLCoreExecutionContext):
    """The `execution_context_class` of our schema.

    graphql-core 3.3.2 hands one memo of collected fields to the executors of all events of a subscription, but its
    keys are ids of lists that are new for each event: it grows for as long as the subscription is open, and is never
    hit. Each event gets a memo of its own here, and a fresh context where the context knows how to make one, so that
    a DataLoader never answers with what was true an event ago."""

    def build_per_event_executor(self, payload: Any) -> "Executor":
        executor = super().build_per_event_executor(payload)
        assert isinstance(executor, Executor)  # a copy of this one
        executor._relevant_sub_fields = {}
        fresh = getattr(self.context_value, "fresh", None)
        if fresh is not None:
            executor.context_value = fresh()
        return executor


class PreparedText(str):
    """A document's text that carries its valid syntax tree along."""

    document: DocumentNode

    @classmethod
    def of(cls, text: str, document: DocumentNode) -> "PreparedText":
        prepared = cls(text)
        prepared.document = document
        return prepared


class Schema(strawberry.Schema):
    """A Strawberry schema that neither parses nor validates a `PreparedText` again, and leaves logging of errors to
    the transport, which gives them their id. Takes what `strawberry.Schema` takes; the executor is ours by default."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("execution_context_class", Executor)
        super().__init__(*args, **kwargs)

    def _create_execution_context(self, query: str | None, *args: Any, **kwargs: Any) -> ExecutionContext:
        context = super()._create_execution_context(query, *args, **kwargs)
        if isinstance(query, PreparedText):
            context.graphql_document = query.document
            context.validation_rules = ()
        return context

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Nothing: `graph.faults` logs what clients are not told."""
