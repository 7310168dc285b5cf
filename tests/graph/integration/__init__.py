"""Tests of connected accounts as GraphQL shows them."""
