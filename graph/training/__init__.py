"""Runs as the outside sees them."""
