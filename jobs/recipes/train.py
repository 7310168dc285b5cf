"""The training program of a sandbox: `python -m recipes.train`, in a folder that holds `order.json`."""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from .fetch import Download
from .words import Failure, say, stage, tell

EXIT_CODES = {"CODE_ERROR": 1, "DATA_ERROR": 2, "DIVERGED": 3}


def take_order(home: Path) -> dict[str, Any]:
    """Read the order, and take the grant out of the file at once: from here on it lives in memory only."""
    path = home / "order.json"
    order: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    kept = {**order, "dataset": {name: value for name, value in order["dataset"].items() if name != "token"}}
    with open(path, "r+", encoding="utf-8") as file:  # over the old bytes, not into a new file beside them
        size = os.fstat(file.fileno()).st_size
        file.write(json.dumps(kept).ljust(size))
        file.truncate()
    return order


def run(home: Path) -> None:
    """Fetch, read, train, save."""
    order = take_order(home)
    dataset = order["dataset"]
    say(f"recipe {order['recipe']}, attempt {order['attempt']}")
    stage("DOWNLOADING_DATA")
    data = home / "data"
    data.mkdir(exist_ok=True)
    content = data / "content"
    if "url" not in dataset and not (content.exists() and content.stat().st_size == dataset["bytes"]):
        raise Failure("DATA_ERROR", "The dataset is not there whole, and the order names no address to fetch it from.")
    # What is there already is only compared with what was ordered.
    Download(dataset.get("url", ""), dataset.get("token", ""), dataset["bytes"], dataset["sha256"], content).run()

    # After the download: importing these takes a second, and a refused download should not wait for it.
    from .fitting import fit
    from .models import MODEL_FILE, load, predict, save
    from .tables import read_table

    tell(stage="TRAINING", percent=0.0)
    began = time.monotonic()
    bundle = fit(order["recipe"], read_table(content, dataset["format"]), order["hyperparameters"])
    say(f"trained in {time.monotonic() - began:.1f} s: {_words_of(bundle['description']['metrics'])}")

    stage("SAVING")
    bundle["description"]["runId"] = order["runId"]
    bundle["description"]["attempt"] = order["attempt"]
    receipt = save(home / "artifact", bundle)
    samples = bundle["description"]["samples"]
    again = predict(load(home / "artifact" / MODEL_FILE, receipt["sha256"]), [sample["row"] for sample in samples])
    if again["predictions"] != [sample["prediction"] for sample in samples]:
        raise Failure("CODE_ERROR", "The stored model does not predict what the trained one does.")
    say(f"saved {receipt['name']}: {receipt['bytes']:,} bytes, SHA-256 {receipt['sha256'][:12]}…")


def main() -> int:
    """The exit code; the last line says the same in words."""
    try:
        run(Path.cwd())
    except Failure as failure:
        say(f"ERROR {failure.message}")
        return _end(failure.reason, failure.message)
    except MemoryError:
        say("ERROR out of memory")
        return _end("CODE_ERROR", "The training ran out of memory; try fewer rows or columns.")
    except Exception as error:
        traceback.print_exc()
        return _end("CODE_ERROR", f"{type(error).__name__}: {error}"[:1_000])
    tell(end={"reason": "SUCCEEDED", "message": None})
    return 0


def _end(reason: str, message: str) -> int:
    tell(end={"reason": reason, "message": message})
    return EXIT_CODES[reason]


def _words_of(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


if __name__ == "__main__":
    sys.exit(main())
