"""One toy server for the tests of a module that need no settings of their own."""

from collections.abc import AsyncIterator

import pytest

from tests.graph.transport.toy import Toy, serving


@pytest.fixture(scope="module")
async def toy() -> AsyncIterator[Toy]:
    async with serving() as running:
        yield running
