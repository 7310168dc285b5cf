"""Texts that were made to break something: NUL, runs of combining marks, moments out of all years."""

import asyncio
import base64
import time
from typing import Any

import pytest

from domain.viewer import Viewer
from graph.ids import global_id
from tests.factories import make_run
from tests.graph.served import Served

pytestmark = pytest.mark.anyio

ANSWER = "{ __typename ... on Problem { code field } }"
MARKS = "a" + "\u0301\u0323" * 100_000
"""Normalizing it takes minutes."""
SIGN_IN = f"mutation ($text: String!) {{ answer: signIn(input: {{email: $text, password: $text}}) {ANSWER} }}"
SIGN_UP = f"mutation ($text: String!) {{ answer: signUp(input: {{email: $text, password: $text}}) {ANSWER} }}"
CREATE = f"mutation ($text: String!) {{ answer: createDataset(input: {{name: $text, format: CSV}}) {ANSWER} }}"


class TestCombiningMarks:
    @pytest.mark.parametrize(
        ("document", "code"),
        [(SIGN_IN, "WRONG_CREDENTIALS"), (SIGN_UP, "BAD_EMAIL"), (CREATE, "BAD_DATASET_NAME")],
        ids=["signIn", "signUp", "createDataset"],
    )
    async def test_hold_nobody_up(self, served: Served, ada: Viewer, document: str, code: str) -> None:
        began_at = time.perf_counter()

        answer, health = await asyncio.gather(
            served.data(document, served.token_of(ada), text=MARKS), served.get("/healthz")
        )

        assert answer["answer"]["code"] == code
        assert health.status_code == 200
        assert time.perf_counter() - began_at < 3


class TestNul:
    async def test_is_no_address_of_anybody(self, served: Served) -> None:
        data = await served.data(SIGN_IN, text="ada\0@example.com")

        assert data["answer"]["code"] == "WRONG_CREDENTIALS"

    @pytest.mark.parametrize(
        ("document", "variables"),
        [
            ("query ($text: [String!]) { trainingRuns(filter: {tags: $text}) { nodes { id } } }", {"text": ["a\0"]}),
            ("query ($text: String!) { app(slug: $text) { id } }", {"text": "a\0"}),
            (
                'mutation ($text: String!) { startTrainingRun(input: {modelName: "m", provider: LOCAL,'
                f' recipe: "tabular-classification", idempotencyKey: $text}}) {ANSWER} }}',
                {"text": "a\0"},
            ),
            (
                'mutation ($text: JSON!) { startTrainingRun(input: {modelName: "m", provider: LOCAL,'
                f' recipe: "tabular-classification", metadata: $text}}) {ANSWER} }}',
                {"text": {"a\0": 1}},
            ),
        ],
        ids=["tags", "slug", "idempotencyKey", "metadata"],
    )
    async def test_is_no_fault_of_ours(
        self, served: Served, ada: Viewer, document: str, variables: dict[str, Any]
    ) -> None:
        payload = await served.ask(document, served.token_of(ada), **variables)

        assert "INTERNAL" not in {error["extensions"]["code"] for error in payload.get("errors", [])}


class TestMoments:
    @pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
    async def test_out_of_all_years_are_refused(self, served: Served, ada: Viewer, moment: str) -> None:
        document = "query ($at: DateTime!) { trainingRuns(filter: {createdAfter: $at}) { nodes { id } } }"

        payload = await served.ask(document, served.token_of(ada), at=moment)

        assert payload["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


class TestCursors:
    @pytest.mark.parametrize("seq", [2**31 - 1, 2**63, 10**30])
    async def test_of_numbers_that_no_event_has_are_refused(self, served: Served, ada: Viewer, seq: int) -> None:
        run = await make_run(served.database, ada)
        text = f"1.run.{run.id}.1.{seq}".encode()
        cursor = base64.urlsafe_b64encode(text).decode().rstrip("=")
        document = "query ($id: ID!, $at: Cursor!) { trainingRun(id: $id) { events(after: $at) { edges { cursor } } } }"

        payload = await served.ask(document, served.token_of(ada), id=global_id("TrainingRun", run.id), at=cursor)

        assert payload["errors"][0]["extensions"]["code"] == "BAD_CURSOR"
