"""What a trainer prints, piece by piece with the second at which it is there.

The forms are those of `replicate/flux-fine-tuner`: bars that are refreshed with a carriage return, other bars before
the trainer's own, and lines about packing the weights after it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.simulators.kit import seeded

Piece = tuple[float, str]

CAPTIONS_FRACTION = 0.08
TRAINING_FRACTION = 0.90
BARS = 60
IMAGES = 12
RATE = 1.6
"""Steps per second, as the trainer itself says; real time is shorter in a simulation."""


@dataclass(frozen=True, slots=True)
class LogPlan:
    """How a training's log comes to be."""

    job_name: str
    steps: int
    seconds: float
    """From the begin of the work to its end."""
    seed: str
    last_fraction: float = 1.0
    """How far the bar comes."""
    padding_characters: int = 0


def pieces_of(plan: LogPlan) -> list[Piece]:
    """The whole log of a training that is let run."""
    pieces: list[Piece] = [(0.0, "Downloading input_images\n")]
    captions_end = plan.seconds * CAPTIONS_FRACTION
    pieces.append((0.2 * captions_end, f"Extracted {IMAGES} files from the archive\n"))
    for done in range(0, IMAGES + 1, 4):
        at = captions_end * (0.3 + 0.5 * done / IMAGES)
        pieces.append((at, "\r" + _bar("Captioning images", done, IMAGES, 5.16, "")))
    pieces.append((0.85 * captions_end, "\n"))
    pieces.append((0.9 * captions_end, _bar("Caching latents to disk", IMAGES, IMAGES, 35.7, "") + "\n"))
    pieces.extend(_padding(plan, captions_end))
    training_seconds = plan.seconds * TRAINING_FRACTION - captions_end
    chance = seeded(0, plan.seed, "loss")
    bars = min(BARS, plan.steps)
    for bar in range(bars + 1):
        fraction = bar / bars
        if fraction > plan.last_fraction and bar:
            break
        step = round(plan.steps * fraction)
        loss = 0.26 + 0.34 * math.exp(-3 * fraction) + chance.uniform(-0.02, 0.02)
        text = _bar(plan.job_name, step, plan.steps, RATE if step else None, f"lr: 4.0e-04 loss: {loss:.3e}")
        pieces.append((captions_end + training_seconds * fraction, "\r" + text))
    if 0.99 <= plan.last_fraction < 1:
        step = min(plan.steps - 1, round(plan.steps * 0.99))
        text = _bar(plan.job_name, step, plan.steps, RATE, "lr: 4.0e-04 loss: 2.710e-01")
        pieces.append((captions_end + training_seconds * 0.99, "\r" + text))
    if plan.last_fraction >= 1:
        packing = plan.seconds * TRAINING_FRACTION
        rest = plan.seconds - packing
        pieces.append((packing, "\n"))
        pieces.append((packing + 0.1 * rest, f"Saving at step {plan.steps}\n"))
        pieces.append((packing + 0.4 * rest, "Packing weights into trained_model.tar\n"))
        pieces.append((packing + 0.9 * rest, "Uploading weights\n"))
    return pieces


def text_until(pieces: Sequence[Piece], elapsed: float) -> str:
    """What is there after so many seconds of work."""
    return "".join(text for at, text in pieces if at <= elapsed)


def _padding(plan: LogPlan, begin: float) -> list[Piece]:
    if not plan.padding_characters:
        return []
    line = "debug: " + "abcdefghij" * 24 + "\n"
    parts = 6
    lines = math.ceil(plan.padding_characters / len(line) / parts)
    share = plan.seconds * 0.6 / parts
    return [(begin + share * part, line * lines) for part in range(parts)]


def _bar(name: str, done: int, total: int, rate: float | None, postfix: str) -> str:
    filled = done * 10 // total
    percent = done * 100 // total
    gone = _clock(done / rate) if rate else "00:00"
    left = _clock((total - done) / rate) if rate else "?"
    speed = f"{rate:5.2f}it/s" if rate else "?it/s"
    after = f", {postfix}" if postfix else ""
    bar = "█" * filled + " " * (10 - filled)
    return f"{name}: {percent:3d}%|{bar}| {done}/{total} [{gone}<{left}, {speed}{after}]"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes:02d}:{whole % 60:02d}"
