"""Tests of graph/training."""
