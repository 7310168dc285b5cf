"""Which part of a file is sent, and under which name."""

import re
from urllib.parse import unquote

import pytest

from graph.dataset.ranges import Part, Unsatisfiable, disposition_of, part_of

ETAG = '"abc"'
WHOLE = Part(0, 100)


@pytest.mark.parametrize(
    ("asked", "if_range", "part"),
    [
        ([], None, WHOLE),
        (["bytes=0-"], None, Part(0, 100, True)),
        (["bytes=0-0"], None, Part(0, 1, True)),
        (["bytes=40-59"], None, Part(40, 20, True)),
        (["bytes=99-"], None, Part(99, 1, True)),
        (["bytes=90-1000"], None, Part(90, 10, True)),
        (["bytes=-30"], None, Part(70, 30, True)),
        (["bytes=-1000"], None, Part(0, 100, True)),
        ([" Bytes = 5-9 "], None, Part(5, 5, True)),
        (["bytes=5-9"], ETAG, Part(5, 5, True)),
        (["bytes=5-9"], '"other"', WHOLE),
        (["bytes=5-9"], "W/" + ETAG, WHOLE),
        (["bytes=5-9"], "Thu, 15 Jan 2026 12:00:00 GMT", WHOLE),
        (["bytes=0-9,20-29"], None, WHOLE),
        (["bytes=0-9", "bytes=20-29"], None, WHOLE),
        (["bytes=9-5"], None, WHOLE),
        (["bytes=-"], None, WHOLE),
        (["bytes="], None, WHOLE),
        (["bytes=a-b"], None, WHOLE),
        (["bytes=+5-9"], None, WHOLE),
        (["bytes=٥-٩"], None, WHOLE),
        (["bytes=" + "9" * 5000 + "-"], None, WHOLE),
        (["rows=0-9"], None, WHOLE),
    ],
)
def test_a_part_is_what_the_range_says(asked: list[str], if_range: str | None, part: Part) -> None:
    assert part_of(asked, if_range, etag=ETAG, size=100) == part


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=100-200", "bytes=9999999999999999999-", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_had(asked: str) -> None:
    with pytest.raises(Unsatisfiable):
        part_of([asked], None, etag=ETAG, size=100)


@pytest.mark.parametrize(
    ("name", "plain", "full"),
    [
        ("digits.csv", "digits.csv", "digits.csv"),
        ("digits", "digits.csv", "digits.csv"),
        ("Março 50%.CSV", "Marco_50_.CSV", "Março 50%.CSV"),
        ('a"; filename="b.exe', "a_filename_b.exe.csv", 'a"; filename="b.exe.csv'),
        ("a\r\nSet-Cookie: x=1", "a_Set-Cookie_x_1.csv", "a\r\nSet-Cookie: x=1.csv"),
        ("../../etc/passwd", "etc_passwd.csv", "/../etc/passwd.csv"),
        (".bashrc", "bashrc.csv", "bashrc.csv"),
        ("数字", "dataset.csv", "数字.csv"),
        ("x" * 200, "x" * 116 + ".csv", "x" * 116 + ".csv"),
        ("lone \ud800", "lone_.csv", "lone ?.csv"),
    ],
)
def test_a_name_stays_within_its_header(name: str, plain: str, full: str) -> None:
    header = disposition_of(name, ".csv")
    found = re.fullmatch(r"attachment; filename=\"([A-Za-z0-9._-]+)\"; filename\*=UTF-8''([A-Za-z0-9._~%-]+)", header)
    assert found is not None
    assert (found[1], unquote(found[2])) == (plain, full)
