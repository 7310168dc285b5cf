"""An app's address as a field tells it."""

from domain.deployment.address import address_of
from graph.context import Info
from graph.scalars import URL

__all__ = ["address_of", "url_of"]


def url_of(info: Info, slug: str) -> URL:
    return URL(address_of(info.context.settings, slug))
