"""Following a view: what is new changes its groups, and when it has to begin again."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import duckdb
import pyarrow as pa
import pytest

from playhead.engines import connect
from playhead.serving import follow, staterows
from playhead.serving.follow import MOST_BYTES, Follower
from playhead.serving.history import KeptGroups
from playhead.serving.sources import Source, Span, merged_states
from playhead.speed.records import Block
from playhead.views import View
from playhead.views.above import derive

T0 = datetime(2024, 1, 1)
SCHEMA = pa.schema(
    [("event_time", pa.timestamp("us")), ("k", pa.string()), ("u", pa.string()), ("n", pa.int64())]
)
PER_USER = "SELECT k, u, COUNT(*) AS c, SUM(n) AS s, MAX(n) AS m FROM clicks GROUP BY ALL"


def view(above: str, below: str = PER_USER) -> View:
    return View.parse("v", f"WITH a AS ({below}) {above}", schema=SCHEMA)


def block(number: int, *events: tuple[str, str, int | None], hour: int = 0) -> Block:
    rows = [(T0 + timedelta(hours=hour), *event) for event in events]
    table = pa.Table.from_pylist(
        [dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA
    )
    return Block(number, 1, "events", number, number, table)


def source(of: View, *blocks: Block, within: Span | None = None) -> Source:
    newest = max((b.newest for b in blocks), default=0)
    return Source(of.leaves[0], "s", None, blocks, within, 0, newest)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as opened:
        yield opened


@pytest.fixture
def large_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a megabyte each, as far as anyone counts."""
    monkeypatch.setattr(staterows, "LEAST_ROW_BYTES", 1_000_000)


