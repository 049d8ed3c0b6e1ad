"""Rows as CSV and JSON text, for any values."""

import csv
import io
import json
import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from playhead.cli.tables import data_table, fitting
from playhead.serving.rowtext import csv_text, json_text

TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
ROWS = st.lists(
    st.tuples(
        TEXTS,
        st.none() | st.decimals("-99999999.99", "99999999.99", places=2),
        st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
        st.none() | st.dates(date(1900, 1, 1), date(2200, 1, 1)),
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(),
    ),
    max_size=6,
)
SCHEMA = pa.schema(
    [
        ("te,xt", pa.string()),
        ("money", pa.decimal128(12, 2)),
        ("at", pa.timestamp("us")),
        ("day", pa.date32()),
        ("count", pa.int64()),
        ("rate", pa.float64()),
    ]
)


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [[]] * len(SCHEMA)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _csv(table: pa.Table) -> str:
    return b"".join(csv_text(table)).decode()


def _json(table: pa.Table) -> Any:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    text = b"".join(json_text(table)).decode()
    return json.loads(text, parse_float=Decimal, parse_constant=refuse)


@given(ROWS)
def test_csv_reads_back_as_it_was(rows: list[tuple[Any, ...]]) -> None:
    header, *lines = csv.reader(io.StringIO(_csv(_table(rows)), newline=""))
    assert header == SCHEMA.names
    assert len(lines) == len(rows)
    for line, (text, money, at, day, number, rate) in zip(lines, rows, strict=True):
        assert line[0] == (text or "")
        assert line[1] == ("" if money is None else f"{money:.2f}")
        assert (datetime.fromisoformat(line[2]) if line[2] else None) == at
        assert line[3] == ("" if day is None else day.isoformat())
        assert line[4] == ("" if number is None else str(number))
        assert (line[5] == "") == (rate is None)
        if rate is not None:
            assert float(line[5]) == rate or math.isnan(rate)


@given(ROWS)
def test_json_reads_back_as_it_was(rows: list[tuple[Any, ...]]) -> None:
    objects = _json(_table(rows))
    assert len(objects) == len(rows)
    for found, (text, money, at, day, number, rate) in zip(objects, rows, strict=True):
        assert list(found) == SCHEMA.names
        assert found["te,xt"] == text
        assert found["money"] == money
        assert (datetime.fromisoformat(found["at"]) if found["at"] else None) == at
        assert found["day"] == (None if day is None else day.isoformat())
        assert found["count"] == number
        finite = rate is not None and math.isfinite(rate)
        assert (float(found["rate"]) == rate) if finite else (found["rate"] is None)


def test_null_and_empty_text_differ_in_csv() -> None:
    assert _csv(pa.table({"a": [None, ""], "b": [1, 2]})) == 'a,b\n,1\n"",2\n'
    assert _csv(pa.table({"a": pa.array([None, "x"])})) == 'a\n""\nx\n', "no empty line"


NESTED = """
    SELECT {'start': TIMESTAMP '2024-01-01 20:15:00', 'end': NULL::TIMESTAMP} AS session,
        [DECIMAL '1.50', NULL] AS list, []::INTEGER[] AS empty, MAP {'k"': [{'x': 1}]} AS map,
        123456789012345678901234567890::HUGEINT AS huge, NULL::INTEGER[] AS none,
        TIMESTAMPTZ '2024-01-01 20:15:00+00' AS zoned, TIME '20:15:00' AS clock,
        0.0000000001::DECIMAL(18, 10) AS tiny, 0.1234::DECIMAL(4, 4) AS share,
        'a'::ENUM('a', 'b') AS one, 'NaN'::DOUBLE AS nothing
"""


def test_nested_and_rare_types() -> None:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    table = connection.execute(NESTED).to_arrow_table()
    text = b"".join(json_text(table)).decode()
    assert '"tiny":0.0000000001' in text
    (row,) = _json(table)
    assert row == {
        "session": {"start": "2024-01-01T20:15:00", "end": None},
        "list": [Decimal("1.50"), None],
        "empty": [],
        "map": {'k"': [{"x": 1}]},
        "huge": 123456789012345678901234567890,
        "none": None,
        "zoned": "2024-01-01T20:15:00Z",
        "clock": "20:15:00",
        "tiny": Decimal("0.0000000001"),
        "share": Decimal("0.1234"),
        "one": "a",
        "nothing": None,
    }
    _, line = csv.reader(io.StringIO(_csv(table)))
    assert json.loads(line[0]) == row["session"]
    assert line[5] == ""


def test_columns_of_one_name_are_all_written() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert _csv(table) == "a,a\n1,2\n"


def test_no_rows() -> None:
    table = SCHEMA.empty_table()
    assert _csv(table) == '"te,xt",money,at,day,count,rate\n'
    assert _json(table) == []


@pytest.mark.parametrize("text", [csv_text, json_text])
def test_many_rows_come_in_pieces_and_in_order(text: Any) -> None:
    table = pa.table({"i": pa.array(range(100_000))})
    pieces = list(text(table))
    assert len(pieces) > 3
    digits = b"".join(pieces).replace(b'{"i":', b"").replace(b"}", b"").replace(b",\n", b"\n")
    found = [int(line) for line in digits.split() if line.isdigit()]
    assert found == list(range(100_000))


# -- tables ------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(20, 200))
def test_fitting_columns_fit(widths: list[int], width: int) -> None:
    kept = fitting(widths, width)
    whole = [place for place in kept if place is not None]
    assert whole == sorted(set(whole))
    assert whole[0] == 0
    if len(whole) == len(widths):
        assert None not in kept
    drawn = sum(1 if p is None else widths[p] for p in kept) + 3 * len(kept) + 1
    assert drawn <= width or len(whole) == 1


def test_table_on_a_terminal_is_never_wider_than_it() -> None:
    table = pa.table({f"column_{n}": ["x" * 30, None] for n in range(10)})
    for width in (40, 80, 120):
        console = Console(width=width, file=io.StringIO(), force_terminal=True)
        console.print(data_table(table, width=width))
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert len(lines) == 6, "nothing is wrapped"
