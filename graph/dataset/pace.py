"""How fast bytes must come and go."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits of one upload or download under way."""

    idle_seconds: float = 30.0
    """An upload that sends nothing for so long is refused."""
    send_seconds: float = 60.0
    """A reader who takes nothing for so long is let go."""
    check_seconds: float = 10.0
    """How often a download notes how far it came, and looks whether its grant still stands."""
    block_bytes: int = 256 * 1024
    """How much of a download is read and sent at once."""
