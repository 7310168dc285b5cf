"""A training order as the fields of a new tune, in the vendor's names."""

import re
from collections.abc import Mapping
from typing import Any

from jobs.providers.base import ProviderRefused, TrainingOrder

RECIPE = "image-tune"
FEWEST_IMAGES = 4
"""Customary, and what the vendor's own sample application asks for."""
MOST_ADDRESSES = 200
FREE_BRANCH = "fast"
"""Trains nothing, costs nothing, and calls back as any other."""

_NAMES: Mapping[str, str] = {
    "className": "name",
    "baseTuneId": "base_tune_id",
    "modelType": "model_type",
    "preset": "preset",
    "branch": "branch",
    "token": "token",
    "faceCrop": "face_crop",
    "steps": "steps",
}
_OURS = frozenset(_NAMES.values()) | {"title", "callback", "images", "image_urls"}
"""What `extra` may not set: the title is how we find the tune, the callback is how we hear of it, and the others are
hyperparameters of their own."""
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ADDRESS = re.compile(r"https://[^\s/@]+(/\S*)?")


def fields_of(order: TrainingOrder) -> dict[str, Any]:
    """All fields but the images; null ones left out, for which the vendor has its defaults. Raises
    `ProviderRefused`."""
    if order.recipe != RECIPE:
        raise ProviderRefused(f"Astria trains the recipe {RECIPE} only.")
    given = order.hyperparameters
    fields: dict[str, Any] = {"title": order.tag}
    for ours, theirs in _NAMES.items():
        if given.get(ours) is not None:
            fields[theirs] = given[ours]
    if not fields.get("name"):
        raise ProviderRefused("Astria needs the hyperparameter className: man, woman, cat, style …")
    if order.callback_url is not None:
        fields["callback"] = order.callback_url.reveal()
    extra = given.get("extra") or {}
    if not isinstance(extra, Mapping):
        raise ProviderRefused("The hyperparameter extra must be an object of further fields of the tune.")
    for name, value in extra.items():
        if name in _OURS:
            raise ProviderRefused(f"The hyperparameter extra may not set the tune's {name}.")
        if not isinstance(name, str) or _FIELD.fullmatch(name) is None:
            raise ProviderRefused("The hyperparameter extra names a field as no field of a tune is named.")
        fields[name] = value
    return fields


def addresses_of(order: TrainingOrder) -> list[str]:
    """The images' addresses, where no dataset was given. Raises `ProviderRefused`."""
    given = order.hyperparameters.get("imageUrls") or []
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise ProviderRefused("The hyperparameter imageUrls must be a list of addresses.")
    for number, address in enumerate(given, 1):
        if _ADDRESS.fullmatch(address) is None:
            raise ProviderRefused(f"Address {number} of imageUrls is no https address that Astria could fetch.")
    if len(given) > MOST_ADDRESSES:
        raise ProviderRefused(f"imageUrls holds {len(given)} addresses; at most {MOST_ADDRESSES} are sent.")
    check_count(len(given), "imageUrls names")
    return list(given)


def check_count(images: int, where: str) -> None:
    """Raises `ProviderRefused` where there are too few images to train on."""
    if images < FEWEST_IMAGES:
        found = f"{where} {images} image{'' if images == 1 else 's'}"
        raise ProviderRefused(f"{found}; Astria needs at least {FEWEST_IMAGES}: give a ZIP of them, or imageUrls.")


def prompts_in(hyperparameters: Mapping[str, Any]) -> int:
    """How many prompts are to run right after the training; each costs."""
    extra = hyperparameters.get("extra")
    prompts = extra.get("prompts_attributes") if isinstance(extra, Mapping) else None
    return len(prompts) if isinstance(prompts, list | tuple | Mapping) else 0
