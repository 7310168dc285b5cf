"""A key for tests is given away lightly: it changes nothing that is done for real, and asks no real provider."""

import pytest
from sqlmodel import select

from domain.ai_model.queries import is_reference_of
from domain.training.model import RunAttempt
from domain.training.status import Provider, RunStatus
from domain.viewer import Viewer
from graph.ids import global_id
from tests.factories import make_model, make_run
from tests.graph.served import Served
from tests.graph.training.test_elsewhere import SYNC_MODEL, key_of_test_mode
from tests.graph.training.wishes import CANCEL, RETRY, SYNC, id_of, row_of

pytestmark = pytest.mark.anyio


async def test_it_stops_and_reads_no_real_run(served: Served, ada: Viewer) -> None:
    token = await key_of_test_mode(served, ada)
    model = await make_model(served.database, ada)
    real = await make_run(served.database, ada, status=RunStatus.TRAINING, provider=Provider.RUNPOD, model=model)
    for document in (CANCEL, SYNC):
        answer = (await served.data(document, token, id=id_of(real)))["answer"]
        assert (answer["__typename"], answer["code"]) == ("Forbidden", "NOT_IN_TEST_MODE")
    assert (await row_of(served, real)).status is RunStatus.TRAINING


async def test_it_has_no_real_provider_read_for_a_model(served: Served, ada: Viewer) -> None:
    token = await key_of_test_mode(served, ada)
    model = await make_model(served.database, ada)
    run = await make_run(served.database, ada, status=RunStatus.FAILED, provider=Provider.ASTRIA, model=model)
    async with served.worker.begin() as work:
        attempt = (await work.session.exec(select(RunAttempt).where(RunAttempt.run_id == run.id))).one()
        attempt.reference = "1504944"
    for version in (None, "1504944"):
        answer = (await served.data(SYNC_MODEL, token, id=global_id("AIModel", model.id), version=version))["answer"]
        assert answer["code"] == "NOT_IN_TEST_MODE"


async def test_its_own_runs_are_its_own(served: Served, ada: Viewer) -> None:
    token = await key_of_test_mode(served, ada)
    played = await make_run(served.database, ada, test_mode=True, attempts=1)
    assert "code" not in (await served.data(SYNC, token, id=id_of(played)))["answer"]
    assert (await served.data(CANCEL, token, id=id_of(played)))["answer"]["status"] == "CANCELED"


async def test_what_it_tries_again_is_a_test(served: Served, ada: Viewer) -> None:
    token = await key_of_test_mode(served, ada)
    real = await make_run(
        served.database,
        ada,
        status=RunStatus.FAILED,
        provider=Provider.RUNPOD,
        recipe="command",
        hyperparameters={"command": "true"},
        choices=[{"provider": "RUNPOD", "gpuType": "NVIDIA A40", "integrationId": None}],
        deploy=False,
    )
    answer = (await served.data(RETRY, token, id=id_of(real)))["answer"]
    assert answer["__typename"] == "TrainingRun", answer


async def test_a_number_that_a_simulator_gave_names_nothing_real(served: Served, ada: Viewer) -> None:
    """Simulated tunes have numbers like real ones, and whoever makes many comes by that of somebody else's."""
    assert ada.user_id is not None
    for test_mode in (True, False):
        run = await make_run(
            served.database, ada, status=RunStatus.FAILED, provider=Provider.ASTRIA, test_mode=test_mode
        )
        async with served.worker.begin() as work:
            attempt = (await work.session.exec(select(RunAttempt).where(RunAttempt.run_id == run.id))).one()
            attempt.reference = "3401603" if test_mode else "2504944"
    async with served.database.begin(ada) as work:
        found = {
            (number, test_mode): await is_reference_of(
                work.session, ada.user_id, Provider.ASTRIA, [number], test_mode=test_mode
            )
            for number in ("3401603", "2504944")
            for test_mode in (True, False)
        }
    assert [key for key, is_theirs in found.items() if is_theirs] == [("3401603", True), ("2504944", False)]
