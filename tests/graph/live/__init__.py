"""Tests of graph/live."""
