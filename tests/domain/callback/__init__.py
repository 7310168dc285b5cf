"""Tests of callbacks and of the tokens that scripts and providers come with."""
