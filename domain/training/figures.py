"""What providers are worth, in numbers over all users: how often, how soon, at what price. For operators only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel.ext.asyncio.session import AsyncSession

from domain.training.status import Provider


@dataclass(frozen=True, slots=True)
class ProviderFigures:
    """Of all attempts that were begun at one provider since then."""

    provider: Provider
    attempts: int
    succeeded: int
    failed: int
    canceled: int
    without_capacity: int
    seconds_to_start_median: float | None
    """From asking the provider until the training began."""
    seconds_to_start_95: float | None
    cost_micros: int
    failed_cost_micros: int
    """Of attempts that ended otherwise than well."""
    failed_cost_micros_highest: int
    eta_predictions: int
    eta_within: int
    """How many of them held the true end in their range."""
    eta_error_median: float | None
    """As a part of the time that was really left."""

    @property
    def success_rate(self) -> float | None:
        """Of attempts that ended well or failed; None where there is none."""
        ended = self.succeeded + self.failed
        return self.succeeded / ended if ended else None


_FIGURES: Any = sa.text("SELECT * FROM provider_figures(:since, :of_tests)").bindparams(
    sa.bindparam("since", type_=sa.DateTime(timezone=True)), sa.bindparam("of_tests", type_=sa.Boolean)
)


async def provider_figures(session: AsyncSession, *, since: datetime, test: bool) -> list[ProviderFigures]:
    """By provider; of runs in test mode or of real ones. The work must be an operator's, else there are none."""
    rows = (await session.exec(_FIGURES, params={"since": since, "of_tests": test})).all()
    return [ProviderFigures(**{**row._mapping, "provider": Provider(row.provider)}) for row in rows]
