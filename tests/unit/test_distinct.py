"""Sets marked in a matrix: the rows that a GROUP BY gives, for any values and any limit."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.batch import codes, distinct
from playhead.batch.buckets import bucket_sql
from playhead.batch.codes import DimensionCodes, EventCodes
from playhead.batch.distinct import Combinations, mark
from playhead.batch.widening import EVENT_DAY, Widening
from playhead.engines import connect
from playhead.views import View
from playhead.views.leaf import Leaf, Part, union

SQL = """
    SELECT YEAR(p.watch_date) AS y, u.country, p.device_type AS device,
        COUNT(DISTINCT p.user_id) AS users, COUNT(DISTINCT p.movie_id) AS titles,
        COUNT(DISTINCT p.watch_duration_minutes) AS lengths, COUNT(*) AS events
    FROM playback AS p {join} JOIN users AS u ON p.user_id = u.user_id
    GROUP BY ALL
"""
USERS = "(VALUES ('u1', 'NL'), ('u2', 'BE'), ('u3', NULL), (NULL, 'FR')) AS u(user_id, country)"
DAYS = st.one_of(st.none(), st.dates(date(2023, 1, 1), date(2025, 3, 1)))
EVENTS = st.lists(
    st.tuples(
        st.dates(date(2024, 1, 1), date(2024, 4, 1)),
        st.sampled_from([None, "u1", "u2", "u3", "stranger", "another"]),
        st.sampled_from([None, "m1", "m2", ""]),
        DAYS,
        st.sampled_from([None, "Mobile", "Laptop"]),
        st.sampled_from([None, Decimal("1.50"), Decimal("0.00")]),
    ),
    min_size=1,
    max_size=40,
)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as con:
        yield con


def parts_of(leaf: Leaf, source: str = "wide") -> list[Part]:
    return leaf.parts(source=source, extra=bucket_sql(leaf, EVENT_DAY))


def table(rows: list[tuple[Any, ...]]) -> pa.Table:
    names = ("day", "user_id", "movie_id", "watch_date", "device_type", "watch_duration_minutes")
    kinds = (*[pa.date32()], *[pa.string()] * 2, pa.date32(), pa.string(), pa.decimal128(12, 2))
    columns = {
        name: pa.array([row[i] for row in rows], kind)
        for i, (name, kind) in enumerate(zip(names, kinds, strict=True))
    }
    times = [datetime.combine(row[0], datetime.min.time()) for row in rows]
    return pa.table(columns).append_column("event_time", pa.array(times, pa.timestamp("us")))


def grouped(con: duckdb.DuckDBPyConnection, part: Part) -> Counter[tuple[Any, ...]]:
    return Counter(con.execute(part.sql).fetchall())


def rows_of(one: Combinations, schema: pa.Schema) -> Counter[tuple[Any, ...]]:
    rows = (row for batch in one.batches(schema) for row in batch.to_pylist())
    return Counter(tuple(row.values()) for row in rows)


def marked(
    con: duckdb.DuckDBPyConnection, leaf: Leaf, rows: list[tuple[Any, ...]], *, spare: bool = True
) -> list[tuple[Counter[tuple[Any, ...]], Counter[tuple[Any, ...]] | None]]:
    """For each set of a leaf its rows as DuckDB groups them, and as they are marked."""
    widening = Widening.of((leaf,))
    parts = parts_of(leaf)
    keys = {sql for part in parts for _, sql in part.keys if part.is_set}
    dimensions = DimensionCodes(con, widening, {"users": f"(FROM {USERS})"}, keys)
    con.register("events", table(rows))
    try:
        spared = dimensions.spared(parts) if spare else {}
        for name, nulls in (("wide", None), ("numbered", spared)):
            sql = widening.sql("events", dimensions.columns, nulls)
            con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql}")
        schema = con.execute(union(parts)).to_arrow_table().schema
        schema = pa.schema([pa.field(field.name, field.type) for field in schema])
        sets = [part for part in parts if part.is_set]
        made = mark(con, "numbered", sets, dimensions)
        listed = [None if one is None else rows_of(one, schema) for one in made]
        return [(grouped(con, part), ours) for part, ours in zip(sets, listed, strict=True)]
    finally:
        con.unregister("events")
        dimensions.close()


def leaf_of(join: str) -> Leaf:
    return View.parse("test", SQL.format(join=join)).leaves[0]


@settings(max_examples=40)
@given(rows=EVENTS, join=st.sampled_from(["", "LEFT"]), spare=st.booleans())
def test_marked_sets_are_those_that_a_group_by_gives(
    con: duckdb.DuckDBPyConnection, rows: list[tuple[Any, ...]], join: str, spare: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codes, "ROWS_PER_VALUE", 0)
        patch.setattr(distinct, "OUTPUT_ROWS", 3)
        found = marked(con, leaf_of(join), rows, spare=spare)
    assert len(found) == 3
    for theirs, ours in found:
        assert ours is not None
        assert ours == theirs


EXAMPLE = [
    (date(2024, 1, 1) + timedelta(days=i % 40), f"u{i % 4}", f"m{i}", date(2024, 1, 1), "TV", None)
    for i in range(60)
]


@pytest.mark.parametrize(
    ("module", "limit", "value"),
    [(distinct, "MAX_CELLS", 30), (distinct, "MAX_GROUPS", 3), (codes, "ROWS_PER_VALUE", 10**6)],
)
def test_what_does_not_fit_is_left_to_a_group_by(
    con: duckdb.DuckDBPyConnection,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    limit: str,
    value: int,
) -> None:
    monkeypatch.setattr(module, limit, value)
    found = marked(con, leaf_of("LEFT"), EXAMPLE)
    assert any(ours is None for _, ours in found)
    assert all(ours == theirs for theirs, ours in found if ours is not None)


def test_no_two_buckets_share_a_batch(con: duckdb.DuckDBPyConnection) -> None:
    leaf = leaf_of("")
    con.register("events", table(EXAMPLE))
    widening, parts = Widening.of((leaf,)), parts_of(leaf)
    keys = {sql for part in parts for _, sql in part.keys}
    dimensions = DimensionCodes(con, widening, {"users": f"(FROM {USERS})"}, keys)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE wide AS {widening.sql('events', dimensions.columns)}"
    )
    schema = pa.schema(
        [(f.name, f.type) for f in con.execute(parts[1].sql).to_arrow_table().schema]
    )
    (one,) = mark(con, "wide", [parts[1]], dimensions)
    dimensions.close()
    assert one is not None
    buckets = [set(batch.column(0).to_pylist()) for batch in one.batches(schema)]
    assert [len(bucket) for bucket in buckets] == [1] * len(buckets)
    assert sorted(buckets, key=min) == buckets


def test_infinite_days_and_far_numbers_have_lists(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("""
        CREATE OR REPLACE TEMP TABLE wide AS SELECT * FROM (VALUES
            (DATE 'infinity', 5, 1), (DATE '2024-01-01', -9000000000, 2), (NULL, NULL, 3)
        ) AS r(day, number, near), range(8)
    """)
    leaf = leaf_of("")
    dimensions = DimensionCodes(con, Widening.of((leaf,)), {"users": f"(FROM {USERS})"}, ())
    made = EventCodes(con, "wide", dimensions)
    found = made.of(["day", "number", "near", "near % 2"])
    made.close()
    dimensions.close()
    assert [len(found[sql].values) for sql in ("day", "number", "near", "near % 2")] == [3, 3, 4, 3]
    assert found["number"].values.to_pylist() == [None, -9_000_000_000, 5]
    assert found["near % 2"].of is not None
    assert found["near % 2"].of.tolist() == [0, 2, 1, 2]


def test_keys_that_the_dimension_knows_are_not_held_twice(con: duckdb.DuckDBPyConnection) -> None:
    leaf = leaf_of("")
    parts = parts_of(leaf)
    keys = {sql for part in parts for _, sql in part.keys if part.is_set}
    dimensions = DimensionCodes(con, Widening.of((leaf,)), {"users": f"(FROM {USERS})"}, keys)
    assert list(dimensions.spared(parts)) == ["user_id"]
    assert dimensions.spared([*parts, Part("SELECT max(user_id) FROM wide")]) == {}
    dimensions.close()
