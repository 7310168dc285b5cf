"""Astria's API for tunes and prompts, simulated: `AstriaSimulator`.

What the vendor documents is done as documented. What it does not document (the bodies of most errors, how a failed
tune looks, when the money is taken) is done as users of it report, and is marked so where it is done.
"""

from jobs.simulators.astria.simulator import AstriaSimulator

__all__ = ["AstriaSimulator"]
