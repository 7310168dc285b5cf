"""Bodies as the vendor writes them: its description, its documentation, and the recordings of its own SDK's tests."""

from typing import Any

TRAINING: dict[str, Any] = {
    "id": "k3v9t1w0d5rm80cq7xz2b6n4ja",
    "model": "ostris/flux-dev-lora-trainer",
    "version": "26dce37a" * 8,
    "input": {"input_images": "https://files.example/set.zip", "trigger_word": "TOK", "steps": 1000},
    "status": "succeeded",
    "created_at": "2026-11-20T10:00:00.125990893Z",
    "started_at": "2026-11-20T10:00:41.112647Z",
    "completed_at": "2026-11-20T10:11:03.826523Z",
    "source": "api",
    "logs": "flux_train_replicate:  31%|███       | 311/1000 [03:01<06:42,  1.60it/s, lr: 4.0e-04 loss: 3.512e-01]\n",
    "error": None,
    "output": {
        "version": "acme/cat-lora:" + "9f0c" * 16,
        "weights": "https://replicate.delivery/xyz/trained_model.tar",
    },
    "metrics": {"predict_time": 622.7, "total_time": 663.7},
    "urls": {
        "get": "https://api.replicate.com/v1/trainings/k3v9t1w0d5rm80cq7xz2b6n4ja",
        "cancel": "https://api.replicate.com/v1/trainings/k3v9t1w0d5rm80cq7xz2b6n4ja/cancel",
    },
}
"""A read of a finished training."""

CREATED: dict[str, Any] = {
    "id": "xxi2kydbnla3ocjp64sclkewku",
    "model": "stability-ai/sdxl",
    "version": "a00d0b7d" * 8,
    "input": {"input_images": "https://replicate.delivery/pbxt/data.zip", "use_face_detection_instead": True},
    "logs": "",
    "error": None,
    "status": "starting",
    "created_at": "2023-08-16T19:33:27.07526337Z",
    "urls": {
        "cancel": "https://api.replicate.com/v1/predictions/xxi2kydbnla3ocjp64sclkewku/cancel",
        "get": "https://api.replicate.com/v1/predictions/xxi2kydbnla3ocjp64sclkewku",
    },
}
"""The answer to a creation: eight fractional digits, no metrics, and addresses that lead elsewhere."""

CANCELED: dict[str, Any] = {
    "completed_at": "2023-08-16T19:33:27.215203Z",
    "created_at": "2023-08-16T19:33:27.135361Z",
    "error": None,
    "id": "xxi2kydbnla3ocjp64sclkewku",
    "input": {"input_images": "https://replicate.delivery/pbxt/data.zip", "use_face_detection_instead": True},
    "logs": None,
    "metrics": {"predict_time": 3e-06},
    "output": None,
    "started_at": "2023-08-16T19:33:27.215200Z",
    "status": "canceled",
    "urls": {
        "get": "https://api.replicate.com/v1/predictions/xxi2kydbnla3ocjp64sclkewku",
        "cancel": "https://api.replicate.com/v1/predictions/xxi2kydbnla3ocjp64sclkewku/cancel",
    },
    "model": "stability-ai/sdxl",
    "version": "a00d0b7d" * 8,
    "webhook_completed": None,
}
"""The answer to a cancellation of one that was starting."""

CREATION: dict[str, Any] = {
    "destination": "acme/cat-lora",
    "input": {"input_images": "https://files.example/set.zip", "trigger_word": "TOK", "steps": 1000},
    "webhook": "https://runwire.example/webhooks/replicate?run=run-1",
    "webhook_events_filter": ["start", "logs", "completed"],
}
"""What `POST …/trainings` takes."""

MODEL_CREATION: dict[str, Any] = {
    "owner": "acme",
    "name": "cat-lora",
    "visibility": "private",
    "hardware": "gpu-t4",
    "description": "An example model",
}

MODEL: dict[str, Any] = {
    "url": "https://replicate.com/acme/cat-lora",
    "owner": "acme",
    "name": "cat-lora",
    "description": "An example model",
    "visibility": "private",
    "github_url": None,
    "paper_url": None,
    "license_url": None,
    "run_count": 0,
    "cover_image_url": None,
    "default_example": None,
    "latest_version": None,
}

ACCOUNT: dict[str, Any] = {
    "type": "organization",
    "username": "acme",
    "name": "Acme",
    "github_url": "https://github.com/acme",
}

PROBLEMS: list[tuple[int, dict[str, Any]]] = [
    (401, {"title": "Unauthenticated", "detail": "You did not pass a valid authentication token", "status": 401}),
    (402, {"title": "Billing required", "detail": "You need to set up billing.", "status": 402}),
    (404, {"detail": "The requested resource could not be found.", "status": 404}),
    (404, {"detail": "The specified training destination does not exist", "status": 404}),
    (
        422,
        {"title": "Invalid version or not permitted", "detail": "The specified version does not exist", "status": 422},
    ),
    (429, {"detail": "Request was throttled. Your rate limit resets in ~30s.", "status": 429}),
    (502, {}),
]
