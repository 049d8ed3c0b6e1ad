"""Cutting text into records: lines are right, whatever stands before and wherever blocks end."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.batch import records
from playhead.batch.records import Splitter, first_record, read_records

CELLS = st.text(alphabet='ab ,"\n\réß', max_size=6)
PIECES = st.lists(
    st.sampled_from(["a", ",", '"', '""', "\n", "\r\n", "\r", '"x"', "b,c\n", '"p\nq",r\n', "é"]),
    max_size=30,
)


def split(data: bytes, size: int, *, quoted: bool = True) -> tuple[list[tuple[int, bytes]], list]:
    """Good records with their lines, and the rejects, from chunks of `size` bytes."""
    splitter = Splitter(quoted=quoted)
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    parts = [splitter.feed(chunk) for chunk in chunks] + [splitter.feed(b"", final=True)]
    good, rejects = [], []
    for part in parts:
        bodies = _records_of(part.body, quoted=quoted)
        assert len(bodies) == part.lines.size
        good += zip(part.lines.tolist(), bodies, strict=True)
        rejects += part.rejects
    return good, rejects


def _records_of(body: bytes, *, quoted: bool) -> list[bytes]:
    found = []
    while body:
        record = first_record(body) if quoted else body[: body.index(b"\n") + 1]
        assert record
        found.append(record)
        body = body[len(record) :]
    return found


@given(PIECES, st.integers(1, 9))
def test_where_blocks_end_changes_nothing(pieces: list[str], size: int) -> None:
    data = "".join(pieces).encode()
    assert split(data, size) == split(data, len(data) + 1)


@given(PIECES)
def test_no_byte_is_lost(pieces: list[str]) -> None:
    data = "".join(pieces).encode()
    good, rejects = split(data, 5)
    kept = sorted([*good, *((r.line, r.text.encode()) for r in rejects)])
    ours = b"".join(text for _, text in kept).replace(b"\n", b"").replace(b"\r", b"")
    assert ours == data.replace(b"\n", b"").replace(b"\r", b"")


@given(st.lists(st.lists(CELLS, min_size=2, max_size=3), max_size=8), st.integers(1, 40))
def test_well_formed_csv_is_cut_as_the_csv_module_cuts_it(rows: list[list[str]], size: int) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    lines, expected = [], []
    for row in rows:
        before = text.getvalue()
        writer.writerow(row)
        lines.append(before.count("\n") + 1)
        expected.append(text.getvalue()[len(before) :].encode())
    good, rejects = split(text.getvalue().encode(), size)
    assert not rejects
    assert good == list(zip(lines, expected, strict=True))


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (b'1,2\n3,5" x\n4,5\n', 2, "never closed, or stands inside"),
        (b'1,2\n3,"a"b\n4,5\n', 2, "before or after a quoted value"),
        (b'1,2\n3,"a\n4,5\n', 2, "never closed"),
        (b"1,2\n3,\xff\n4,5\n", 2, "no UTF-8"),
        (b'1,2\n"a\n\xff",5\n4,5\n', 2, "no UTF-8"),
        (b"1,2\n3\r4\n4,5\n", 2, "carriage return"),
    ],
)
def test_a_fault_costs_its_own_record_and_no_other(text: bytes, line: int, reason: str) -> None:
    good, rejects = split(text, 1 << 10)
    assert [reject.line for reject in rejects] == [line]
    assert reason in rejects[0].reason
    assert [record for _, record in good] == [b"1,2\n", b"4,5\n"]
    assert good[-1][0] == text[: text.rindex(b"4,5")].count(b"\n") + 1


def test_blank_lines_and_crlf_are_fine() -> None:
    good, rejects = split(b"a,b\r\n\r\n\n c,d\r\ne,f", 7)
    assert not rejects
    assert [line for line, _ in good] == [1, 4, 5]


@pytest.mark.parametrize("size", [7, 50, 1000])
@pytest.mark.parametrize("quoted", [True, False])
def test_an_overlong_line_is_rejected_and_the_next_is_read(
    monkeypatch: pytest.MonkeyPatch, size: int, quoted: bool
) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 20)
    data = b"a,b\n" + b"x" * 90 + b"\nc,d\n" + b"y" * 70
    good, rejects = split(data, size, quoted=quoted)
    assert good == [(1, b"a,b\n"), (3, b"c,d\n")]
    assert [reject.line for reject in rejects] == [2, 4]
    assert all("longer than 20 bytes" in reject.reason for reject in rejects)


def test_a_quote_that_never_closes_is_given_up_at_the_longest_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 20)
    good, rejects = split(b'a,"b\n' + b"c,d\n" * 30, 16)
    assert [reject.line for reject in rejects] == [1]
    assert [line for line, _ in good] == list(range(2, 32))


def test_a_file_is_read_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "BLOCK_BYTES", 10)
    data = b'a,"1\n2"\n' * 20
    lines = [n for r in read_records(io.BytesIO(data), Splitter(quoted=True)) for n in r.lines]
    assert lines == list(range(1, 41, 2))


def test_json_lines_may_hold_quotes_and_returns() -> None:
    good, rejects = split(b'{"a":"x\\"y"}\r\n{"b\n{}\n', 4, quoted=False)
    assert not rejects
    assert [line for line, _ in good] == [1, 2, 3]


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\n"])
def test_nothing_gives_no_record(data: bytes) -> None:
    assert split(data, 3) == ([], [])
