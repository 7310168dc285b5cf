"""Tests of the rules of connected accounts."""
