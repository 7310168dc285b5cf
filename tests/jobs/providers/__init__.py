"""Tests of the adapters to providers."""
