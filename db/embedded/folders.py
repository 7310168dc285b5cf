"""Folders that only one account can enter, with paths short enough for a Unix socket."""

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from db.embedded.account import Account
from db.embedded.errors import NoPrivateFolder

SOCKET_PATH_LIMIT_BYTES = 103  # macOS; Linux allows 107


def private_folder(data_dir: Path, purpose: str, account: Account, *, longest_name: str) -> Path:
    """A new, empty folder of mode 0700 owned by `account`: always the same path for the same data and purpose.

    It lies outside of `data_dir`, whose path may be longer than a socket's may be. `longest_name` is the longest file
    name that a socket in it will have. What is left there from an earlier run is removed. A folder that somebody else
    owns or may enter, or a link, is never used: then the next place is tried.
    Raises NoPrivateFolder, which names each place and what is wrong with it.
    """
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    tried: list[str] = []
    for base in _bases(account):
        folder = base / f"runwire-{os.geteuid()}-{digest}-{purpose}"
        if (problem := _problem_of_base(base, account, folder / longest_name)) is None:
            problem = _make_afresh(folder, account)
        if problem is None:
            return folder
        tried.append(f"{folder} ({problem})")
    raise NoPrivateFolder(tried)


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _bases(account: Account) -> list[Path]:
    """Places to try, best first. Root's own runtime folder is closed to the account that PostgreSQL runs as."""
    own = os.environ.get("XDG_RUNTIME_DIR") if account.is_ours else None
    names = [own, tempfile.gettempdir(), "/tmp", "/var/tmp", "/run"]
    return list(dict.fromkeys(Path(name).resolve() for name in names if name))


def _problem_of_base(base: Path, account: Account, longest_path: Path) -> str | None:
    if len(os.fsencode(longest_path)) > SOCKET_PATH_LIMIT_BYTES:
        return f"longer than the {SOCKET_PATH_LIMIT_BYTES} bytes of a socket's path"
    if not base.is_dir() or not os.access(base, os.W_OK | os.X_OK):
        return "not a folder that we may write to"
    status = base.stat()
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
        return "others may rename what is in it"
    if not account.is_ours and any(not part.stat().st_mode & stat.S_IXOTH for part in (base, *base.parents)):
        return "the server's account may not pass through it"
    if not account.is_ours and os.statvfs(base).f_flag & os.ST_NOEXEC:
        return "programs may not be run from it"  # see postgres_binaries.py
    return None


def _make_afresh(folder: Path, account: Account) -> str | None:
    try:
        status = folder.lstat()
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISDIR(status.st_mode):
            return "exists, and is not a folder"
        if status.st_uid not in (account.uid, os.geteuid()) or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return "exists, and belongs to somebody else or is open to others"
        shutil.rmtree(folder)
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        return error.strerror or "cannot be made"
    if not account.is_ours:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    return None
