"""Adapters to those who do the work; `base.py` says what they have in common."""
