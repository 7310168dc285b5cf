"""The registry of what is open."""

from datetime import timedelta

import pytest

from domain.clock import FixedClock
from graph.live.connections import (
    ConnectionKind,
    Connections,
    CredentialRefused,
    Ending,
    TooManyConnections,
    close_reason,
)
from tests.graph.transport.toy import ALICES_SESSION, BOBS_SESSION, NOW, alice, bob

pytestmark = pytest.mark.anyio


async def test_a_connection_is_renewed_by_its_own_user_only() -> None:
    connections = Connections(FixedClock(NOW))
    with connections.opened(ConnectionKind.SOCKET, "10.0.0.1", alice(NOW)) as connection:
        with pytest.raises(CredentialRefused):
            connection.renew(bob())
        assert connection.viewer == alice(NOW)
        connection.renew(alice(NOW + timedelta(hours=1)))
        assert connections.close_expired() == 0
        assert connection.ending is None


async def test_the_first_to_close_decides_the_code() -> None:
    connections = Connections(FixedClock(NOW))
    with connections.opened(ConnectionKind.STREAM, "10.0.0.1", alice(NOW)) as connection:
        assert connections.close_expired() == 1
        connection.close(1012, "Service restart")
        assert await connection.ended() == Ending(4403, "The credential has expired: come back with a new one.")


async def test_only_what_is_open_is_counted() -> None:
    connections = Connections(FixedClock(NOW), per_principal=1, unauthenticated_per_address=1)
    with connections.opened(ConnectionKind.SOCKET, "10.0.0.1") as first:
        connections.identify(first, alice())
        with connections.opened(ConnectionKind.STREAM, "10.0.0.1") as second:
            with pytest.raises(TooManyConnections):
                connections.identify(second, alice())
            assert second.viewer.is_nobody
            with pytest.raises(TooManyConnections), connections.opened(ConnectionKind.SOCKET, "10.0.0.1"):
                pass
            connections.identify(second, bob())
            assert connections.counts() == {"SOCKET": 1, "STREAM": 1}
            assert connections.credential_ids() == {ALICES_SESSION, BOBS_SESSION}
    assert (len(connections), list(connections)) == (0, [])
    with connections.opened(ConnectionKind.SOCKET, "10.0.0.1", alice()):
        assert connections.close_credential(BOBS_SESSION, "Revoked.") == 0


@pytest.mark.parametrize(
    ("text", "cut"), [("short", "short"), ("x" * 200, "x" * 123), ("é" * 100, "é" * 61), ("\ud800", "?")]
)
def test_reasons_fit_a_close_frame(text: str, cut: str) -> None:
    assert close_reason(text) == cut
