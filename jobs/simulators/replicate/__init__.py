"""Replicate's HTTP API for trainings, as the vendor documents it and as its own SDK's recordings show it.

`simulator.py` has the routes, `training.py` a training's life, `trainer_log.py` what its trainer prints, `catalog.py`
the public trainers and prices, `webhooks.py` the calls to the outside, `scenarios.py` what can happen.
"""

from jobs.simulators.replicate.simulator import ReplicateSimulator

__all__ = ["ReplicateSimulator"]
