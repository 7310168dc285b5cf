"""Reads what a client sent, as JSON or as a form with Rails' names (`tune[images][]`), and refuses as Rails would."""

import json
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

MOST_FILES = 1_000
MOST_PROMPTS = 100
_NAME = re.compile(r"(?P<root>[a-z_]+)(?P<rest>(?:\[[A-Za-z0-9_]*\])+)")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")

BASES = {1504944: "Flux1.dev", 690204: "Realistic Vision"}
"""The vendor's own models by id, of which prompts can be asked too."""

_STRINGS = frozenset({"title", "name", "token"})
_INTEGERS = frozenset({"base_tune_id", "steps"})
_BOOLEANS = frozenset({"face_crop", "training_face_correct", "auto_extend"})
_CHOICES: Mapping[str, frozenset[str]] = {
    "model_type": frozenset({"lora", "pti", "faceid"}),
    "preset": frozenset({"flux-lora-focus", "flux-lora-portrait", "flux-lora-fast"}),
    "branch": frozenset({"flux1", "sdxl1", "sd15", "fast"}),
}
_TUNE = (
    _STRINGS
    | _INTEGERS
    | _BOOLEANS
    | frozenset(_CHOICES)
    | {"images", "image_urls", "callback", "characteristics", "prompts_attributes"}
)
_PROMPT_STRINGS = frozenset({"text", "negative_prompt", "ar", "controlnet", "input_image_url", "mask_image_url"})
_PROMPT_NUMBERS = frozenset(
    {"cfg_scale", "steps", "seed", "num_images", "w", "h", "denoising_strength", "controlnet_conditioning_scale"}
)
_PROMPT_BOOLEANS = frozenset(
    {"super_resolution", "inpaint_faces", "hires_fix", "face_correct", "use_lpw", "controlnet_txt2img"}
)
_PROMPT = _PROMPT_STRINGS | _PROMPT_NUMBERS | _PROMPT_BOOLEANS | {"callback", "input_image", "mask_image"}


