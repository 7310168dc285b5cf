"""Become another program, as a given account, that ends when its parent does. Run as a script, before any package.

    python -I -S launch.py <parent pid> <signal> <uid> <gid> <program> <argument>…

A script, since `subprocess` offers the moment between fork and exec only to `preexec_fn`, which is not safe in a
process with threads. The order matters: Linux forgets the wish for a signal whenever the account changes.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, signal_number, uid, gid = (int(argument) for argument in sys.argv[1:5])
    program = sys.argv[5:]
    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent ended before its server began")  # too early for the signal
    os.umask(0o077)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
