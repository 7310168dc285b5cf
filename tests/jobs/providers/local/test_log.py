"""A sandbox's log: whole lines with time and stream, each exactly once, without secrets."""

from pathlib import Path

import pytest

from jobs.providers.local import supervisor
from tests.jobs.providers.local.support import ended, program_of, started, texts_of

pytestmark = pytest.mark.anyio


async def test_lines_come_once_over_any_offsets(tmp_path: Path) -> None:
    code = "for n in range(300): print(n, 'é…😀' * (n % 7))"
    sandbox = await started(tmp_path, "one", program_of(code))
    lines: list[bytes] = []
    offset = 0
    while True:
        final = (await sandbox.state()).value == "EXITED"
        log = await sandbox.read_log(offset, 200, 3)
        lines += log.lines
        offset = log.end
        if final and log.at_end:
            break

    expected = [f"{n} {'é…😀' * (n % 7)}" for n in range(300)]
    assert [line.decode().split(" ", 2)[2] for line in lines] == expected
    assert offset == (sandbox.folder / "log").stat().st_size


async def test_a_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    sandbox = await started(tmp_path, "one", program_of("pass"))
    await ended(sandbox)
    log = sandbox.folder / "log"
    log.write_bytes("1 O whole\n2 O half é".encode()[:-1])

    first = await sandbox.read_log(0, 1_000, 10)
    assert (first.lines, first.end, first.at_end) == ((b"1 O whole",), 10, True)
    with log.open("ab") as file:
        file.write("é".encode()[1:] + b"!\n")
    second = await sandbox.read_log(first.end, 1_000, 10)
    assert second.lines == ("2 O half é!".encode(),)


async def test_what_cannot_be_stored_is_made_storable(tmp_path: Path) -> None:
    code = (
        "import sys\nout = sys.stdout.buffer\nout.write(b'nul\\0 bad\\xff\\n')\nout.write(b'x' * 9000 + b'\\n')\n"
        "out.write(b'windows\\r\\n')\nout.write(b'y' * 200_000 + b'\\nafter\\n')\nout.write(b'no end')"
    )
    sandbox = await started(tmp_path, "one", program_of(code))

    await ended(sandbox)
    assert await texts_of(sandbox) == [
        "O nul bad\ufffd",
        f"O {'x' * 8_191}…",
        "O windows",
        f"O {'y' * 8_191}…",
        "O after",
        "O no end",
    ]


async def test_progress_bars_are_thinned(tmp_path: Path) -> None:
    code = "import sys\nfor n in range(5000): sys.stdout.write(f'{n}%\\r')\nsys.stdout.write('done\\n')"
    sandbox = await started(tmp_path, "one", program_of(code))

    await ended(sandbox)
    lines = await texts_of(sandbox)
    assert len(lines) < 30
    assert lines[-2:] == ["O 4999%", "O done"]


async def test_secrets_are_hidden_in_both_streams_and_at_the_cut(tmp_path: Path) -> None:
    secret = "rwg_0123456789abcdefghijklmnopqrstuvwxyz"
    code = f"import sys\nprint('got {secret}')\nprint('{secret}', file=sys.stderr)\nprint('z' * 8180 + '{secret}')"
    sandbox = await started(tmp_path, "one", program_of(code, mask=(secret,)))

    await ended(sandbox)
    text = (sandbox.folder / "log").read_text()
    assert sorted(await texts_of(sandbox)) == ["E •••", "O got •••", f"O {'z' * 8_180}•••"]
    assert secret[:10] not in text
    assert secret not in (sandbox.folder / "spec.json").read_text().partition('"mask"')[2]


def test_a_full_log_says_so_and_still_takes_the_last_word(tmp_path: Path) -> None:
    log = supervisor.Log(str(tmp_path / "log"), 200, [], str(tmp_path))
    for _ in range(20):
        log.write("O", b"a loud line")
    log.write("O", b'::runwire {"end": {}}')

    texts = [line.split(" ", 2)[2] for line in (tmp_path / "log").read_text().splitlines()]
    assert texts[-2:] == ["WARNING The log reached its limit; further lines are not kept.", '::runwire {"end": {}}']
    assert set(texts[:-2]) == {"a loud line"}
