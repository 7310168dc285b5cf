"""An event as it leaves the product in plain JSON: ids as the outside knows them, addresses instead of slugs."""

from typing import Any
from uuid import UUID

from db.settings import Settings
from domain.deployment.address import address_of
from graph.ids import global_id

KINDS = {
    "id": "TrainingRun",
    "runId": "TrainingRun",
    "currentRunId": "TrainingRun",
    "retryOfId": "TrainingRun",
    "modelId": "AIModel",
    "datasetId": "Dataset",
    "grantId": "DownloadGrant",
    "appId": "App",
    "deploymentId": "Deployment",
    "resourceId": "Resource",
}
"""What each id in an event is of."""
KEPT_IN = frozenset({"userId"})
"""What says nothing to the outside."""
SLUGS = {"slug": "deploymentUrl", "appSlug": "deploymentUrl", "deployedSlug": "deployedUrl"}


def outside(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The event's JSON for those who read it without GraphQL."""
    run = event.get("run")
    return {
        **event,
        "run": facts_outside(run, settings) if run is not None else None,
        "data": facts_outside(event.get("data", {}), settings),
    }


def facts_outside(facts: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The same facts in the outside's words."""
    told: dict[str, Any] = {}
    for name, value in facts.items():
        if name in KEPT_IN:
            continue
        if name in SLUGS:
            told[SLUGS[name]] = address_of(settings, value) if value else None
        elif name in KINDS and value is not None:
            told[name] = global_id(KINDS[name], UUID(value))
        else:
            told[name] = value
    return told
