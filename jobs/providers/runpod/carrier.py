"""Carries files between a pod and us, and ends the pod; with nothing but Python's own library.

    python3 carrier.py get URL TARGET HEADER_FILE    goes on where the target ends; prints ok, dns, refused,
                                                     unreachable, timeout, tls, cut or status:NNN
    python3 carrier.py put FOLDER URL                stores each file of the folder at URL/NAME, `artifact.json` last
    python3 carrier.py sha256 FILE
    python3 carrier.py terminate                     ends this very pod

It runs on whatever Python 3.8 or newer an image has.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

ANSWER_LIMIT_SECONDS = 30.0
BLOCK_BYTES = 1 << 18
LONGEST_PAUSE_SECONDS = 8.0
RECEIPT = "artifact.json"
LATER = (403, 404, 408, 409, 425, 429)
"""The first ones are no answers of ours, but of whatever stands before us for a moment."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could carry a token to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class CannotStore(Exception):
    """A file could not be stored; `str(error)` says why in a sentence."""


def opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect())


def get(url: str, target: str, authorization: str) -> str:
    """Fetch what is missing of a file. The verdict in a word."""
    have = os.path.getsize(target) if os.path.exists(target) else 0
    request = urllib.request.Request(url)
    request.add_header("Authorization", authorization)
    request.add_header("Accept-Encoding", "identity")
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with opener().open(request, timeout=ANSWER_LIMIT_SECONDS) as answer:
            goes_on = answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-")
            with open(target, "ab" if goes_on else "wb") as file:
                while True:
                    block = answer.read(BLOCK_BYTES)
                    if not block:
                        break
                    file.write(block)
            left = answer.length  # what was promised and did not come; None where nothing was
            return "cut" if left else "ok"
    except urllib.error.HTTPError as error:
        error.close()
        return f"status:{error.code}"
    except (OSError, http.client.HTTPException) as error:
        return verdict_of(error)


def verdict_of(error: Exception) -> str:
    """What kind of fault it was."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, Exception):
        error = reason
    if isinstance(error, socket.gaierror):
        return "dns"
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionError) or not isinstance(error, OSError):
        return "cut"
    return "unreachable"


def put_all(folder: str, url: str, token: str, patience: float) -> None:
    """Store all plain files of a folder, the receipt last: once it is there, the rest is too."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    plain = [name for name in names if os.path.isfile(os.path.join(folder, name))]
    plain = [name for name in plain if not os.path.islink(os.path.join(folder, name))]
    for name in sorted(plain, key=lambda name: (name == RECEIPT, name)):
        path = os.path.join(folder, name)
        put(path, name, f"{url}/{urllib.parse.quote(name, safe='')}", token, patience)
        print(f"stored {name}: {os.path.getsize(path)} bytes", flush=True)


def put(path: str, name: str, url: str, token: str, patience: float) -> None:
    """Store one file, trying again as long as there is hope. Raises `CannotStore`."""
    digest = base64.b64encode(digest_of(path).digest()).decode()
    size = os.path.getsize(path)
    pause = 0.5
    until = time.monotonic() + patience
    while True:
        wait = pause
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Content-Digest": f"sha-256=:{digest}:",
        }
        try:
            with open(path, "rb") as file:
                request = urllib.request.Request(url, data=file, headers=headers, method="PUT")
                with opener().open(request, timeout=ANSWER_LIMIT_SECONDS):
                    return
        except urllib.error.HTTPError as error:
            words = words_in(error)
            trouble = f"the server answered {error.code}{words}"
            if error.code < 500 and error.code not in LATER:
                raise CannotStore(f"The artifact {name} could not be stored: {trouble}.") from error
            with contextlib.suppress(ValueError):
                wait = max(wait, min(30.0, float(error.headers.get("Retry-After") or 0)))
        except (OSError, http.client.HTTPException) as error:
            trouble = f"the connection failed ({verdict_of(error)})"
            if isinstance(error, FileNotFoundError):
                raise CannotStore(f"The artifact {name} is gone.") from error
        if time.monotonic() + wait > until:
            raise CannotStore(f"The artifact {name} could not be stored: {trouble}.")
        time.sleep(wait)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def words_in(error: urllib.error.HTTPError) -> str:
    """What the answer says, if it says something in words."""
    try:
        content = json.loads(error.read(65_536))
        words = content.get("message") or content.get("detail") or content.get("error")
        return f" ({str(words)[:300]})" if words else ""
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return ""
    finally:
        error.close()


def digest_of(path: str) -> Any:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            block = file.read(BLOCK_BYTES)
            if not block:
                return digest
            digest.update(block)


def terminate() -> None:
    """Ask RunPod to end the pod that this runs in. Raises OSError, also for a refusal."""
    base = os.environ.get("RUNPOD_API_BASE_URL") or "https://api.runpod.io"
    url = f"{base.rstrip('/')}/v2/pods/{urllib.parse.quote(os.environ['RUNPOD_POD_ID'], safe='')}/action"
    request = urllib.request.Request(url, data=b'{"action": "terminate"}', method="POST")
    request.add_header("Authorization", f"Bearer {os.environ['RUNPOD_API_KEY']}")
    request.add_header("Content-Type", "application/json")
    with opener().open(request, timeout=ANSWER_LIMIT_SECONDS):
        pass


def main(words: list[str]) -> int:
    what = words[0]
    if what == "get":
        with open(words[3], encoding="utf-8") as file:
            authorization = file.read().strip().partition(": ")[2]
        print(get(words[1], words[2], authorization))
    elif what == "put":
        try:
            patience = float(os.environ.get("RUNWIRE_PATIENCE_SECONDS", "60"))
            put_all(words[1], words[2], os.environ["RUNWIRE_TOKEN"], patience)
        except CannotStore as error:
            print(error)
            return 1
    elif what == "sha256":
        print(digest_of(words[1]).hexdigest())
    else:
        try:
            terminate()
        except (OSError, http.client.HTTPException) as error:
            print(f"the pod could not be ended: {type(error).__name__} {getattr(error, 'code', '')}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
