"""Servers that speak each vendor's wire protocol: the test bed, and the free test mode that partners build against.

They share no code with the adapters in `jobs/providers/`, so that a mistake in one is not repeated in the other.
"""
