"""Tests of the programs that train and serve inside a sandbox."""
