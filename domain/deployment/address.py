"""Where an app is reached."""

from typing import Protocol


class AppsUrl(Protocol):
    """The part of the settings that an address is made of."""

    @property
    def own_apps_url(self) -> str:
        """Origin of served models, without a slash at its end."""
        ...


def address_of(settings: AppsUrl, slug: str) -> str:
    """An app's stable public address, with the slash that its relative links need."""
    return f"{settings.own_apps_url}/apps/{slug}/"
