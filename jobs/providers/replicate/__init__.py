"""Trains with Replicate's public trainers.

`trainer.py` is the adapter. What we ask for is `wish.py`, what a training's JSON says `seen.py`, what that means to a
run `reading.py`; `api.py` speaks with Replicate, `quota.py` keeps to its limits, `webhook.py` tells its calls from
others, and `prices.py` is its price list.
"""
