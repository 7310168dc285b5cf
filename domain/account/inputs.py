"""What people type about themselves, checked and in one form."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Self

from domain.account.errors import BadEmail, BadName, BadPassword

LONGEST_EMAIL = 254
"""RFC 5321: a path of 256 with its brackets."""
SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 200
LONGEST_NAME = 200
LONGEST_DEVICE = 400
LONGEST_NORMALIZED = 1000
"""Normalizing takes time that grows with the square of a run of combining marks: minutes for a body of a megabyte.
What is longer is longer than anything we take in any form, and stays as it came."""

_EMAIL = re.compile(r"[^@\s]{1,64}@(?!-)[\w.-]+\Z")
_DOMAIN_FAULT = re.compile(r"^\.|\.\.|\.$|_")


@dataclass(frozen=True, slots=True)
class NewAccount:
    """Who signs up. The password is as `normal_password` makes it, and must not be kept."""

    email: str
    name: str
    password: str

    @classmethod
    def checked(cls, *, email: str, password: str, name: str = "") -> Self:
        """Raises `BadEmail`, `BadPassword` or `BadName`."""
        return cls(email=checked_email(email), name=checked_name(name), password=checked_password(password))

    def __repr__(self) -> str:
        return f"NewAccount({self.email!r})"


@dataclass(frozen=True, slots=True)
class Device:
    """Where a session is used from, as far as the request tells; for people to recognise their own."""

    user_agent: str = ""
    address: str = ""

    @classmethod
    def of(cls, user_agent: str, address: str) -> Self:
        return cls(_one_line(user_agent)[:LONGEST_DEVICE], _one_line(address)[:LONGEST_DEVICE])


def normal_email(text: str) -> str:
    """The form that addresses are compared in. Says nothing about whether it is one."""
    return _normalized(text).strip().lower()


def checked_email(text: str) -> str:
    """The address in its normal form. Raises `BadEmail`."""
    email = normal_email(text)
    domain = email.rpartition("@")[2]
    if len(email) > LONGEST_EMAIL or not email.isprintable() or not _EMAIL.match(email) or _DOMAIN_FAULT.search(domain):
        raise BadEmail(LONGEST_EMAIL)
    return email


def normal_password(text: str) -> str:
    """The same for all keyboards: some compose é of two characters, others of one."""
    return _normalized(text)


def checked_password(text: str) -> str:
    """The password in its normal form. Raises `BadPassword`."""
    password = normal_password(text)
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise BadPassword(SHORTEST_PASSWORD, LONGEST_PASSWORD)
    return password


def checked_name(text: str, *, shortest: int = 0) -> str:
    """The name without blanks around it. Raises `BadName`."""
    name = text.strip()
    if not shortest <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise BadName(LONGEST_NAME, shortest)
    return name


def _normalized(text: str) -> str:
    return unicodedata.normalize("NFKC", text) if len(text) <= LONGEST_NORMALIZED else text


def _one_line(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
