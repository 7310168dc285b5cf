"""Why an embedded server cannot be had, in sentences for the person at the terminal.

EmbeddedServerError
├── AlreadyRunning      another process holds this data directory
├── CannotUse           the data directory belongs to somebody else, or cannot be written
├── BinaryMissing       there is no program to start
├── DidNotStart         the program ended or stayed silent; the end of its log is in the message
├── NoPrivateFolder     no folder for sockets that nobody else can enter
├── NoServerAccount     we are root, and the account that PostgreSQL has to run as cannot be made
└── WrongVersion        the data was written by another major version
"""

from pathlib import Path


class EmbeddedServerError(RuntimeError):
    """An embedded server could not be started or asked."""


class AlreadyRunning(EmbeddedServerError):
    def __init__(self, data_dir: Path, pid: int | None) -> None:
        self.data_dir = data_dir
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"The servers in {data_dir} are already run by {holder}. Stop it first, or choose another DATA_DIR."
        )


class CannotUse(EmbeddedServerError):
    def __init__(self, data_dir: Path, error: OSError) -> None:
        self.data_dir = data_dir
        super().__init__(
            f"The data directory {data_dir} cannot be used: {error}. "
            "If another user made it, run Runwire as that user or choose another DATA_DIR."
        )


class BinaryMissing(EmbeddedServerError):
    def __init__(self, program: str, cure: str) -> None:
        self.program = program
        super().__init__(f"There is no {program} on this machine. {cure}")


class DidNotStart(EmbeddedServerError):
    def __init__(self, program: str, reason: str, log_tail: str) -> None:
        self.program = program
        self.log_tail = log_tail
        super().__init__(f"{program} did not start: {reason}. The end of its log:\n{log_tail or '(the log is empty)'}")


class NoPrivateFolder(EmbeddedServerError):
    def __init__(self, tried: list[str]) -> None:
        self.tried = tried
        super().__init__(
            "There is no private folder for the sockets. Set XDG_RUNTIME_DIR or TMPDIR to a short path that you own. "
            "Tried: " + "; ".join(tried)
        )


class NoServerAccount(EmbeddedServerError):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"PostgreSQL refuses to run as root, and the account {name!r} for it could not be made. "
            f"Make it (useradd --system {name}), run Runwire as an ordinary user, or set DATABASE_URL."
        )


class WrongVersion(EmbeddedServerError):
    def __init__(self, folder: Path, found: str, wanted: str) -> None:
        self.found = found
        self.wanted = wanted
        super().__init__(
            f"The data in {folder} was written by PostgreSQL {found}, and this Runwire brings {wanted}. "
            "Dump it with the old version and load it into a new DATA_DIR."
        )
