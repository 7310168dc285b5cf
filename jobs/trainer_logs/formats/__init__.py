"""One module per trainer format; each has a name and reads one piece of text. All of them: `registry.py`."""
