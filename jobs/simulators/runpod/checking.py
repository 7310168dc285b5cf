"""The schema of what may be sent: the sentences of a 422, and the rules across fields that give a 400."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from jobs.simulators.runpod.catalog import CENTERS, GPUS

Check = Callable[[Any], str | None]
MOST_VARIABLES = 50
"""Environment variables of one pod."""
_CUDA = re.compile(r"\d+\.\d+")


class Rejected(Exception):
    """Refused with this status, detail and list of errors."""

    def __init__(self, status: int, detail: str, errors: list[str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors


def checked_creation(body: Any) -> dict[str, Any]:
    """The body of a creation. Raises `Rejected`."""
    errors = _object_errors("$", body, CREATION, required={"name"})
    if isinstance(body, dict) and "templateId" not in body and "image" not in body:
        errors.append("$: missing property 'image'")
    if errors:
        raise Rejected(422, "Request validation failed.", errors)
    assert isinstance(body, dict)
    if ("gpu" in body) == ("cpu" in body):
        raise Rejected(400, "exactly one of gpu or cpu must be set")
    if "templateId" in body:
        raise Rejected(404, "template not found")
    mounts = body.get("mounts", {})
    if "persistent" in mounts and "network" in mounts:
        raise Rejected(400, "mounts.persistent and mounts.network are mutually exclusive")
    if "persistent" in mounts and "cpu" in body:
        raise Rejected(400, "mounts.persistent is not supported on CPU pods")
    if len(body.get("env", {})) > MOST_VARIABLES:
        raise Rejected(400, f"a pod can have at most {MOST_VARIABLES} environment variables")
    if "gpu" in body:
        _check_gpu(body)
    elif body["cpu"]["vcpuCount"] & (body["cpu"]["vcpuCount"] - 1):
        raise Rejected(400, "cpu.vcpuCount must be a power of two")
    if unknown := [center for center in body.get("dataCenterIds", []) if center not in CENTERS]:
        raise Rejected(400, f"unknown data center {unknown[0]}")
    return body


def checked_change(body: Any) -> dict[str, Any]:
    """The body of an edit. Raises `Rejected`."""
    if errors := _object_errors("$", body, CHANGE):
        raise Rejected(422, "Request validation failed.", errors)
    assert isinstance(body, dict)
    if "mounts" in body:
        raise Rejected(400, "the kind of a pod's mounts is fixed when it is created")
    return body


def checked_action(body: Any) -> str:
    """The wanted action. Raises `Rejected`."""
    if errors := _object_errors("$", body, {"action": _one_of("start", "stop", "restart", "terminate")}, {"action"}):
        raise Rejected(422, "Request validation failed.", errors)
    return str(body["action"])


def _check_gpu(body: Mapping[str, Any]) -> None:
    gpu = body["gpu"]
    known = GPUS.get(gpu["id"])
    cloud = body.get("cloud", "SECURE")
    if known is None:
        raise Rejected(400, f"unknown GPU type {gpu['id']}")
    if not known.price(cloud):
        raise Rejected(400, f"{known.id} is not offered in the {cloud} cloud")
    if gpu.get("count", 1) > known.most:
        raise Rejected(400, f"at most {known.most} GPUs of this type can be requested")
    if gpu.get("allowedCudaVersions") and "minCudaVersion" in gpu:
        raise Rejected(400, "gpu.allowedCudaVersions and gpu.minCudaVersion are mutually exclusive")


def _object_errors(
    path: str, value: Any, properties: Mapping[str, Check], required: set[str] | frozenset[str] = frozenset()
) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path}: got {_kind(value)}, want object"]
    errors = [f"{path}: missing property '{name}'" for name in sorted(required - value.keys())]
    for name, given in value.items():
        check = properties.get(name)
        if check is None:
            errors.append(f"{path}: additional properties '{name}' not allowed")
        elif (error := check(given)) is not None:
            errors.append(f"{path}.{name}{error}" if error[0] in ".[" else f"{path}.{name}: {error}")
    return errors


def _kind(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _text(shortest: int = 0) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return f"got {_kind(value)}, want string"
        return f"minLength: got {len(value)}, want {shortest}" if len(value) < shortest else None

    return check


def _whole(least: int) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"got {_kind(value)}, want integer"
        return f"minimum: got {value}, want {least}" if value < least else None

    return check


def _one_of(*values: str) -> Check:
    def check(value: Any) -> str | None:
        return None if value in values else f"value must be one of {', '.join(map(repr, values))}"

    return check


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"got {_kind(value)}, want boolean"


def _list(check: Check, most: int | None = None) -> Check:
    def check_all(value: Any) -> str | None:
        if not isinstance(value, list):
            return f"got {_kind(value)}, want array"
        if most is not None and len(value) > most:
            return f"maxItems: got {len(value)}, want {most}"
        return next((f"[{place}]: {error}" for place, one in enumerate(value) if (error := check(one))), None)

    return check_all


def _object(properties: Mapping[str, Check], required: set[str]) -> Check:
    def check(value: Any) -> str | None:
        errors = _object_errors("", value, properties, required)
        return errors[0].removeprefix(": ") if errors else None

    return check


def _variables(value: Any) -> str | None:
    if not isinstance(value, dict):
        return f"got {_kind(value)}, want object"
    return next(
        (f".{name}: got {_kind(one)}, want string" for name, one in value.items() if not isinstance(one, str)), None
    )


def _port(value: Any) -> str | None:
    return None if isinstance(value, str) and re.fullmatch(r"\d{1,5}/(http|tcp)", value) else "want port/protocol"


def _cuda(value: Any) -> str | None:
    return None if isinstance(value, str) and _CUDA.fullmatch(value) else "does not match pattern '^\\d+\\.\\d+$'"


def _or_null(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


CONTAINER: Mapping[str, Check] = {
    "args": _text(),
    "disk": _whole(1),
    "env": _variables,
    "image": _text(),
    "ports": _list(_port),
    "registry": _or_null(_text()),
}
MOUNTS = _object(
    {
        "persistent": _object({"size": _whole(10), "path": _text()}, {"size", "path"}),
        "network": _list(_object({"volumeId": _text(), "path": _text()}, {"volumeId", "path"}), most=1),
    },
    set(),
)
CREATION: Mapping[str, Check] = {
    **CONTAINER,
    "name": _text(1),
    "cloud": _one_of("SECURE", "COMMUNITY"),
    "gpu": _object(
        {
            "id": _text(),
            "count": _whole(1),
            "allowedCudaVersions": _list(_cuda),
            "minCudaVersion": _cuda,
            # Not in the published schema, but sent by the vendor's own SDK.
            "minRamPerGpu": _whole(1),
            "minVcpuCountPerGpu": _whole(1),
        },
        {"id"},
    ),
    "cpu": _object({"id": _text(1), "vcpuCount": _whole(2)}, {"id", "vcpuCount"}),
    "dataCenterIds": _list(_text()),
    "globalNetworking": _flag,
    "mounts": MOUNTS,
    "startJupyter": _flag,
    "startSsh": _flag,
    "templateId": _text(1),
}
CHANGE: Mapping[str, Check] = {
    **CONTAINER,
    "name": _text(1),
    "locked": _flag,
    "globalNetworking": _flag,
    "mounts": MOUNTS,
    "templateId": _text(),
}
