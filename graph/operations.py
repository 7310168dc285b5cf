"""Running operations: what HTTP, SSE and WebSocket have in common between a well-formed request and its answers."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Generic, TypeVar

import strawberry
from graphql import OperationType
from strawberry.types.execution import ExecutionResult, PreExecutionError

from domain.errors import DomainError, Unavailable
from domain.viewer import Locale, Viewer
from graph.documents import Documents, Prepared, RequestErrors
from graph.faults import Faults, is_unavailable_entry
from graph.limits import DocumentLimits
from graph.transport import GraphQLRequest, RequestFacts, TransportSettings, UnavailableCheck

logger = logging.getLogger("runwire.graph")

ContextT = TypeVar("ContextT")


class AnswerKind(Enum):
    """How far an operation came."""

    EXECUTED = auto()
    """Resolvers ran; the payload has `data`, which may be null."""
    REQUEST_ERROR = auto()
    """Refused before a resolver ran: the payload has no `data`."""
    FAILED = auto()
    """The source of a subscription failed after it had begun: no `data`, and nothing more comes."""
    UNAVAILABLE = auto()
    """No data could be produced because something that we need does not answer."""
    CRASHED = auto()
    """No data could be produced because of a fault of ours."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One GraphQL response, ready to be serialised."""

    kind: AnswerKind
    payload: dict[str, Any]

    @property
    def is_last(self) -> bool:
        """Whether the operation ends with this answer, whatever its kind of operation."""
        return self.kind is not AnswerKind.EXECUTED


class TookTooLong(Unavailable):
    """The execution deadline passed."""

    en = "The answer took longer than {seconds} seconds and was given up. A mutation may have taken effect."
    pt = "A resposta levou mais de {seconds} segundos e foi interrompida. Uma mutação pode ter tido efeito."


class Operations(Generic[ContextT]):
    """Prepares documents, runs them in a context, and turns results into answers."""

    def __init__(
        self,
        schema: strawberry.Schema,
        *,
        context_of: Callable[[Viewer, RequestFacts], ContextT],
        limits: DocumentLimits,
        settings: TransportSettings,
        is_unavailable: UnavailableCheck,
    ) -> None:
        self.schema = schema
        self.context_of = context_of
        self.settings = settings
        self.faults = Faults(is_unavailable=is_unavailable, masking=settings.masking, suggestions=settings.suggestions)
        self.documents = Documents(
            schema, limits, introspection=settings.introspection, suggestions=settings.suggestions
        )

    def prepare(self, request: GraphQLRequest) -> Prepared:
        """The operation that the request asks for. Raises `RequestErrors`."""
        return self.documents.prepare(request.query, request.operation_name)

    async def run(self, prepared: Prepared, request: GraphQLRequest, viewer: Viewer, facts: RequestFacts) -> Answer:
        """The answer to a query or mutation, within the execution deadline. Raises nothing of its own."""
        try:
            async with asyncio.timeout(self.settings.execution_seconds):
                result = await self.schema.execute(
                    prepared.text,
                    variable_values=request.variables,
                    context_value=self.context_of(viewer, facts),
                    operation_name=prepared.operation_name,
                )
        except TimeoutError:
            logger.warning("An operation took too long", extra={"request_id": facts.request_id})
            return self._broken(TookTooLong(seconds=self.settings.execution_seconds), facts)
        except Exception as error:
            return self._broken(error, facts)
        return self._answer(result, facts)

    async def stream(
        self, request: GraphQLRequest, viewer: Viewer, facts: RequestFacts
    ) -> AsyncGenerator[Answer, None]:
        """The answers to an operation of any kind. Closing the iterator ends the subscription and awaits its clean-up.

        Raises `CloseSocket` where the source asks for it."""
        try:
            prepared = self.prepare(request)
        except RequestErrors as refused:
            yield Answer(AnswerKind.REQUEST_ERROR, {"errors": refused.errors})
            return
        except Exception as error:
            yield self._broken(error, facts)
            return
        if prepared.kind is not OperationType.SUBSCRIPTION:
            yield await self.run(prepared, request, viewer, facts)
            return
        async with aclosing(self._subscribe(prepared, request, viewer, facts)) as answers:
            async for answer in answers:
                yield answer

    async def _subscribe(
        self, prepared: Prepared, request: GraphQLRequest, viewer: Viewer, facts: RequestFacts
    ) -> AsyncGenerator[Answer, None]:
        try:
            results = await self.schema.subscribe(
                prepared.text,
                variable_values=request.variables,
                context_value=self.context_of(viewer, facts),
                operation_name=prepared.operation_name,
            )
        except Exception as error:
            yield self._broken(error, facts)
            return
        async with aclosing(results):
            async for result in results:
                answer = self._answer(result, facts)
                yield answer
                if answer.is_last:
                    return

    def _answer(self, result: Any, facts: RequestFacts) -> Answer:
        assert isinstance(result, ExecutionResult)  # incremental delivery is off
        errors = self.faults.of_result(result.errors or [], facts.locale, facts.request_id)
        payload: dict[str, Any] = {"errors": errors} if errors else {}
        if result.extensions:
            payload["extensions"] = result.extensions
        if result.data is None and _nothing_ran(result):
            kind = AnswerKind.REQUEST_ERROR if _is_of_request(result) else AnswerKind.FAILED
            if any(is_unavailable_entry(entry) for entry in errors):
                kind = AnswerKind.UNAVAILABLE
            return Answer(kind, payload)
        payload = {"data": result.data, **payload}
        if result.data is None and any(is_unavailable_entry(entry) for entry in errors):
            return Answer(AnswerKind.UNAVAILABLE, payload)
        return Answer(AnswerKind.EXECUTED, payload)

    def _broken(self, error: BaseException, facts: RequestFacts) -> Answer:
        entry = self.faults.of_exception(error, facts.locale, facts.request_id)
        if is_unavailable_entry(entry):
            kind = AnswerKind.UNAVAILABLE
        else:
            kind = AnswerKind.REQUEST_ERROR if isinstance(error, DomainError) else AnswerKind.CRASHED
        return Answer(kind, {"errors": [entry]})


def _nothing_ran(result: ExecutionResult) -> bool:
    """Whether this is no response of an execution: a subscription that could not begin or whose source failed, or
    variables that cannot be used. An executed field that fails tells its path."""
    return isinstance(result, PreExecutionError) or not any(error.path for error in result.errors or [])


def _is_of_request(result: ExecutionResult) -> bool:
    """Whether the request itself is at fault; the failure of a source has an exception behind it and no nodes."""
    return isinstance(result, PreExecutionError) or all(error.nodes for error in result.errors or [])


def locale_of(viewer: Viewer, asked: Locale | None) -> Locale:
    """The language to answer in: what the request asks for, else what the viewer prefers."""
    return asked or viewer.locale


def as_graphql_error(message: str, code: str, **extensions: Any) -> dict[str, Any]:
    """An answer that consists of one error."""
    return {"errors": [{"message": message, "extensions": {"code": code, **extensions}}]}
