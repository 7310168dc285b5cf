"""A run as events carry it: the core fields, plain JSON, the same on the bus, in the journal and in webhooks."""

from typing import Any

from domain.events import time_text
from domain.training.model import TrainingRun


def core_of(run: TrainingRun) -> dict[str, Any]:
    """The run's core fields as they are now. Ids are UUIDs here; GraphQL makes its own of them."""
    return {
        "id": str(run.id),
        "userId": str(run.user_id),
        "modelId": str(run.model_id),
        "datasetId": str(run.dataset_id) if run.dataset_id else None,
        "retryOfId": str(run.retry_of_id) if run.retry_of_id else None,
        "provider": run.provider.value,
        "recipe": run.recipe,
        "testMode": run.test_mode,
        "tags": run.tags,
        "status": run.status.value,
        "stage": run.stage.value,
        "progress": run.progress,
        "progressEstimated": run.progress_estimated,
        "etaSeconds": run.eta_seconds,
        "etaLowSeconds": run.eta_low_seconds,
        "etaHighSeconds": run.eta_high_seconds,
        "etaConfidence": run.eta_confidence,
        "endReason": run.end_reason.value if run.end_reason else None,
        "errorMessage": run.error_message,
        "costMicros": run.cost_micros,
        "attempt": run.attempt,
        "logLines": run.log_lines,
        "appSlug": run.app_slug,
        "createdAt": time_text(run.created_at),
        "startedAt": time_text(run.started_at) if run.started_at else None,
        "endedAt": time_text(run.ended_at) if run.ended_at else None,
    }
