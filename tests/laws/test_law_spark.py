"""Spark against DuckDB: every plan of every view, every digit, states of one in the other."""

import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("pyspark", reason="missing: pyspark")

from hypothesis import given, settings
from hypothesis import strategies as st
from law_events import DIMENSIONS, random_batches, random_events
from law_grammar import Grammar
from law_spark import nasty_relations, spark_engine, split

from playhead.config import SparkSettings
from playhead.engines import DuckDBEngine, Engine
from playhead.engines.spark import SparkPlans, spark_session
from playhead.engines.spark.conf import session_settings
from playhead.errors import EngineError
from playhead.speed.enrich import Enricher
from playhead.views import View
from playhead.views.catalog import library
from playhead.views.leaf import BATCH_DAY, Leaf

pytestmark = [
    pytest.mark.cluster,
    # pyspark leaves the sockets open by which it collects rows.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MORE = {
    "latest": """
        SELECT user_id, event_time, movie_id, quality, watch_duration_minutes FROM playback
        QUALIFY ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY event_time DESC) = 1""",
    "latest_three": """
        SELECT device_type, progress_percentage, user_id, watch_date FROM playback
        QUALIFY ROW_NUMBER() OVER (
            PARTITION BY device_type ORDER BY progress_percentage DESC NULLS FIRST) <= 3""",
    "sessions": """
        SELECT user_id, SESSION_WINDOW(event_time, '6 hours') AS s, COUNT(*) AS n,
            SUM(watch_duration_minutes) AS minutes, COUNT(DISTINCT movie_id) AS titles
        FROM playback GROUP BY ALL""",
    "session_lengths": """
        WITH x AS (SELECT user_id, SESSION_WINDOW(event_time, '2 hours') AS s, COUNT(*) AS n
            FROM playback WHERE event_time > TIMESTAMP '2000-01-01' GROUP BY ALL)
        SELECT user_id, COUNT(*) AS sessions, MAX(s.end) AS last,
            SUM(DATE_DIFF('minute', s.start, s.end)) AS minutes FROM x GROUP BY ALL""",
    "moments": """
        SELECT device_type, VAR_SAMP(progress_percentage) AS v, STDDEV_POP(user_rating) AS d,
            MIN(event_time) AS first, MAX(watch_date) AS last, AVG(user_rating) AS r,
            BOOL_OR(is_download) AS o, BOOL_AND(is_download) AS a,
            ARG_MAX(movie_id, event_time) AS newest
        FROM playback GROUP BY ALL""",
    "wide_numbers": """
        SELECT content_type, AVG(production_budget) AS a, SUM(box_office_revenue) AS s,
            AVG(CAST(box_office_revenue AS DECIMAL(30, 2)) - production_budget) AS d,
            STDDEV_SAMP(imdb_rating) AS v,
            CAST(MAX(production_budget) AS DOUBLE) AS m, AVG(release_year) AS y,
            SUM(production_budget) / COUNT(*) AS q, ROUND(AVG(production_budget), 1) AS r,
            SUM(CAST(production_budget AS HUGEINT)) AS h
        FROM catalog WHERE ABS(production_budget) < 1e12 AND ABS(box_office_revenue) < 1e12
        GROUP BY ALL""",
    "ordered": """
        SELECT movie_id, COUNT(*) AS n, SUM(watch_duration_minutes) AS minutes FROM playback
        GROUP BY ALL ORDER BY n DESC, minutes, movie_id DESC LIMIT 9""",
    "windows": """
        SELECT TIME_BUCKET(INTERVAL '3 months', event_time) AS quarter,
            TIME_BUCKET(INTERVAL '2 weeks', event_time) AS fortnight,
            DATE_TRUNC('week', watch_date) AS week, HOUR(event_time) AS h,
            DAYOFWEEK(watch_date) AS d, COUNT(DISTINCT user_id) AS users, COUNT(*) AS n
        FROM playback WHERE event_time > TIMESTAMP '1900-01-01' GROUP BY ALL""",
}


def _views() -> dict[str, View]:
    return {**library(), **{name: View.parse(name, sql) for name, sql in MORE.items()}}


