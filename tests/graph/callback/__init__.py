"""Tests of what operators see of callbacks."""
