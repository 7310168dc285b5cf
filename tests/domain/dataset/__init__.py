"""Tests of the dataset room's rules."""
