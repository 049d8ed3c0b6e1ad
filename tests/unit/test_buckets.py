"""Stretches and buckets of history, and one wide relation for several states."""

from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.batch import buckets
from playhead.batch.buckets import Stretch, bucket_of, bucket_sql, in_buckets, stretches
from playhead.batch.widening import EVENT_DAY, Widening, alike
from playhead.engines import connect
from playhead.errors import LakeError
from playhead.lake import Lake, Partition
from playhead.views import View
from playhead.views.catalog import library
from playhead.views.leaf import Leaf

FIRST = date(2023, 12, 20)
SCHEMA = pa.schema([("event_id", pa.string()), ("event_time", pa.timestamp("us"))])


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def leaf(sql: str) -> Leaf:
    return View.parse("tested", sql).leaves[0]


@given(
    st.dictionaries(st.integers(0, 400), st.integers(1, 50), max_size=40),
    st.integers(1, 100),
)
def test_stretches_hold_every_day_once_and_no_more_than_the_limit(
    counts: dict[int, int], limit: int
) -> None:
    rows = {FIRST + timedelta(days=number): count for number, count in counts.items()}
    found = stretches(rows, limit)
    assert [s.since for s in found] == sorted(s.since for s in found)
    assert all(one.until <= other.since for one, other in pairwise(found))
    for stretch in found:
        inside = [day for day in rows if stretch.since <= day < stretch.until]
        assert len(inside) == 1 or sum(rows[day] for day in inside) <= limit
        assert {day.replace(day=1) for day in inside} <= set(stretch.partitions)
    covered = [day for s in found for day in rows if s.since <= day < s.until]
    assert sorted(covered) == sorted(rows)


def test_a_stretch_knows_its_months() -> None:
    stretch = Stretch(date(2023, 12, 31), date(2024, 2, 1))
    assert stretch.partitions == [date(2023, 12, 1), date(2024, 1, 1)]


@pytest.mark.parametrize(
    ("sql", "unit"),
    [
        ("SELECT YEAR(watch_date) AS y, COUNT(*) AS n FROM playback GROUP BY ALL", "month"),
        (
            "SELECT TIME_BUCKET(INTERVAL '5 minutes', event_time) AS w, COUNT(*) AS n "
            "FROM playback GROUP BY ALL",
            "month",
        ),
        ("SELECT device_type, COUNT(*) AS n FROM playback GROUP BY ALL", "year"),
        ("SELECT COUNT(*) AS n FROM playback", "year"),
    ],
)
def test_groups_without_a_date_are_kept_by_the_year(
    sql: str, unit: str, con: duckdb.DuckDBPyConnection
) -> None:
    kept = leaf(sql)
    assert buckets.bucket_unit(kept) == unit
    day = date(2024, 5, 17)
    started = bucket_of(kept, day)
    assert started == (date(2024, 5, 1) if unit == "month" else date(2024, 1, 1))
    of_day = bucket_sql(kept, f"DATE '{day}'")
    assert con.execute(f"SELECT {of_day}").fetchone() == (started,)
    inside = in_buckets(kept, [started])
    times = "unnest([TIMESTAMP '2024-05-17 23:59:59', TIMESTAMP '2025-01-01'])"
    found = con.execute(f"SELECT {inside} FROM (SELECT {times} AS event_time)").fetchall()
    assert found == [(True,), (False,)]
    assert in_buckets(kept, []) == "false"


def test_leaves_share_what_means_the_same_to_them() -> None:
    names = ("monthly_engagement", "genre_performance", "content_performance")
    leaves = [leaf for name in names for leaf in library()[name].leaves]
    (group,) = alike(leaves)
    assert group == tuple(leaves)
    together = Widening.of(group)
    assert {k.prefix for k in together.lookups} == {"users", "movies", "pair_ratings"}
    (users,) = (k for k in together.lookups if k.prefix == "users")
    assert set(users.columns) == {"country", "subscription_plan"}
    assert EVENT_DAY in together.sql("playback")


# -- drafts of the lake -----------------------------------------------------------------------


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(tmp_path / "lake") as opened:
        opened.create("state.tested", SCHEMA, partition=Partition("event_time", "month"))
        yield opened


def row(name: str, day: str) -> str:
    return f"SELECT '{name}' AS event_id, TIMESTAMP '{day} 12:00' AS event_time"


def ids(lake: Lake, con: duckdb.DuckDBPyConnection) -> list[str]:
    scan = lake.scan("state.tested")
    return [name for (name,) in con.execute(f"SELECT event_id FROM {scan} ORDER BY 1").fetchall()]


def data_files(root: Path) -> int:
    return len(list(root.rglob("*.parquet")))


def test_a_draft_is_one_snapshot_of_several_queries(
    lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.append("state.tested", con, row("old", "2024-01-05"))
    with lake.draft("state.tested") as draft:
        draft.add(con, row("a", "2024-01-01"))
        draft.add(con, row("b", "2024-02-01"))
        assert (draft.rows, ids(lake, con)) == (2, ["old"])
        written = lake.publish("state.tested", draft, properties={"mark": "1"})
    assert (written.rows, written.partitions) == (2, (date(2024, 1, 1), date(2024, 2, 1)))
    assert ids(lake, con) == ["a", "b", "old"]
    assert lake.properties("state.tested")["mark"] == "1"


def test_a_draft_replaces_what_it_is_told_to(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.append("state.tested", con, f"{row('a', '2024-01-01')} UNION ALL {row('b', '2024-02-01')}")
    with lake.draft("state.tested") as draft:
        draft.add(con, row("c", "2024-02-09"))
        lake.publish("state.tested", draft, partitions=[date(2024, 2, 1)])
    assert ids(lake, con) == ["a", "c"]
    with lake.draft("state.tested") as draft:
        draft.add(con, row("d", "2024-03-01"))
        with pytest.raises(LakeError, match="not among"):
            lake.publish("state.tested", draft, partitions=[date(2024, 2, 1)])
    with lake.draft("state.tested") as draft:
        draft.add(con, row("e", "2024-03-01"))
        lake.publish("state.tested", draft, partitions=None)
    assert ids(lake, con) == ["e"]


@pytest.mark.parametrize("how", ["left", "guarded", "failed"])
def test_a_draft_that_is_not_published_leaves_nothing(
    lake: Lake, con: duckdb.DuckDBPyConnection, tmp_path: Path, how: str
) -> None:
    with lake.draft("state.tested") as draft:
        draft.add(con, row("a", "2024-01-01"))
        if how == "guarded":
            written = lake.publish("state.tested", draft, guard=lambda _: False)
            assert written.skipped
        if how == "failed":
            with pytest.raises(LakeError, match="no event_time"):
                draft.add(con, "SELECT 'a' AS event_id")
    assert data_files(tmp_path) == 0
    assert ids(lake, con) == []
