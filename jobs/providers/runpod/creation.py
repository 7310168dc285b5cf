"""What a pod is created with: the machine, and the start script with its orders."""

import base64
import gzip
from functools import cache
from pathlib import Path
from typing import Any

from domain.secret import Secret
from jobs.providers.base import ProviderRefused, TrainingOrder

DISK_GB = 40
LARGEST_DISK_GB = 10_000
CLOUDS = ("SECURE", "COMMUNITY")
START = (
    'h="${RUNWIRE_HOME:-/workspace/runwire}"; mkdir -p "$h" && '
    'printf %s "$RUNWIRE_SCRIPT" | base64 -d | gunzip >"$h/pod.sh" && exec bash "$h/pod.sh"'
)
"""The script comes in a variable: images know nothing of us, and a command line has no room for it."""


def creation_of(order: TrainingOrder, *, image: str, patience_seconds: int) -> dict[str, Any]:
    """The body of `POST /v2/pods`. Raises `ProviderRefused`."""
    if order.gpu_type is None:
        raise ProviderRefused("A pod needs a GPU type; none was chosen.")
    disk = order.hyperparameters.get("diskGb")
    if disk is None:
        disk = DISK_GB
    if isinstance(disk, bool) or not isinstance(disk, int) or not 1 <= disk <= LARGEST_DISK_GB:
        raise ProviderRefused(f"diskGb is a whole number from 1 to {LARGEST_DISK_GB:,}.")
    return {
        "name": order.tag,
        "gpu": {"id": order.gpu_type, "count": 1},
        "image": order.image or image,
        "disk": disk,
        "cloud": cloud_of(order.hyperparameters.get("cloud")),
        "ports": [],
        "args": f"bash -c '{START}'",
        "env": variables_of(order, patience_seconds),
    }


def cloud_of(wish: object) -> str:
    """RunPod's own machines, unless those of others are wanted. Raises `ProviderRefused`."""
    if wish is None:
        return CLOUDS[0]
    if wish not in CLOUDS:
        raise ProviderRefused(f"cloud is {' or '.join(CLOUDS)}.")
    return str(wish)


def variables_of(order: TrainingOrder, patience_seconds: int) -> dict[str, str]:
    """The start script's orders. They hold the attempt's token and the grant. Raises `ProviderRefused`."""
    if order.home is None:
        raise ProviderRefused("A pod reports to us by itself, and there is no address at which it could.")
    variables = {
        "RUNWIRE_URL": order.home.url,
        "RUNWIRE_TOKEN": order.home.token.reveal(),
        "RUNWIRE_RUN_ID": str(order.run_id),
        "RUNWIRE_ATTEMPT": str(order.attempt),
        "RUNWIRE_TIME_LIMIT_SECONDS": str(order.time_limit_seconds),
        "RUNWIRE_KEEP_SECONDS": str(order.keep_seconds),
        "RUNWIRE_PATIENCE_SECONDS": str(patience_seconds),
        "RUNWIRE_SCRIPT": _packed("pod.sh"),
        "RUNWIRE_REPORTER": _packed("reporter.py"),
        "RUNWIRE_CARRIER": _packed("carrier.py"),
    }
    if order.dataset is not None:
        variables |= {
            "RUNWIRE_DATASET_URL": order.dataset.url,
            "RUNWIRE_DATASET_TOKEN": order.dataset.token.reveal(),
            "RUNWIRE_DATASET_BYTES": str(order.dataset.bytes),
            "RUNWIRE_DATASET_SHA256": order.dataset.sha256,
            "RUNWIRE_DATASET_FORMAT": str(order.dataset.format),
        }
    return variables


def secrets_of(order: TrainingOrder) -> list[Secret]:
    """What of the order no refusal may show."""
    found = [order.home.token] if order.home is not None else []
    return [*found, order.dataset.token] if order.dataset is not None else found


@cache
def _packed(name: str) -> str:
    content = Path(__file__).with_name(name).read_bytes()
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()
