"""What our execution of subscriptions does beside graphql-core's."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import strawberry
from graphql import parse

from graph.executor import Executor, PreparedText, Schema

pytestmark = pytest.mark.anyio

EVENTS = 20_000
memos: list[dict[Any, Any]] = []


class Watched(Executor):
    """Shows the memo of each event's executor."""

    def build_per_event_executor(self, payload: Any) -> Executor:
        executor = super().build_per_event_executor(payload)
        memos[:] = [self._relevant_sub_fields, executor._relevant_sub_fields]
        return executor


@strawberry.type
class Inner:
    number: int


@strawberry.type
class Outer:
    inner: Inner


@strawberry.type
class Query:
    number: int = strawberry.field(resolver=lambda: 1)


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def outer(self) -> AsyncGenerator[Outer, None]:
        for number in range(EVENTS):
            yield Outer(inner=Inner(number=number))


async def test_a_long_subscription_keeps_no_memo_of_its_events() -> None:
    schema = Schema(query=Query, subscription=Subscription, execution_context_class=Watched)
    seen = 0
    results: Any = await schema.subscribe("subscription { outer { inner { number } } }")
    async for result in results:
        assert result.data == {"outer": {"inner": {"number": seen}}}
        seen += 1
    shared, own = memos
    assert seen == EVENTS
    assert len(shared) == 0
    assert len(own) <= 2  # one entry for each level below the root


async def test_a_prepared_text_is_not_parsed_again() -> None:
    schema = Schema(query=Query)
    result = await schema.execute(PreparedText.of("not GraphQL", parse("{ number }")))
    assert (result.data, result.errors) == ({"number": 1}, None)
