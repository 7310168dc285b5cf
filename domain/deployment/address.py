"""Where an app is reached, and how a deployment is asked for that nobody else is sent to yet."""

from typing import Protocol
from uuid import UUID

DEPLOYMENT_HEADER = "X-Runwire-Deployment"
"""Names the deployment that a proof is meant for; counts only beside a token for it, and is never passed on."""

RUN_HEADER = "X-Runwire-Run"
"""An app may name its run with each answer; an answer of another run is never passed on."""


class AppsUrl(Protocol):
    """The part of the settings that an address is made of."""

    @property
    def own_apps_url(self) -> str:
        """Origin of served models, without a slash at its end."""
        ...


def address_of(settings: AppsUrl, slug: str) -> str:
    """An app's stable public address, with the slash that its relative links need."""
    return f"{settings.own_apps_url}/apps/{slug}/"


def proof_subject(slug: str, deployment_id: UUID) -> str:
    """What the token of a proof is for: one deployment at one address."""
    return f"{slug}/{deployment_id}"
