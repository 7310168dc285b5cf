"""The input of `startTrainingRun` for each planned run. No package is installed for any of them."""

from collections.abc import Mapping
from typing import Any

from domain.training.status import Provider
from tests.chaos.plan import PlannedRun

IMAGES_URL = "https://images.example/{number}.png"
DATA_URL = "https://data.example/rows.csv"
"""Nobody fetches these: simulators fetch from this machine only."""
TEXT_TRAINER = {"trainer": "zsxkib/text-classifier-trainer", "datasetInput": "train_data", "billedHardware": "gpu-l40s"}
PROGRAM = """
import hashlib, json, os, sys, time
for step in range(1, 11):
    time.sleep({seconds})
    print(f"step {{step}}/10 loss {{1 / step:.4f}}", flush=True)
if {fails}:
    raise RuntimeError("the loss does not fall")
os.makedirs("artifact", exist_ok=True)
weights = b"weights " * 1000
with open("artifact/weights.bin", "wb") as file:
    file.write(weights)
receipt = {{
    "name": "weights.bin", "bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest(), "details": {{}},
}}
with open("artifact/artifact.new", "w") as file:
    json.dump(receipt, file)
os.rename("artifact/artifact.new", "artifact/artifact.json")
"""
"""Trains nothing, and tells of it. The receipt comes last, whole: with it the work is done."""
PROGRAM_SECONDS = 2.5


def wish_of(run: PlannedRun, datasets: Mapping[str, str]) -> dict[str, Any]:
    """The input; `datasets` are the user's, by material."""
    wish: dict[str, Any] = {
        "modelName": f"model-{run.number}",
        "provider": run.provider.value,
        "idempotencyKey": f"run-{run.number}",
        "scenario": run.scenario,
        "deploy": False,
        "budgetMicros": run.budget_micros,
        "timeLimitSeconds": run.time_limit_seconds,
        **_training(run),
    }
    if run.gpu_types:
        wish["gpuTypes"] = list(run.gpu_types)
    if run.fallback is not None:
        wish["fallbacks"] = [{"provider": run.fallback.value}]
    if run.material in datasets:
        wish["datasetId"] = datasets[run.material]
    return wish


def _training(run: PlannedRun) -> dict[str, Any]:
    match run.provider:
        case Provider.REPLICATE if run.material == "pictures":
            return {"recipe": "flux-lora", "hyperparameters": {"triggerWord": "TOK", "steps": 100}}
        case Provider.REPLICATE if run.material == "address":
            # It bears the attempt's tag; without any address only the destination's name tells whose training it is.
            hyperparameters: dict[str, Any] = {**TEXT_TRAINER, "input": {"train_data": DATA_URL}}
            return {"recipe": "replicate-trainer", "hyperparameters": hyperparameters}
        case Provider.REPLICATE:
            return {"recipe": "replicate-trainer", "hyperparameters": dict(TEXT_TRAINER)}
        case Provider.ASTRIA:
            urls = [IMAGES_URL.format(number=number) for number in range(4)] if run.material == "addresses" else []
            return {"recipe": "image-tune", "hyperparameters": {"className": "style", "imageUrls": urls}}
        case Provider.LOCAL:
            hyperparameters = {"hiddenLayers": [8], "epochs": 100}
            return {"recipe": "tabular-classification", "hyperparameters": hyperparameters}
        case _:
            program = PROGRAM.format(seconds=PROGRAM_SECONDS / 10, fails=run.fails)
            hyperparameters = {"command": "python3 work.py", "files": {"work.py": program}}
            return {"recipe": "command", "hyperparameters": hyperparameters}
