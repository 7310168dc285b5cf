"""What this installation can do and allows, from its settings."""

from functools import cache

from domain.training.starting import Offer
from domain.training.status import Provider
from graph.context import Context

REMOTE = (Provider.REPLICATE, Provider.RUNPOD, Provider.ASTRIA, Provider.E2B)


def offer_of(context: Context) -> Offer:
    """The operator's accounts, limits, and who can reach us."""
    settings = context.settings
    offered = {provider for provider in REMOTE if settings.api_key_of(provider) is not None}
    runs_sandboxes = not settings.is_production or settings.sandbox_in_production
    if runs_sandboxes:
        offered.add(Provider.LOCAL)
    return Offer(
        providers=frozenset(offered),
        active_runs_per_user=settings.active_runs_per_user,
        time_limit_seconds=settings.run_time_limit_seconds,
        longest_time_limit_seconds=settings.longest_time_limit_seconds,
        unreachable=frozenset(provider for provider in REMOTE if not settings.reaches(provider)),
        public_url=settings.own_url,
        has_simulators=bool(settings.simulators_url),
        scenarios={provider: frozenset(plays) for provider, plays in played(context).items()},
        serves_remote_models=runs_sandboxes,
        plays_commands=runs_sandboxes,
    )


def played(context: Context) -> dict[Provider, dict[str, str]]:
    """What can be played in test mode, where there is one: by provider, name → what happens."""
    return dict(_scenarios()) if context.settings.simulators_url else {}


@cache
def _scenarios() -> dict[Provider, dict[str, str]]:
    from jobs.simulators.server import scenarios

    return scenarios()
