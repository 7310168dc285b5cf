"""Every body that the vendor's documentation and public code show, as they stand there. The simulator and the adapter
are both held to them."""

from typing import Any

CREATE: dict[str, Any] = {
    "tune": {
        "title": "run-7f3c",
        "name": "woman",
        "base_tune_id": 1504944,
        "model_type": "lora",
        "preset": "flux-lora-portrait",
        "branch": "flux1",
        "image_urls": ["https://files.example/1.jpg", "https://files.example/2.jpg"],
        "callback": "https://app.example/callbacks/astria/tune?run=7f3c&t=SECRET",
    }
}

CREATE_WITH_PROMPTS: dict[str, Any] = {
    "tune": {
        "name": "cat",
        "branch": "fast",
        "callback": "https://optional-callback-url.com/to-your-service-when-ready?user_id=1&tune_id=1",
        "image_urls": ["https://i.imgur.com/HLHBnl9.jpeg"] * 4,
        "title": "grumpy cat with prompts",
        "prompts_attributes": [
            {
                "text": "sks cat in space circa 1979 French illustration",
                "callback": "https://optional-callback-url.com/to-your-service-when-ready?user_id=1&prompt_id=1",
            },
            {
                "text": "sks cat getting into trouble viral meme",
                "callback": "https://optional-callback-url.com/to-your-service-when-ready?user_id=1&prompt_id=1",
            },
        ],
    }
}

CREATE_AS_FORM: list[tuple[str, str]] = [
    ("tune[callback]", "https://optional-callback-url.com/webhooks/astria?user_id=1&tune_id=1"),
    ("tune[title]", "my portrait"),
    ("tune[branch]", "fast"),
    ("tune[name]", "man"),
    ("tune[token]", "sks"),
    ("tune[prompts_attributes][0][text]", "sks man on space circa 1979 on cover of time magazine"),
    ("tune[prompts_attributes][0][callback]", "https://optional-callback-url.com/webhooks/astria?prompt_id=1"),
]

TUNE: dict[str, Any] = {
    "id": 3401603,
    "title": "run-7f3c...",
    "name": "woman",
    "is_api": True,
    "token": "ohwx",
    "eta": "2026-11-20T10:31:00.000Z",
    "callback": "https://app.example/...",
    "started_training_at": "2026-11-20T10:05:12.000Z",
    "trained_at": None,
    "expires_at": None,
    "created_at": "2026-11-20T10:05:10.000Z",
    "updated_at": "2026-11-20T10:05:12.000Z",
    "model_type": "lora",
    "base_tune_id": 1504944,
    "branch": "flux1",
    "args": None,
    "steps": None,
    "face_crop": False,
    "training_face_correct": False,
    "ckpt_url": None,
    "ckpt_urls": [],
    "url": "https://api.astria.ai/tunes/3401603.json",
    "orig_images": ["https://.../a.jpg"],
}
"""A tune in training, with every field that was seen on one."""

FINISHED: dict[str, Any] = {
    "id": 1,
    "title": "John Doe",
    "name": "woman",
    "token": "ohwx",
    "base_tune_id": None,
    "args": None,
    "steps": None,
    "face_crop": None,
    "ckpt_url": "https://sdbooth2-production.s3.amazonaws.com/mock",
    "ckpt_urls": ["https://sdbooth2-production.s3.amazonaws.com/mock"],
    "trained_at": "2023-10-02T14:32:40.363Z",
    "started_training_at": "2023-10-02T14:32:05.229Z",
    "expires_at": "2023-11-01T14:32:40.363Z",
    "created_at": "2023-10-02T14:32:05.067Z",
    "branch": "sdxl1",
    "model_type": "lora",
    "updated_at": "2023-10-02T14:32:40.363Z",
    "url": "https://www.astria.ai/tunes/788416.json",
    "orig_images": ["https://sdbooth2-production.s3.amazonaws.com/mock"] * 10,
}
"""The documentation's sample: no eta at all, and an address on another host."""

PROMPT: dict[str, Any] = {
    "id": 1,
    "callback": "https://optional-callback-url.com/to-your-service-when-ready",
    "text": "a painting of sks man in the style of Van Gogh",
    "negative_prompt": "old, blemish, wrinkles, mole",
    "cfg_scale": "7.5",
    "steps": None,
    "seed": None,
    "num_images": 8,
    "super_resolution": True,
    "tune_id": 1,
    "trained_at": None,
    "started_training_at": None,
    "created_at": "2022-10-06T16:12:54.505Z",
    "updated_at": "2022-10-06T16:12:54.505Z",
    "url": "http://api.astria.ai/tunes/1/prompts/1.json",
    "images": [],
}

PROMPT_FORM: list[tuple[str, str]] = [
    ("prompt[text]", "a painting of sks man in the style of Van Gogh"),
    ("prompt[negative_prompt]", "old, blemish, wrin"),
    ("prompt[super_resolution]", "true"),
    ("prompt[face_correct]", "true"),
    ("prompt[callback]", "https://optional-callback-url.com/to-your-service-when-ready?prompt_id=1"),
]

REFUSALS_422: tuple[Any, ...] = (
    {"images": ["could not be read"]},
    {"message": "images could not be read"},
    {"error": "images could not be read"},
    {"errors": ["images could not be read"]},
    None,
)
"""The shapes that users saw; the last is an empty body."""
