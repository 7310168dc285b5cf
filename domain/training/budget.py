"""How long a run may still go on before it has cost what its owner allowed. Plain numbers; money in micro-dollars."""

MICROS_SECONDS_PER_HOUR = 3600
STOPPING_SECONDS = 10.0
"""What asking a provider to stop may take; a run is stopped so long before its budget is used up."""


def spent_by_now(known_micros: int, price_micros_per_hour: int, seconds_since_known: float) -> int:
    """What it has cost by now, when it was known to have cost so much some seconds ago."""
    grown = price_micros_per_hour * max(0.0, seconds_since_known) / MICROS_SECONDS_PER_HOUR
    return known_micros + round(grown)


def seconds_left(budget_micros: int, spent_micros: int, price_micros_per_hour: int) -> float:
    """How long it may go on until it must be asked to stop; zero or less: now. Endless where time costs nothing."""
    left = budget_micros - spent_micros
    if price_micros_per_hour <= 0:
        return float("inf") if left >= 0 else 0.0
    return left * MICROS_SECONDS_PER_HOUR / price_micros_per_hour - STOPPING_SECONDS
