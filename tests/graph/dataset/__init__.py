"""Tests of the dataset room as GraphQL shows it."""
