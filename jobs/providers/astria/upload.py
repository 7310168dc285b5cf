"""A ZIP of images as the form that Astria takes, written to a temporary file: no training is held in memory.

The ZIP is a stranger's. Of its names only the ending is used, its sizes are counted and not believed, and what is no
image by its first bytes is passed over.
"""

import errno
import re
import secrets
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any

from anyio import to_thread

from jobs.providers.astria.order import check_count
from jobs.providers.base import DatasetOrder, ProviderBusy, ProviderRefused

MOST_IMAGES = 200
LARGEST_IMAGE_BYTES = 20 * 1024 * 1024
LARGEST_FORM_BYTES = 200 * 1024 * 1024
_PIECE_BYTES = 256 * 1024
_NAME = re.compile(r"\.(jpe?g|png|webp)$", re.IGNORECASE)
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Others can ask for gigabytes of memory to be unpacked."""
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class Form:
    """The form as it is sent. To be closed."""

    file: IO[bytes]
    length_bytes: int
    kind: str
    """Its content type."""
    images: int

    async def chunks(self) -> AsyncIterator[bytes]:
        await to_thread.run_sync(self.file.seek, 0)
        while piece := await to_thread.run_sync(self.file.read, _PIECE_BYTES):
            yield piece

    def close(self) -> None:
        self.file.close()


def form_of(dataset: DatasetOrder, fields: Mapping[str, Any]) -> Form:
    """Read the stored ZIP and write the form; takes its time, so it is run in a thread. Raises `ProviderRefused` for
    data that cannot be sent, `ProviderBusy` where the disk does not serve."""
    if dataset.format != "ZIP" or dataset.open is None:
        raise ProviderRefused("Astria trains on images: the dataset must be a ZIP of JPEG, PNG or WebP files.")
    file = TemporaryFile()  # noqa: SIM115 the form is read, and closed, by whoever asked for it
    try:
        boundary = f"runwire-{secrets.token_hex(16)}"
        for name, text in pairs_of(fields):
            file.write(_head(boundary, name) + b"\r\n" + text.encode("utf-8", "replace") + b"\r\n")
        with dataset.open() as stored:
            images = _write_images(stored, file, boundary)
        file.write(f"--{boundary}--\r\n".encode())
        check_count(images, "The dataset holds")
        return Form(file, file.tell(), f"multipart/form-data; boundary={boundary}", images)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, struct.error, NotImplementedError, RuntimeError):
        file.close()
        raise ProviderRefused("The dataset is no ZIP that can be read to its end.") from None
    except OSError as error:
        file.close()
        if error.errno == errno.EINVAL:  # the ZIP points to before its own beginning
            raise ProviderRefused("The dataset is no ZIP that can be read to its end.") from None
        raise ProviderBusy("The dataset could not be read or copied on this machine.", 30.0) from None
    except BaseException:
        file.close()
        raise


def pairs_of(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The names and texts of the form, by Rails' rules: `tune[characteristics][eye_color]`, `tune[ids][]`."""
    yield from _pairs("tune", fields)


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if re.fullmatch(r"[A-Za-z0-9_]{1,64}", str(key)) is None:
                raise ProviderRefused("The hyperparameter extra has a name that no form can hold.")
            yield from _pairs(f"{name}[{key}]", inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _pairs(f"{name}[{number}]" if isinstance(inner, Mapping) else f"{name}[]", inner)
    elif isinstance(value, bool):
        yield name, "true" if value else "false"
    else:
        yield name, "" if value is None else str(value)


def _write_images(stored: IO[bytes], file: IO[bytes], boundary: str) -> int:
    count = 0
    with zipfile.ZipFile(stored) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or _NAME.search(entry.filename) is None:
                continue
            if entry.flag_bits & _ENCRYPTED:
                raise ProviderRefused("The dataset's ZIP is encrypted.")
            if entry.compress_type not in _METHODS:
                raise ProviderRefused("The dataset's ZIP is packed in a way that is not read here; use deflate.")
            with archive.open(entry) as image:
                piece = image.read(_PIECE_BYTES)
                kind = _kind_of(piece)
                if kind is None:
                    continue  # macOS puts a `._1.jpg` beside each image
                count += 1
                if count > MOST_IMAGES:
                    raise ProviderRefused(f"The dataset holds more than {MOST_IMAGES} images.")
                head = _head(boundary, "tune[images][]", f"{count}.{kind}", f"image/{kind}")
                file.write(head + b"\r\n")
                size = 0
                while piece:
                    size += len(piece)
                    if size > LARGEST_IMAGE_BYTES:
                        raise ProviderRefused(f"Image {count} of the dataset is larger than 20 MiB.")
                    file.write(piece)
                    if file.tell() > LARGEST_FORM_BYTES:
                        raise ProviderRefused("The dataset's images are larger than 200 MiB together.")
                    piece = image.read(_PIECE_BYTES)
                file.write(b"\r\n")
    return count


def _kind_of(start: bytes) -> str | None:
    if start.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "webp" if start[:4] == b"RIFF" and start[8:12] == b"WEBP" else None


def _head(boundary: str, name: str, file_name: str | None = None, kind: str | None = None) -> bytes:
    named = f'; filename="{file_name}"' if file_name else ""
    typed = f"Content-Type: {kind}\r\n" if kind else ""
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n{typed}'.encode()
