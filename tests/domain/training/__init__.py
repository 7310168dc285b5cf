"""Tests of runs: their life, progress, recipes."""