class Asker:
    """Asks one follower again and again."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, of: View, most_bytes: int = MOST_BYTES
    ) -> None:
        self.follower = Follower(KeptGroups(None), most_bytes)
        self._connection, self._view = connection, of

    def __call__(
        self, *blocks: Block, within: Span | None = None, since_block: int = 0
    ) -> list[tuple[object, ...]] | None:
        asked = replace(source(self._view, *blocks, within=within), since_block=since_block)
        groups = self.follower.follow(self._connection, self._view, asked)
        if groups is None:
            return None
        sql = f"WITH {groups.readable(self._connection)} FROM ({groups.final}) ORDER BY ALL"
        return self._connection.execute(sql).fetchall()


def test_a_question_is_followed_from_the_second_time_on(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    ask = Asker(connection, view("SELECT k, COUNT(u) AS users, SUM(s) AS s FROM a GROUP BY k"))
    one, two = block(1, ("x", "u1", 1), ("x", "u2", 2)), block(2, ("x", "u1", 5), ("y", "u1", 7))
    assert ask(one) is None
    assert ask(one) == [("x", 2, 3)]
    assert ask(one, two) == [("x", 2, 8), ("y", 1, 7)]
    assert ask(one, two) == [("x", 2, 8), ("y", 1, 7)]


def test_the_last_value_of_a_sum_may_go(connection: duckdb.DuckDBPyConnection) -> None:
    ask = Asker(
        connection, view("SELECT k, SUM(CASE WHEN c = 1 THEN s END) AS s FROM a GROUP BY k")
    )
    one, two = block(1, ("x", "u1", 1)), block(2, ("x", "u1", 2))
    ask(one)
    assert ask(one) == [("x", 1)]
    assert ask(one, two) == [("x", None)]


def test_the_last_row_of_a_group_may_go(connection: duckdb.DuckDBPyConnection) -> None:
    grouped = view("SELECT k, COUNT(*) AS n FROM a WHERE c = 1 GROUP BY k")
    whole = view("SELECT COUNT(*) AS n, SUM(s) AS s FROM a WHERE c = 1")
    one, two = block(1, ("x", "u1", 1)), block(2, ("x", "u1", 2))
    for above, before, after in ((grouped, [("x", 1)], []), (whole, [(1, 1)], [(0, None)])):
        ask = Asker(connection, above)
        ask(one)
        assert ask(one) == before
        assert ask(one, two) == after


@pytest.mark.parametrize(
    ("above", "can"),
    [
        ("SELECT k, SUM(c) AS n, MAX(m) AS m FROM a GROUP BY k", True),
        ("SELECT k, AVG(s) AS n FROM a WHERE c > 1 GROUP BY k", True),
        ("SELECT k, MIN(m) AS m FROM a GROUP BY k", False),
        ("SELECT k, MAX(c) AS m FROM a GROUP BY k", False),
        ("SELECT k, MAX(m) AS m FROM a WHERE c = 1 GROUP BY k", False),
        ("SELECT k, MAX(m) FILTER (WHERE c = 1) AS m FROM a GROUP BY k", False),
        ("SELECT k, COUNT(DISTINCT c) AS m FROM a GROUP BY k", False),
        ("SELECT k, u, s FROM a", False),
        ("SELECT a.k, b.s FROM a JOIN a AS b ON a.k = b.k", False),
    ],
)
def test_what_can_be_taken_back_can_be_followed(above: str, can: bool) -> None:
    assert (derive(view(above)) is not None) == can


def test_values_of_any_kind(connection: duckdb.DuckDBPyConnection) -> None:
    below = (
        "SELECT k, u, BOOL_OR(n > 1) AS many, MAX(event_time) AS last, "
        "MAX(CAST(n AS DOUBLE)) AS top FROM clicks GROUP BY ALL"
    )
    above = (
        "SELECT k, COUNT(*) FILTER (WHERE many) AS n, MAX(last) AS t, MAX(top) AS d "
        "FROM a GROUP BY k"
    )
    ask = Asker(connection, view(above, below))
    one, two = block(1, ("x", "u1", None), ("x", "u2", 1)), block(2, ("x", "u1", 3), hour=1)
    ask(one)
    assert ask(one) == [("x", 0, T0, 1.0)]
    assert ask(one, two) == [("x", 1, T0 + timedelta(hours=1), 3.0)]


def test_texts_as_values_are_not_followed(connection: duckdb.DuckDBPyConnection) -> None:
    below = "SELECT k, u, MAX(u || k) AS name FROM clicks GROUP BY ALL"
    ask = Asker(connection, view("SELECT k, MAX(name) AS n FROM a GROUP BY k", below))
    one = block(1, ("x", "u1", 1))
    assert [ask(one) for _ in range(3)] == [None, None, None]


def test_compaction_of_what_was_followed_changes_nothing(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Asker(connection, view("SELECT k, COUNT(u) AS users FROM a GROUP BY k"))
    one, two, three = block(1, ("x", "u1", 1)), block(2, ("x", "u2", 1)), block(3, ("x", "u3", 1))
    ask(one, two)
    ask(one, two)
    read: list[int] = []

    def noted(connection: duckdb.DuckDBPyConnection, asked: Source) -> str:
        read.extend(b.number for b in asked.blocks)
        return merged_states(connection, asked)

    monkeypatch.setattr(follow, "merged_states", noted)
    joined = Block(9, 1, "events", 1, 2, pa.concat_tables([one.rows, two.rows]))
    assert ask(joined, three) == [("x", 3)]
    assert read == [3]
    # A block that holds both what was followed and what was not: all is read again.
    four = block(4, ("x", "u4", 1))
    mixed = Block(10, 1, "events", 3, 4, pa.concat_tables([three.rows, four.rows]))
    assert ask(joined, mixed) == [("x", 4)]
    assert read == [3, 9, 10]


def test_another_state_of_the_same_name_begins_again(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    ask = Asker(connection, view("SELECT k, COUNT(u) AS users FROM a GROUP BY k"))
    one, two = block(1, ("x", "u1", 1)), block(2, ("x", "u2", 1))
    ask(one)
    assert ask(one) == [("x", 1)]
    assert ask(two, since_block=1) == [("x", 1)]


def test_an_older_moment_is_not_answered_by_a_newer_one(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    ask = Asker(connection, view("SELECT k, COUNT(u) AS users FROM a GROUP BY k"))
    one, two = block(1, ("x", "u1", 1)), block(2, ("x", "u2", 1))
    ask(one, two)
    assert ask(one, two) == [("x", 2)]
    assert ask(one) is None
    assert ask(one, two) == [("x", 2)]


def test_windows_that_are_asked_for(connection: duckdb.DuckDBPyConnection) -> None:
    below = "SELECT DATE_TRUNC('hour', event_time) AS w, u, COUNT(*) AS c FROM clicks GROUP BY ALL"
    hourly = view("SELECT w, COUNT(u) AS users, SUM(c) AS n FROM a GROUP BY w", below)
    ask = Asker(connection, hourly)
    hours = [T0 + timedelta(hours=h) for h in range(3)]
    blocks = [block(n + 1, ("x", f"u{n}", 1), hour=n) for n in range(3)]
    later = Span(hours[1])
    assert ask(*blocks, within=later) is None
    assert ask(*blocks, within=later) == [(hours[1], 1, 1), (hours[2], 1, 1)]
    # As time goes by, less is asked for: what is there is enough.
    assert ask(*blocks, within=Span(hours[2])) == [(hours[2], 1, 1)]
    assert ask(*blocks, within=Span(hours[1], hours[2])) == [(hours[1], 1, 1)]
    everything = Span(hours[0])
    assert ask(*blocks, within=everything) == [(h, 1, 1) for h in hours]


def test_a_state_that_is_too_large_is_left_alone(
    connection: duckdb.DuckDBPyConnection, large_rows: None
) -> None:
    counted = view("SELECT k, COUNT(u) AS users FROM a GROUP BY k")
    ask = Asker(connection, counted, most_bytes=3_000_000)
    one, two = block(1, ("x", "u1", 1), ("x", "u2", 1)), block(2, ("x", "u3", 1))
    ask(one)
    assert ask(one) == [("x", 2)]
    assert [ask(one, two) for _ in range(3)] == [None, None, None]


def test_the_views_asked_for_last_are_kept(
    connection: duckdb.DuckDBPyConnection, large_rows: None
) -> None:
    follower = Follower(KeptGroups(None), most_bytes=3_000_000)
    counted = view("SELECT k, COUNT(u) AS users FROM a GROUP BY k")
    one = block(1, ("x", "u1", 1), ("x", "u2", 1))
    for name in ("first", "second"):
        named = View.parse(name, counted.text, schema=SCHEMA)
        for _ in range(2):
            found = follower.follow(connection, named, source(named, one))
        assert found is not None
    assert follower.kept == ["second"]
