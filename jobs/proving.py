"""The proof that a deployment answers: asked through the stable public address, as anybody would.

The address must name the run and the model file's SHA-256, and predict a row that was stored with its prediction when
the model was trained. Until then nobody else is sent to the deployment, so the question carries a token of ours, good
for a minute, that names it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import anyio
import httpx2
import orjson

from domain.account.tokens import Tokens
from domain.deployment.address import DEPLOYMENT_HEADER, address_of, proof_subject
from domain.deployment.model import App
from domain.secret import Secret
from domain.training.model import Artifact
from jobs.context import JobContext

PROOF_SECONDS = 15.0
"""How long one proof may go on; the API may be restarting."""
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0
ANSWER_LIMIT_BYTES = 4 * 1024 * 1024
NOT_YET = frozenset({404, 408, 421, 425, 429, 500, 502, 503, 504})
"""What a proxy or an API that restarts may answer; also where the address does not lead to us yet."""


class NotProved(Exception):
    """The address does not answer yet."""


class WrongAnswer(Exception):
    """The address answers, and not as the trained model would."""


async def prove(
    context: JobContext, *, app: App, deployment_id: UUID, artifact: Artifact, seconds: float = PROOF_SECONDS
) -> None:
    """Ask the app's public address until it answers. Raises `NotProved`, `WrongAnswer`."""
    sample = _sample_of(artifact)
    reason = "The public address did not answer."
    pause = FIRST_PAUSE_SECONDS
    with anyio.move_on_after(seconds):
        while True:
            try:
                return await _prove_once(context, app, deployment_id, artifact, sample)
            except NotProved as error:
                reason = str(error)
            await anyio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    raise NotProved(reason)


async def _prove_once(
    context: JobContext, app: App, deployment_id: UUID, artifact: Artifact, sample: Mapping[str, Any]
) -> None:
    tokens = Tokens(context.settings.signing_keys(), context.clock)
    token = tokens.app_token(proof_subject(app.slug, deployment_id))
    address = address_of(context.settings, app.slug)
    about = await _ask(context, "GET", address, token, deployment_id)
    expected = {"runId": str(artifact.run_id), "artifactSha256": artifact.sha256}
    named = {name: about.get(name) for name in expected}
    if named != expected:
        raise WrongAnswer("The address answered for another model than the one that was trained.")
    answer = await _ask(context, "POST", f"{address}predict", token, deployment_id, {"rows": [sample["row"]]})
    predictions = answer.get("predictions")
    if not isinstance(predictions, list) or len(predictions) != 1 or not _same(predictions[0], sample["prediction"]):
        raise WrongAnswer("The address predicted another value for a stored row than the trained model did.")


async def _ask(
    context: JobContext, method: str, address: str, token: Secret, deployment_id: UUID, body: object = None
) -> Mapping[str, Any]:
    """The answer's JSON object."""
    headers = {
        "Authorization": f"Bearer {token.reveal()}",
        DEPLOYMENT_HEADER: str(deployment_id),
        "Accept": "application/json",
    }
    content = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        content = orjson.dumps(body)
    try:
        async with context.http.stream(method, address, headers=headers, content=content) as response:
            if response.status_code in NOT_YET:
                raise NotProved(f"The public address answers {response.status_code}.")
            if response.status_code != 200:
                raise WrongAnswer(f"The address answers {response.status_code} to {method}.")
            answer = await _bounded(response)
    except httpx2.TransportError:
        raise NotProved("The public address cannot be reached.") from None
    try:
        value = orjson.loads(answer)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise WrongAnswer("The address does not answer with a JSON object.")
    return value


async def _bounded(response: httpx2.Response) -> bytes:
    chunks = bytearray()
    async for chunk in response.aiter_bytes():
        chunks += chunk
        if len(chunks) > ANSWER_LIMIT_BYTES:
            raise WrongAnswer("The address answers with more than a prediction.")
    return bytes(chunks)


def _sample_of(artifact: Artifact) -> Mapping[str, Any]:
    """A row that was stored with its prediction."""
    samples = artifact.details.get("samples")
    sample = samples[0] if isinstance(samples, Sequence) and samples and not isinstance(samples, str) else None
    if not isinstance(sample, Mapping) or not {"row", "prediction"} <= set(sample):
        raise WrongAnswer("The trained model holds no stored row that it could be proved with.")
    return sample


def _same(found: object, expected: object) -> bool:
    """Numbers may differ in their last digits, which another build of a library computes differently."""
    if _is_number(found) and _is_number(expected):
        return math.isclose(float(str(found)), float(str(expected)), rel_tol=1e-6, abs_tol=1e-9)
    return found == expected


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
