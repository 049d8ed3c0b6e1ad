"""Cleaning and dimensions: one row per event, whatever comes when; versions that mean something."""

import random
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.batch.clean import clean_topic
from playhead.batch.dimensions import dimension_version, rebuild_pair_ratings, replace_dimension
from playhead.batch.newrows import CleanEngine, DuckDBCleaning
from playhead.batch.repeats import RANK, dedupe_sql
from playhead.batch.shared import cleaning, processes
from playhead.batch.shared.cleaning import SharedCleaning
from playhead.contracts import contract
from playhead.engines import connect
from playhead.errors import LakeError
from playhead.lake import Lake, raw_table
from shared_processes import ShuffledProcesses

START = datetime(2025, 1, 1)
RAW = raw_table("rating", contract("rating").schema)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(threads=2) as connection:
        yield connection


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(tmp_path / "lake") as lake:
        yield lake


def row(event: int, place: int, **values: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{event}",
        "event_time": START + timedelta(days=values.pop("day", 0)),
        "user_id": "u1",
        "movie_id": "m1",
        "rating": 3,
        "partition": 0,
        "offset": place,
        "ingest_time": START,
        "epoch": None,
        "load_id": None,
        **values,
    }


def append(
    lake: Lake, con: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]], **marks: int
) -> None:
    """One load (`load=1`) or one epoch (`epoch=0`) as its owners write it."""
    RAW.create_in(lake)
    con.register("rows_to_append", pa.Table.from_pylist(rows, schema=RAW.schema))
    properties = {f"playhead.{key}": str(value) for key, value in marks.items()}
    lake.append(RAW.name, con, "FROM rows_to_append", properties=properties)
    con.unregister("rows_to_append")


