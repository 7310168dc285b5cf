"""Accounts as the outside sees them."""
