"""What people give to connect an account, checked."""

import re
from dataclasses import dataclass
from typing import Self

from domain.integration.errors import BadIntegrationName, BadProviderKey, NothingToConnect
from domain.secret import Secret
from domain.training.status import Provider

LONGEST_NAME = 100
LONGEST_KEY = 500
_KEY = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class NewIntegration:
    """An account that somebody wants to connect. The key must not be kept as it is."""

    provider: Provider
    name: str
    key: Secret

    @classmethod
    def checked(cls, *, provider: Provider, name: str, key: str) -> Self:
        """Blanks around name and key are taken off, since copying brings them along.

        Raises `NothingToConnect`, `BadIntegrationName`, `BadProviderKey`."""
        if provider is Provider.LOCAL:
            raise NothingToConnect(provider)
        name, key = name.strip(), key.strip()
        if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
            raise BadIntegrationName(LONGEST_NAME)
        if len(key) > LONGEST_KEY or not _KEY.fullmatch(key):
            raise BadProviderKey(LONGEST_KEY)
        return cls(provider, name, Secret(key))