def _same(view: View, ours: pa.Table, theirs: pa.Table, what: str) -> None:
    """Both hold the same rows of the same types, to the last digit."""
    assert ours.schema == theirs.schema, f"{view.name}, {what}: {ours.schema}\n{theirs.schema}"
    left, right = ([repr(row) for row in table.to_pylist()] for table in (ours, theirs))
    if not view.plans.ordered:
        left.sort()
        right.sort()
    wrong = [(a, b) for a, b in zip(left, right, strict=False) if a != b]
    told = f"{view.name}, {what}: {len(left)} rows against {len(right)}; {len(wrong)} differ"
    assert left == right, f"{told}\n{wrong[:2]}\n{view.text}"


def _mergers(duck: Engine, spark: Engine) -> list[tuple[str, Engine, Engine, Engine]]:
    """Who makes the states, who merges them, and who finishes."""
    return [
        ("Spark alone", spark, spark, spark),
        ("Spark's states in DuckDB", spark, duck, duck),
        ("DuckDB's states in Spark", duck, spark, spark),
        ("DuckDB's merged states finished by Spark", duck, duck, spark),
        ("Spark's merged states finished by DuckDB", spark, spark, duck),
    ]


def _matrix(
    view: View,
    whole: Mapping[str, pa.Table],
    parts: list[dict[str, pa.Table]],
    dimensions: Mapping[str, pa.Table],
) -> None:
    duck, spark = DuckDBEngine(), spark_engine()
    relations = {**dimensions, **whole}
    full = duck.full(view, relations)
    _same(view, spark.full(view, relations), full, "full on Spark")
    made = {
        (leaf.name, engine): _states(engine, leaf, parts, dimensions)
        for leaf in view.leaves
        for engine in (duck, spark)
    }
    for leaf in view.leaves:
        for one, other in zip(made[leaf.name, spark], made[leaf.name, duck], strict=True):
            assert one.schema == other.schema, f"{view.name}: states of {leaf.name}"
    merged: dict[tuple[str, Engine, Engine], pa.Table] = {}
    for what, maker, merger, finisher in _mergers(duck, spark):
        states = {}
        for leaf in view.leaves:
            key = (leaf.name, maker, merger)
            if key not in merged:
                merged[key] = _merged(merger, leaf, made[leaf.name, maker])
            states[leaf.name] = merged[key]
        _same(view, finisher.final(view, states, dimensions), full, what)
    mixed = {}
    for leaf in view.leaves:
        pairs = zip(made[leaf.name, spark], made[leaf.name, duck], strict=True)
        taken = [pair[number % 2] for number, pair in enumerate(pairs)]
        mixed[leaf.name] = duck.merge(leaf, taken)
    _same(view, duck.final(view, mixed, dimensions), full, "states of both together")


def _merged(engine: Engine, leaf: Leaf, states: Sequence[pa.Table]) -> pa.Table:
    """All states, the first two of which are merged before the others."""
    together = engine.merge(leaf, states[:2])
    return engine.merge(leaf, [*states[2:], together]) if states[2:] else together


def _states(
    engine: Engine,
    leaf: Leaf,
    parts: list[dict[str, pa.Table]],
    dimensions: Mapping[str, pa.Table],
) -> list[pa.Table]:
    enricher = Enricher.of([leaf], dimensions)
    return [engine.partial(leaf, enricher.widen(part[leaf.topic])) for part in parts]


@pytest.mark.parametrize("name", [*library(), *MORE])
def test_every_view_is_the_same_on_both_engines(name: str) -> None:
    view = _views()[name]
    tables = nasty_relations(view, seed=len(name), rows=400)
    dimensions = {n: tables[n] for n in view.plans.dimensions}
    whole = {n: tables[n] for n in view.topics}
    _matrix(view, whole, split(whole, seed=7), dimensions)


