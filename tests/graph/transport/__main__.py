"""The toy server as a process of its own: `python -m tests.graph.transport FD`, for tests that send it signals."""

import sys

from domain.clock import SystemClock
from graph.endpoint import GraphQLEndpoint
from graph.guards import Guards
from graph.live.connections import Connections
from graph.server import Server, server_config
from tests.graph.transport.toy import ToyContext, Trace, authenticate, toy_schema


def main(fd: int) -> None:
    connections = Connections(SystemClock(), per_principal=1000, unauthenticated_per_address=1000)
    trace = Trace()
    endpoint = GraphQLEndpoint(
        toy_schema(),
        authenticate=authenticate,
        context_of=lambda viewer, facts: ToyContext(viewer, facts, trace),
        connections=connections,
    )
    config = server_config(Guards(endpoint), host="127.0.0.1", port=0, fd=fd)
    config.lifespan = "off"
    Server(config, drain=connections.drain, on_drain=lambda: print("not ready", flush=True)).run()


main(int(sys.argv[1]))
