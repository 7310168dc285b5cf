"""Tests of what happens later and elsewhere."""
