"""Metrics as series of points, thinned so that a chart keeps its shape."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Self

import strawberry

from domain.training.model import MetricPoint as MetricPointRow


@strawberry.type(description="One value of a metric.")
class MetricPoint:
    step: int = strawberry.field(description="The trainer's step or epoch.")
    value: float = strawberry.field(description="A finite number.")
    at: datetime = strawberry.field(description="When it was reported.")

    @classmethod
    def of(cls, row: MetricPointRow) -> Self:
        return cls(step=row.step, value=row.value, at=row.at)


@strawberry.type(description="The values of one metric in one attempt, by step.")
class MetricSeries:
    name: str = strawberry.field(description="The metric, such as loss.")
    attempt: int = strawberry.field(description="Which attempt of the run reported it.")
    points: list[MetricPoint] = strawberry.field(description="By step, thinned where there are many.")
    total_points: int = strawberry.field(description="How many there are before thinning.")


def series_of(rows: Sequence[MetricPointRow], most: int) -> list[MetricSeries]:
    """One series per name and attempt; the rows come in that order."""
    series = []
    for (name, attempt), group in groupby(rows, key=lambda row: (row.name, row.attempt)):
        points = list(group)
        kept = [MetricPoint.of(row) for row in thinned(points, most)]
        series.append(MetricSeries(name=name, attempt=attempt, points=kept, total_points=len(points)))
    return series


def thinned(rows: list[MetricPointRow], most: int) -> list[MetricPointRow]:
    """At most so many points: the first, the last, and from each stretch between the lowest and the highest."""
    if len(rows) <= most:
        return rows
    inner, stretches = rows[1:-1], max(1, (most - 2) // 2)
    kept = [rows[0]]
    for number in range(stretches):
        stretch = inner[number * len(inner) // stretches : (number + 1) * len(inner) // stretches]
        if stretch:
            extremes = {id(row): row for row in (min(stretch, key=_value), max(stretch, key=_value))}
            kept.extend(sorted(extremes.values(), key=lambda row: row.step))
    return [*kept, rows[-1]][:most] if len(kept) < most else [*kept[: most - 1], rows[-1]]


def _value(row: MetricPointRow) -> float:
    return row.value
