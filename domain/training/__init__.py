"""Runs: a user's wish to have something trained, its numbered tries, and what they said."""