class Refusal(Exception):
    """An answer other than 2xx."""

    def __init__(self, status: int, body: object = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """JSON for objects, text for strings, nothing for None: a 422 of this vendor can be empty."""
        if self.body is None:
            return Response(status_code=self.status, headers=self.headers)
        if isinstance(self.body, str):
            kind = "text/html" if self.body.startswith("<") else "text/plain"
            return Response(self.body, self.status, self.headers, kind)
        return JSONResponse(self.body, self.status, self.headers)


class Problems:
    """What is wrong with which field, in the shape of Rails' validation errors."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}

    def add(self, field: str, text: str) -> None:
        self.texts.setdefault(field, []).append(text)

    def refuse(self) -> None:
        if self.texts:
            raise Refusal(422, self.texts)


async def entity_of(request: Request, root: str) -> dict[str, Any]:
    """The object under `root`, from JSON or a form; uploaded files as `UploadFile`, read already."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        try:
            body = json.loads(await request.body())
        except (ValueError, RecursionError):
            raise Refusal(400, {"status": 400, "error": "Bad Request"}) from None
    elif kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        try:
            form = await request.form(max_files=MOST_FILES, max_fields=MOST_FILES * 10)
        except Exception:  # Starlette's own error, of which the vendor's clients know nothing
            raise Refusal(400, {"status": 400, "error": "Bad Request"}) from None
        body = nested(form.multi_items())
    else:
        body = None
    found = body.get(root) if isinstance(body, dict) else None
    if not isinstance(found, dict) or not found:
        raise Refusal(400, {"error": f"param is missing or the value is empty: {root}"})
    if len(body) > 1:
        raise Refusal(422, {name: ["is not a known parameter"] for name in body if name != root})
    return found


def nested(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Names such as `tune[prompts_attributes][0][text]`, as the object that they mean."""
    root: dict[str, Any] = {}
    for name, value in pairs:
        found = _NAME.fullmatch(name)
        if found is None:
            root[name] = value
            continue
        words = [found["root"], *re.findall(r"\[([A-Za-z0-9_]*)\]", found["rest"])]
        place: Any = root
        for word, following in pairwise(words):
            place = _step(place, word, following)
        if isinstance(place, list):
            place.append(value)
        else:
            place[words[-1]] = value
    return {name: _without_indexes(value) for name, value in root.items()}


def _step(place: Any, word: str, following: str) -> Any:
    fresh: Any = [] if following == "" else {}
    if isinstance(place, list):
        # `a[][b]=1&a[][c]=2&a[][b]=3` is [{b, c}, {b}]: a name that comes again begins the next one.
        if not place or not isinstance(place[-1], dict) or following in place[-1]:
            place.append(fresh)
        return place[-1]
    kept = place.setdefault(word, fresh)
    return kept if isinstance(kept, dict | list) else fresh


def _without_indexes(value: Any) -> Any:
    if isinstance(value, dict):
        inner = {name: _without_indexes(item) for name, item in value.items()}
        if inner and all(name.isdecimal() for name in inner):
            return [inner[name] for name in sorted(inner, key=int)]
        return inner
    return [_without_indexes(item) for item in value] if isinstance(value, list) else value


async def checked_tune(given: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of a new tune, null where they were not given, and `image_count`. Raises `Refusal`."""
    problems = Problems()
    for name in given:
        if name not in _TUNE:
            problems.add(name, "is not a known parameter")
    fields: dict[str, Any] = {name: _plain(given.get(name)) for name in _TUNE}
    for name in _STRINGS:
        if fields[name] is not None and not isinstance(fields[name], str):
            problems.add(name, "is not a string")
    for name in ("title", "name"):
        if not fields[name]:
            problems.add(name, "can't be blank")
    for name in _INTEGERS:
        fields[name] = _integer(name, fields[name], problems)
    if fields["steps"] is not None and fields["steps"] < 1:
        problems.add("steps", "must be greater than 0")
    for name in _BOOLEANS:
        fields[name] = _boolean(name, fields[name], problems)
    for name, choices in _CHOICES.items():
        if fields[name] is not None and fields[name] not in choices:
            problems.add(name, "is not included in the list")
    if fields["characteristics"] is not None and not isinstance(fields["characteristics"], dict):
        problems.add("characteristics", "is not an object")
    _check_callback(fields["callback"])
    fields["image_count"] = await _images(fields, problems)
    prompts = fields["prompts_attributes"] or []
    if not isinstance(prompts, list) or not all(isinstance(prompt, dict) for prompt in prompts):
        problems.add("prompts_attributes", "is not an array of objects")
        prompts = []
    if len(prompts) > MOST_PROMPTS:
        raise Refusal(422)  # reported by a user: a very long list, and an empty body in answer
    fields["prompts_attributes"] = [checked_prompt(prompt, problems) for prompt in prompts]
    problems.refuse()
    return fields


def checked_prompt(given: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """All fields of a new prompt, null where they were not given; what is wrong goes to `problems`."""
    for name in given:
        if name not in _PROMPT:
            problems.add(name, "is not a known parameter")
    fields = {name: _plain(given.get(name)) for name in _PROMPT}
    if not isinstance(fields["text"], str):
        problems.add("text", "can't be blank")
    for name in _PROMPT_BOOLEANS:
        fields[name] = _boolean(name, fields[name], problems)
    for name in ("num_images", "seed", "steps", "w", "h"):
        fields[name] = _integer(name, fields[name], problems)
    fields["num_images"] = 4 if fields["num_images"] is None else fields["num_images"]
    if not 1 <= fields["num_images"] <= 8:
        problems.add("num_images", "must be in 1..8")
    _check_callback(fields["callback"])
    return fields


def _check_callback(callback: object) -> None:
    if callback is None:
        return
    try:
        parts = urlsplit(callback) if isinstance(callback, str) else None
        good = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise Refusal(400, {"error": "callback is not a valid URL"})


async def _images(fields: dict[str, Any], problems: Problems) -> int:
    """How many there are; files are looked at and let go."""
    uploads, addresses = fields.pop("images"), fields["image_urls"]
    uploads = [] if uploads is None else uploads
    addresses = [] if addresses is None else addresses
    if not isinstance(uploads, list) or not all(isinstance(upload, UploadFile) for upload in uploads):
        problems.add("images", "is not an array of files")
        uploads = []
    for upload in uploads:
        start = await upload.read(16)
        if not (start.startswith(_MAGIC) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")):
            problems.add("images", "is not an image")
        await upload.close()
    if not isinstance(addresses, list) or not all(_is_address(address) for address in addresses):
        problems.add("image_urls", "is invalid")
        addresses = []
    fields["image_urls"] = addresses
    if not uploads and not addresses and not {"images", "image_urls"} & problems.texts.keys():
        problems.add("images", "can't be blank")
    return len(uploads) + len(addresses)


def _is_address(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"https?://[^\s/]+\S*", value) is not None


def _plain(value: Any) -> Any:
    """Forms know no null: there an empty text is one."""
    return None if value == "" else value


def _integer(name: str, value: Any, problems: Problems) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    problems.add(name, "is not a number")
    return None


def _boolean(name: str, value: Any, problems: Problems) -> bool | None:
    if isinstance(value, str):
        value = {"true": True, "1": True, "false": False, "0": False}.get(value, value)
    if value is None or isinstance(value, bool):
        return value
    problems.add(name, "is not true or false")
    return None