@pytest.mark.xfail(reason="DuckDB itself rounds longer DECIMALs twice: docs/spark.md", strict=True)
def test_a_ratio_of_more_whole_digits_than_a_double_has() -> None:
    sums = [Decimal("-10000000000002303.41"), Decimal("-10000000000002301.75")]
    events = pa.table({"k": [1, 2], "v": pa.array(sums, pa.decimal128(30, 2))})
    view = View.parse("law", "SELECT k, AVG(v) AS a FROM clicks GROUP BY k", schema=events.schema)
    duck = DuckDBEngine().full(view, {"clicks": events})
    _same(view, spark_engine().full(view, {"clicks": events}), duck, "full on Spark")


def _random_view(r: random.Random, seed: int, rows: int) -> None:
    data = random.Random(seed)
    events = random_events(data, rows)
    batches = [batch.cast(events.schema) for batch in random_batches(data, events)
               if batch.schema.equals(events.schema)]  # fmt: skip
    batches = batches or [events]
    schemas = {"playback": events.schema, **{n: t.schema for n, t in DIMENSIONS.items()}}
    view = View.parse("law", Grammar(r).view().sql, schema=schemas)
    whole = pa.concat_tables(batches)
    dimensions = {n: DIMENSIONS[n] for n in view.plans.dimensions}
    _matrix(view, {"playback": whole}, [{"playback": batch} for batch in batches], dimensions)


@pytest.mark.parametrize("seed", range(6))
def test_random_views_are_the_same_on_both_engines(seed: int) -> None:
    _random_view(random.Random(seed), seed, 60)


@pytest.mark.slow
@settings(max_examples=60)
@given(r=st.randoms(use_true_random=False), seed=st.integers(0, 2**32))
def test_more_random_views_are_the_same_on_both_engines(r: random.Random, seed: int) -> None:
    _random_view(r, seed, 60)


def test_a_sum_that_outgrows_its_type_is_an_error_on_spark() -> None:
    events = pa.table({"k": pa.array([2**63 - 1, 2**63 - 1], pa.int64())})
    view = View.parse("law", "SELECT SUM(k) AS s FROM clicks", schema=events.schema)
    with pytest.raises(EngineError, match="wider DECIMAL"):
        spark_engine().full(view, {"clicks": events})


def test_plans_read_files_and_keep_a_batch_key(tmp_path: Path) -> None:
    view = library()["monthly_engagement"]
    tables = nasty_relations(view, seed=3, rows=300)
    session = spark_engine().plans.session.newSession()
    for name, table in tables.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
    relations = {name: session.read.parquet(str(tmp_path / f"{name}.parquet")) for name in tables}
    plans = SparkPlans(session)
    leaf = view.leaves[0]
    wide = plans.wide(leaf, relations)
    parts = [f"day(watch_date) % 3 = {rest}" for rest in range(3)] + ["watch_date IS NULL"]
    some = [plans.partial(leaf, wide.where(part), extra="watch_date") for part in parts]
    days = plans.merge(leaf, some, extra=True)
    assert days.columns == [BATCH_DAY, *leaf.state_columns]
    whole = plans.merge(leaf, [days.drop(BATCH_DAY)])
    duck = DuckDBEngine().full(view, tables)
    for answer in (
        plans.final(view, {leaf.name: whole}, relations),
        plans.full(view, relations),
    ):
        _same(view, answer.toArrow().cast(duck.schema), duck, "over files")
    assert not session.catalog.listTables()


def test_a_session_that_would_give_other_answers_is_refused() -> None:
    session = spark_engine().plans.session.newSession()
    session.conf.set("spark.sql.ansi.enabled", "false")
    with pytest.raises(EngineError, match=r"spark.sql.ansi.enabled = false"):
        SparkPlans(session)


def test_a_process_has_one_driver() -> None:
    running = spark_engine().plans.session.sparkContext.applicationId
    assert spark_session().sparkContext.applicationId == running
    with pytest.raises(EngineError, match="one Spark driver"):
        spark_session(session_settings(SparkSettings(master="local[1]")))


def test_a_plan_that_spark_cannot_run_names_its_view() -> None:
    plans = spark_engine().plans
    with pytest.raises(EngineError, match="view of nothing"):
        plans.run("SELECT nothing FROM nowhere", {}, {}, "view of nothing")
