"""Deployments: apps with stable addresses, what answers there at the moment, and what that costs."""
