"""Tests of the sandboxes of this machine, with real processes."""
