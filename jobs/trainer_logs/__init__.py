"""Reads what trainers print: progress, time left, loss, and lines for people, whatever wrote the log.

`reader.py` is the door. A growing text is cut into pieces (`pieces.py`), cleaned (`text.py`), and shown to the formats
of `registry.py`, one module per trainer; what they understood (`sign.py`) decides how far the training is
(`following.py`), and `refreshes.py` which looks of a bar people see. Our own programs write structured lines
(`structured.py`).
"""

from jobs.trainer_logs.reader import LogReader, Said

__all__ = ["LogReader", "Said"]
