"""Makes an interpreter ready for a program, on a machine of which nothing is known but that it has some Python 3.

    python3 prepare.py 3.11        reads `requirements.lock`, writes the interpreter's path into `python`

Where this very Python has the wanted version and exactly the pinned packages, it is taken as it is, in milliseconds and
without the network. Else `uv` makes an environment with that version of Python, and checks each package's hash.
"""

import importlib.metadata
import os
import re
import subprocess
import sys

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;\s*python_full_version\s*(<|>=)\s*'([\d.]+)')?")


def pins(text: str, version: "tuple[int, ...]") -> "list[tuple[str, str]]":
    found = []
    for line in text.splitlines():
        match = PIN.match(line)
        if not match:
            continue
        name, pinned, sign, limit = match.groups()
        if sign:
            older = version < tuple(int(part) for part in limit.split("."))
            if older != (sign == "<"):
                continue
        found.append((name, pinned))
    return found


def has_all(wanted: "list[tuple[str, str]]") -> bool:
    for name, pinned in wanted:
        try:
            if importlib.metadata.version(name) != pinned:
                return False
        except importlib.metadata.PackageNotFoundError:
            return False
    return True


def main() -> int:
    python = sys.argv[1]
    version = tuple(int(part) for part in python.split("."))
    with open("requirements.lock", encoding="utf-8") as file:
        wanted = pins(file.read(), version)
    chosen = sys.executable
    if sys.version_info[:2] == version and has_all(wanted):
        print(f"This machine has Python {python} and all {len(wanted)} packages already.", flush=True)
    else:
        print(f"Installing Python {python} and {len(wanted)} packages, checked by their hashes.", flush=True)
        # A folder of its own: an image's own packages may be managed by somebody else.
        subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", "--target", ".uv", "uv"])
        uv = [os.path.join(".uv", "bin", "uv")]
        subprocess.check_call([*uv, "venv", "--quiet", "--python", python, ".venv"])
        chosen = os.path.abspath(os.path.join(".venv", "bin", "python"))
        install = ["pip", "install", "--quiet", "--python", chosen, "--require-hashes", "-r", "requirements.lock"]
        subprocess.check_call([*uv, *install])
    with open("python", "w", encoding="utf-8") as file:
        file.write(chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
