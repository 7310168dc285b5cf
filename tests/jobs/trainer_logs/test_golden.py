"""What tools really print means what its table says, line by line. How each was recorded: `golden/README.md`."""

import pytest

from tests.jobs.trainer_logs.golden import FOLDER, Golden, goldens, table_of

GOLDENS = goldens()


@pytest.mark.parametrize("golden", GOLDENS, ids=[golden.name for golden in GOLDENS])
def test_means_what_its_table_says(golden: Golden) -> None:
    assert table_of(golden) == golden.table


def test_every_log_has_a_table() -> None:
    logs = {path.stem for path in FOLDER.glob("*.log")}
    assert logs == {golden.name for golden in GOLDENS}
    assert len(logs) >= 18
