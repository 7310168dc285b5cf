"""The account of the system that a server runs as.

PostgreSQL refuses to run as root. Then, and only then, it runs as an account of its own, which owns its data and its
sockets and nothing else; root enters both anyway.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass

from db.embedded.errors import NoServerAccount

NAME = "runwire-postgres"


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        return self.uid == os.geteuid()


def our_account() -> Account:
    return Account(os.geteuid(), os.getegid())


def postgres_account() -> Account:
    """Our own account; for root the account `runwire-postgres`, which is made when it is missing.

    Raises NoServerAccount when it cannot be made.
    """
    if os.geteuid() != 0:
        return our_account()
    entry = _entry_of(NAME) or _make(NAME)
    return Account(entry.pw_uid, entry.pw_gid)


def _entry_of(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _make(name: str) -> pwd.struct_passwd:
    program = shutil.which("useradd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program:
        subprocess.run(
            [program, "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", name],
            capture_output=True,
            check=False,  # it also fails when another process has just made the account
        )
    entry = _entry_of(name)
    if entry is None:
        raise NoServerAccount(name)
    return entry
