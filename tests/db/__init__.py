"""Tests of what a process needs first."""
