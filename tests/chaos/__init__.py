"""The whole product in a storm: many runs at all providers, while workers, APIs and Redis are killed at random.

Afterwards what the product says is compared with what the simulators know to be true. `make chaos SEEDS=n` plays it in
full; `make test` plays one seed with twenty runs.
"""