def cleaned(lake: Lake, con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    found = con.execute(f"FROM {lake.scan('clean.rating')} ORDER BY event_id").to_arrow_table()
    return found.to_pylist()


def rank(entry: dict[str, Any]) -> tuple[tuple[bool, Any], ...]:
    return tuple((entry[name] is None, entry[name] or 0) for name in RANK[1:])


def oracle(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A plain loop over everything that ever came."""
    best: dict[str, dict[str, Any]] = {}
    for entry in rows:
        if entry["user_id"] is None or entry["movie_id"] is None:
            continue
        kept = best.get(entry["event_id"])
        if kept is None or (entry["ingest_time"], rank(entry)) < (kept["ingest_time"], rank(kept)):
            best[entry["event_id"]] = entry
    return [best[key] for key in sorted(best)]


EVENTS = st.tuples(
    st.integers(0, 4),
    st.sampled_from([0, 0, 1]),
    st.integers(1, 2),
    st.integers(0, 2),
    st.booleans(),
)
STEPS = st.lists(st.tuples(st.booleans(), st.lists(EVENTS, max_size=5), st.booleans()), max_size=5)


def engine(chosen: random.Random) -> CleanEngine:
    """This process, or a few among which even a few rows are divided."""
    count = chosen.randrange(4)
    return SharedCleaning(ShuffledProcesses(count, chosen)) if count else DuckDBCleaning()


@settings(max_examples=max(settings().max_examples // 2, 1))
@given(STEPS, st.randoms(use_true_random=False), st.integers(1, 3), st.integers(1, 20))
def test_cleaning_by_steps_equals_a_loop_over_everything(
    steps: list[Any], order: random.Random, most: int, at_once: int
) -> None:
    """Loads and epochs in any order, some cleaned together; an epoch may be older than a load.

    What is cleaned by one engine is gone on with by another.
    """
    every: list[dict[str, Any]] = []
    counts = {"rows": 0, "kept": 0, "dropped": 0, "replaced": 0}
    load = epoch = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        Lake(Path(folder)) as lake,
        connect(threads=1) as con,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(processes, "MIN_ROWS", 1)
        patch.setattr(processes, "MAX_ROWS", most)
        patch.setattr(cleaning, "CUT_IDS", at_once)
        for is_load, events, clean_now in steps:
            load, epoch = (load + 1, epoch) if is_load else (load, epoch + 1)
            rows = [
                row(
                    event,
                    len(every) + i,
                    day=day,
                    rating=rating,
                    user_id=None if keyless else "u1",
                    ingest_time=START + timedelta(hours=hour),
                    **({"load_id": load} if is_load else {"epoch": epoch}),
                )
                for i, (event, day, rating, hour, keyless) in enumerate(events)
            ]
            append(lake, con, rows, **({"load": load} if is_load else {"epoch": epoch}))
            every += rows
            if clean_now:
                report = clean_topic(lake, con, "rating", engine=engine(order))
                counts["rows"] += report.rows
                counts["kept"] += report.written - report.replaced
                counts["dropped"] += sum(report.dropped.values())
        report = clean_topic(lake, con, "rating", engine=engine(order))
        if not steps:
            assert report.rows == 0
            return
        by_steps = cleaned(lake, con)
        expected = [{**dict.fromkeys(RAW.schema.names), **r} for r in oracle(every)]
        assert by_steps == expected
        assert counts["rows"] + report.rows == len(every)
        assert counts["kept"] + report.written - report.replaced == len(expected)
        assert counts["dropped"] + sum(report.dropped.values()) == len(every) - len(expected)
        full = clean_topic(lake, con, "rating", full=True, engine=engine(order))
        assert cleaned(lake, con) == expected
        assert (full.rows, full.written, full.replaced) == (len(every), len(expected), 0)
        assert clean_topic(lake, con, "rating", engine=engine(order)).rows == 0


def test_dropped_rows_are_counted_by_rule(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    rows = [
        row(1, 0, load_id=1),
        row(1, 1, load_id=1),
        row(1, 2, load_id=1, rating=5),
        row(2, 3, load_id=1, movie_id=None),
        row(3, 4, load_id=1),
    ]
    append(lake, con, rows, load=1)
    report = clean_topic(lake, con, "rating")
    assert report.dropped == {"null key": 1, "duplicate row": 1, "duplicate id": 1}
    assert (report.rows, report.written) == (5, 2)
    append(lake, con, [row(3, 0, epoch=0, rating=1), row(1, 1, epoch=0)], epoch=0)
    again = clean_topic(lake, con, "rating")
    assert again.dropped == {"null key": 0, "duplicate row": 1, "duplicate id": 1}
    assert (again.rows, again.written) == (2, 0)


def test_an_older_row_that_comes_late_takes_the_place(
    lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    later = START + timedelta(hours=1)
    loaded = [row(1, 0, load_id=1, ingest_time=later), row(2, 1, load_id=1, ingest_time=later)]
    append(lake, con, loaded, load=1)
    clean_topic(lake, con, "rating")
    append(lake, con, [row(1, 0, epoch=0, day=1, rating=1)], epoch=0)
    report = clean_topic(lake, con, "rating")
    assert (report.written, report.replaced, report.duplicate_ids) == (1, 1, 1)
    assert [(r["event_id"], r["rating"], r["epoch"]) for r in cleaned(lake, con)] == [
        ("e1", 1, 0),
        ("e2", 3, None),
    ]


def test_a_cleaner_that_comes_second_starts_over(
    lake: Lake, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(lake, con, [row(1, 0, load_id=1)], load=1)
    publish = Lake.publish
    with connect(threads=1) as other:

        def interrupted(self: Lake, *args: Any, **kwargs: Any) -> Any:
            monkeypatch.setattr(Lake, "publish", publish)
            clean_topic(lake, other, "rating")
            return publish(self, *args, **kwargs)

        monkeypatch.setattr(Lake, "publish", interrupted)
        report = clean_topic(lake, con, "rating")
    assert report.rows == 0
    assert len(cleaned(lake, con)) == 1


def test_a_damaged_file_is_named_and_nothing_is_cleaned(
    lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    append(lake, con, [row(1, 0, load_id=1), row(2, 1, load_id=1)], load=1)
    file = Path(lake.snapshot(RAW.name).files[0].path)
    body = file.read_bytes()
    file.write_bytes(body[:-8] + b"damaged!")
    shared = SharedCleaning(ShuffledProcesses(2, random.Random(0)))
    with pytest.raises(LakeError, match=file.name):
        clean_topic(lake, con, "rating", engine=shared)
    assert lake.rows("clean.rating") == 0
    file.write_bytes(body)
    assert clean_topic(lake, con, "rating", engine=shared).written == 2


def test_nothing_to_clean(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    assert clean_topic(lake, con, "rating").rows == 0
    assert not lake.exists("clean.rating")


@given(st.lists(st.tuples(*[st.one_of(st.none(), st.integers(0, 2)) for _ in RANK]), max_size=8))
def test_dedupe_keeps_the_lowest_rank(ranks: list[tuple[int | None, ...]]) -> None:
    rows = [
        {"event_id": str(i % 2), **dict(zip(RANK, values, strict=True)), "offset": i}
        for i, values in enumerate(ranks)
    ]
    for entry in rows:
        entry["ingest_time"] = START + timedelta(hours=entry["ingest_time"] or 0)
    schema = pa.schema([pa.field("event_id", pa.string()), *(RAW.schema.field(n) for n in RANK)])
    with connect(threads=1) as con:
        con.register("candidates", pa.Table.from_pylist(rows, schema=schema))
        kept = con.execute(dedupe_sql("candidates")).to_arrow_table().to_pylist()
    expected = {}
    for entry in sorted(rows, key=lambda r: (r["ingest_time"], rank(r))):
        expected.setdefault(entry["event_id"], entry["offset"])
    assert {r["event_id"]: r["offset"] for r in kept} == expected
    assert len(kept) == len(expected)


# -- dimensions -----------------------------------------------------------------------------------

SCHEMA = pa.schema([("user_id", pa.string()), ("country", pa.string())])


def test_the_version_counts_changes_of_content(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    def replaced(rows: str, **properties: str) -> tuple[int, bool]:
        query = f"SELECT * FROM (VALUES {rows}) AS t(user_id, country)"
        result = replace_dimension(lake, con, "users", SCHEMA, query, properties=properties)
        return result.version, result.changed

    assert dimension_version(lake, "users") == 0
    assert replaced("('a', 'x'), ('b', NULL)", seen="1") == (1, True)
    assert replaced("('b', NULL), ('a', 'x')", seen="2") == (1, False)
    assert lake.properties("dim.users")["seen"] == "2"
    assert replaced("('b', 'x'), ('a', NULL)") == (2, True)
    assert replaced("('b', 'x'), ('a', NULL), ('a', NULL)") == (3, True)
    assert dimension_version(lake, "users") == 3
    assert lake.rows("dim.users") == 3


RATINGS = st.lists(st.tuples(st.integers(0, 2), st.integers(-5, 9)), max_size=30)


@given(RATINGS)
def test_pair_ratings_are_exact_means(ratings: list[tuple[int, int]]) -> None:
    pairs: dict[str, list[int]] = {}
    for user, rating in ratings:
        pairs.setdefault(f"u{user}", []).append(rating)
    expected = [
        (
            user,
            "m1",
            (Decimal(sum(of)) / len(of)).quantize(Decimal("0.0001"), ROUND_HALF_UP),
            len(of),
        )
        for user, of in sorted(pairs.items())
    ]
    rows = [
        row(i, i, load_id=1, user_id=f"u{user}", rating=rating)
        for i, (user, rating) in enumerate(ratings)
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        Lake(Path(folder)) as lake,
        connect(threads=1) as con,
    ):
        append(lake, con, rows, load=1)
        clean_topic(lake, con, "rating")
        version = rebuild_pair_ratings(lake, con)
        assert version == rebuild_pair_ratings(lake, con) == 1
        found = con.execute(f"FROM {lake.scan('dim.pair_ratings')} ORDER BY user_id").fetchall()
    assert found == expected


def test_pair_ratings_without_ratings_are_empty(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    rebuild_pair_ratings(lake, con)
    assert lake.rows("dim.pair_ratings") == 0
