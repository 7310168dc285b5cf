"""Pictures for demos of image trainers: scikit-learn's handwritten digits as PNG files, in a ZIP."""

import struct
import zipfile
import zlib
from pathlib import Path

PICTURES = 12
SCALE = 32
"""Pixels per pixel: 8 × 8 becomes 256 × 256."""


def write_pictures(path: Path) -> int:
    """Write the ZIP; gives how many pictures are in it."""
    from sklearn.datasets import load_digits

    images = load_digits().images
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(PICTURES):
            rows = [[int(value * 255 / 16) for value in row] for row in images[number]]
            archive.writestr(f"digit-{number + 1:02}.png", _png(rows))
    return PICTURES


def _png(rows: list[list[int]]) -> bytes:
    """A grey picture, each value a square of `SCALE` pixels (PNG specification, section 11)."""
    lines = b"".join((b"\0" + b"".join(bytes([value]) * SCALE for value in row)) * SCALE for row in rows)
    height, width = len(rows) * SCALE, len(rows[0]) * SCALE
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
