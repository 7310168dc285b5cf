"""Measures what the product promises in time, as ratios and CPU time, on this machine: `make bench`."""
