"""Tests of the deployment room."""
