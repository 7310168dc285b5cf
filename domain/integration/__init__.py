"""A user's own accounts at providers: their keys, encrypted, tested, chosen per run, never shown again."""

from domain.integration.service import connect, disconnect, note_tested

__all__ = ["connect", "disconnect", "note_tested"]
