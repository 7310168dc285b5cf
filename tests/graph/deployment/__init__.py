"""Tests of graph/deployment."""
