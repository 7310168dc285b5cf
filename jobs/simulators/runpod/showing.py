"""What can be looked up: GPU types with prices and stock, data centers, and what pods have cost."""

from datetime import timedelta

from starlette.responses import JSONResponse, Response

from jobs.simulators.runpod.asking import Asked
from jobs.simulators.runpod.catalog import CENTERS, GPUS, center_json, gpu_json
from jobs.simulators.runpod.checking import Rejected
from jobs.simulators.runpod.pods import stamp


async def list_gpus(asked: Asked) -> Response:
    cloud, with_stock = _catalog_wish(asked)
    shown = [gpu_json(gpu, availability=_stock(asked, gpu.id, cloud) if with_stock else None) for gpu in GPUS.values()]
    return JSONResponse({"gpus": shown})


async def get_gpu(asked: Asked) -> Response:
    cloud, with_stock = _catalog_wish(asked)
    gpu = GPUS.get(asked.request.path_params["id"])
    if gpu is None:
        raise Rejected(404, "GPU type not found")
    return JSONResponse(gpu_json(gpu, availability=_stock(asked, gpu.id, cloud) if with_stock else None))


def _catalog_wish(asked: Asked) -> tuple[str, bool]:
    query = asked.request.query_params
    include = query.get("include")
    if include not in (None, "AVAILABILITY"):
        raise Rejected(422, "Request validation failed.", [f"query.include: {include!r} is not supported"])
    if include is None and query.keys() & {"product", "count", "cloud"}:
        raise Rejected(400, "product, count and cloud are valid only with include=AVAILABILITY")
    if include is not None and not set(query.get("product", "").split(",")) <= {"POD", "CLUSTER", "SERVERLESS"}:
        raise Rejected(400, "include=AVAILABILITY requires product")
    if not query.get("count", "1").isdigit():
        raise Rejected(422, "Request validation failed.", ["query.count: want integer"])
    cloud = query.get("cloud", "SECURE")
    if cloud not in ("SECURE", "COMMUNITY"):
        raise Rejected(422, "Request validation failed.", ["query.cloud: want SECURE or COMMUNITY"])
    return cloud, include is not None


def _stock(asked: Asked, gpu_id: str, cloud: str) -> str:
    gpu = GPUS[gpu_id]
    if gpu_id in asked.simulator.sold_out or not gpu.price(cloud):
        return "NONE"
    return "HIGH" if int(asked.request.query_params.get("count", "1")) <= gpu.most else "NONE"


async def list_centers(asked: Asked) -> Response:
    query = asked.request.query_params
    with_stock = "GPU_AVAILABILITY" in query.get("include", "").split(",")
    stock = {gpu_id: _stock(asked, gpu_id, "SECURE") for gpu_id in GPUS} if with_stock else None
    regions = query.get("regions")
    wanted = [center for center, (_, region) in CENTERS.items() if regions is None or region in regions.split(",")]
    return JSONResponse({"dataCenters": [center_json(center, stock) for center in wanted]})


async def bill_pods(asked: Asked) -> Response:
    """What each pod has cost so far, in one bucket for all time."""
    only = asked.request.query_params.get("podId")
    pods = [pod for pod in asked.simulator.state(asked.caller.account).pods.values() if only in (None, pod.id)]
    span = {"startTime": stamp(asked.now - timedelta(days=30)), "endTime": stamp(asked.now)}
    records: list[dict[str, object]] = []
    totals = dict.fromkeys(("totalAmount", "gpuAmount", "cpuAmount", "diskAmount"), 0.0)
    for pod in pods:
        amount = pod.cost_micros(asked.now) / 1_000_000
        amounts = {**dict.fromkeys(totals, 0.0), "totalAmount": amount}
        amounts["gpuAmount" if "gpu" in pod.body else "cpuAmount"] = amount
        records.append({**span, "podId": pod.id, **amounts})
        totals = {kind: total + amounts[kind] for kind, total in totals.items()}
    metadata = {
        "query": {**span, "bucketSize": "day", "podId": only},
        "recordCount": len(records),
        "uniquePodCount": len(records),
        "totals": totals,
    }
    return JSONResponse({"records": records, "metadata": metadata})
