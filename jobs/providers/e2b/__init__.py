"""Trains, and runs programs, in sandboxes at E2B.

`trainer.py` is the adapter; it stands on `sandboxes.py`, which makes sandboxes and runs anything in them, through
E2B's own package. `control.py` reads what that package hides, `errors.py` turns its errors into ours, `glimpse.py` is
one look at a program. The shell scripts are what runs inside of a sandbox: `launch.sh` starts a program once, `run.sh`
keeps its log and its end, `look.sh` shows them, `train.sh` is a training, `fetch_data.py` gets its data.
"""
