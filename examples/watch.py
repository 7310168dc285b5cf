"""Watch a training run from Python with gql, however often the connection breaks.

    pip install "gql[websockets]>=4.4,<5"
    RUNWIRE_URL=http://127.0.0.1:8000 RUNWIRE_TOKEN=… python examples/watch.py RUN

`follow` is the part to take with you. Exit code: 0 READY, 1 FAILED, 3 CANCELED.
"""

import asyncio
import os
import random
import sys
from collections.abc import AsyncGenerator
from typing import Any

from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.websockets import WebsocketsTransport

FOLLOW = """
subscription Follow($id: ID!, $after: Cursor) {
  trainingRun(id: $id, after: $after) {
    __typename seq firstSeq cursor status progress etaSeconds message
    ... on RunLogged { lines { line text } }
    run { endReason errorMessage deploymentUrl }
  }
}
"""
STARTS_ANEW = ("Snapshot", "Gap")
"""Messages that tell the whole state, whatever was known before."""
PASSING = frozenset({"UNAVAILABLE", "INTERNAL"})
"""Errors that end a subscription and may be gone at the next try."""
LASTING = frozenset({4400, 4401, 4403, 4406, 4409, 4429})
"""Close codes that coming back with the same words cannot cure; 4403 asks for another token."""
PING_SECONDS = 20
"""A connection that leaves our ping unanswered for so long is dead, even if nobody closed it."""


async def follow(url: str, token: str, run_id: str) -> AsyncGenerator[dict[str, Any], None]:
    """Every message of the run once and in order, to its end, over as many connections as it takes."""
    cursor: str | None = None
    seq: int | None = None
    failures = 0
    while True:
        transport = WebsocketsTransport(
            url=url.replace("http", "ws", 1) + "/graphql",
            subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
            init_payload={"authorization": f"Bearer {token}"},
            ping_interval=PING_SECONDS,
            pong_timeout=PING_SECONDS,
        )
        try:
            async with Client(transport=transport) as session:
                request = GraphQLRequest(FOLLOW, variable_values={"id": run_id, "after": cursor})
                async for data in session.subscribe(request):
                    message = data["trainingRun"]
                    if message["__typename"] not in STARTS_ANEW and seq is not None and message["firstSeq"] != seq + 1:
                        raise TransportError("A number is missing: resume from the cursor.")
                    cursor, seq, failures = message["cursor"], message["seq"], 0
                    yield message
                return
        except (TransportError, TimeoutError) as error:
            if not may_pass(error):
                raise
            failures += 1
            # A random time, longer after each failure, so that many clients do not come back in one instant.
            await asyncio.sleep(random.uniform(0, min(10, 0.25 * 2**failures)))


def may_pass(error: Exception) -> bool:
    """Whether coming back can help: the connection broke, or the server asked for another try."""
    if isinstance(error, TransportQueryError):
        return any(told.get("extensions", {}).get("code") in PASSING for told in error.errors or ())
    closing = getattr(error.__cause__, "rcvd", None)
    return closing is None or closing.code not in LASTING


def words_of(error: Exception) -> str:
    """What the server said, where it said something."""
    if isinstance(error, TransportQueryError) and error.errors:
        return str(error.errors[0].get("message"))
    closing = getattr(error.__cause__, "rcvd", None)
    return closing.reason if closing is not None else str(error)


async def main(run_id: str) -> int:
    """Print what happens; the exit code tells the end."""
    url = os.environ.get("RUNWIRE_URL", "http://127.0.0.1:8000").rstrip("/")
    message: dict[str, Any] = {}
    async for message in follow(url, os.environ["RUNWIRE_TOKEN"], run_id):
        print(f"{message['seq']:>4}  {message['progress']:5.1f} %  {message['status']:<10} {message['__typename']}")
        for line in message.get("lines", ()):
            print(f"      | {line['text']}")
    print(message["run"]["deploymentUrl"] or message["run"]["errorMessage"] or message["status"])
    return {"READY": 0, "CANCELED": 3}.get(message["status"], 1)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        sys.exit(asyncio.run(main(sys.argv[1])))
    except (TransportError, TimeoutError) as ended:
        sys.exit(words_of(ended))
