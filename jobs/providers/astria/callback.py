"""What Astria sends when a training ends: unsigned, never sent again, and so believed in nothing but its address."""

import json

from jobs.providers.astria.tune import id_of
from jobs.providers.base import CallbackUnreadable

MOST_BYTES = 1024 * 1024


def check(body: bytes, reference: str, tag: str) -> None:
    """That the body is about this tune: `{"tune": {…}}`, a bare tune, or a prompt of it in either form.

    The documentation says that the bare object is sent, handlers in use read the wrapped one. A callback can come
    before the answer to the creation; without a reference the title must be the tag. Raises `CallbackUnreadable`.
    """
    if len(body) > MOST_BYTES:
        raise CallbackUnreadable("A callback of Astria has at most 1 MiB.")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise CallbackUnreadable("A callback of Astria is a JSON object.") from None
    if not isinstance(said, dict):
        raise CallbackUnreadable("A callback of Astria is a JSON object.")
    entity = said
    is_prompt = "tune_id" in said
    for name in ("tune", "prompt"):
        if isinstance(said.get(name), dict):
            entity, is_prompt = said[name], name == "prompt"
    if id_of(entity.get("id")) is None:
        raise CallbackUnreadable("A callback of Astria holds a tune or a prompt with its id.")
    if reference:
        about = entity.get("tune_id") if is_prompt else entity.get("id")
        if id_of(about) != reference:
            raise CallbackUnreadable("The callback is about another tune than the one it was made for.")
    elif is_prompt or not tag or entity.get("title") != tag:
        raise CallbackUnreadable("The callback is not about the tune that was just asked for.")
