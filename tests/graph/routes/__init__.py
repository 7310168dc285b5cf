"""Tests of the plain HTTP doors."""
