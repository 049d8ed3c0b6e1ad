"""Views: parsing with and without schemas, headers, hashes, windows, several states, lineage."""

from datetime import timedelta

import pyarrow as pa
import pytest

from playhead.errors import EngineError, ViewError, ViewSyntaxError
from playhead.testing.evaluate import evaluate
from playhead.views import View
from playhead.views.catalog import library
from playhead.views.dialects import transpile
from playhead.views.header import read_header
from playhead.views.leaf import Window
from playhead.views.lineage import lineage

SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("event_time", pa.timestamp("us")),
        ("minutes", pa.decimal128(12, 2)),
        ("Mixed Case", pa.string()),
        ("order", pa.int32()),
    ]
)


def parse(sql: str, schema: pa.Schema = SCHEMA) -> View:
    return View.parse("v", sql, schema=schema)


# -- schemas -----------------------------------------------------------------------------------


def test_a_view_over_playheads_topics_needs_no_schema() -> None:
    view = View.parse("v", "SELECT action, COUNT(*) AS n FROM playback GROUP BY action")
    assert view.topics == ("playback",)
    assert view.columns == ("action", "n")
    assert view.leaves[0].state_columns == ("action", "n__count")


def test_a_schema_names_the_topic() -> None:
    view = parse("SELECT user_id, SUM(minutes) AS m FROM clicks GROUP BY 1")
    assert view.topics == ("clicks",)
    assert view.plans.columns == (("user_id", "VARCHAR"), ("m", "DECIMAL(38,2)"))


def test_a_mapping_gives_topics_and_dimensions() -> None:
    titles = pa.schema([("title_id", pa.string()), ("kind", pa.string())])
    clicks = pa.schema([*SCHEMA, pa.field("title_id", pa.string())])
    sql = "SELECT kind, COUNT(*) AS n FROM clicks JOIN titles USING (title_id) GROUP BY kind"
    view = View.parse("v", sql, schema={"clicks": clicks, "titles": titles})
    assert view.topics == ("clicks",)
    assert view.plans.dimensions == ("titles",)
    assert view.leaves[0].lookups[0].on == (("title_id", "title_id"),)


def test_without_a_schema_plans_wait_for_bind() -> None:
    view = View.parse("v", "SELECT user_id, COUNT(*) AS n FROM clicks GROUP BY 1")
    assert not view.is_bound
    with pytest.raises(ViewSyntaxError, match="no relation clicks"):
        _ = view.plans
    assert view.bind({"clicks": SCHEMA}).columns == ("user_id", "n")


def test_one_schema_for_two_topics_is_refused() -> None:
    sql = "SELECT COUNT(*) AS n FROM a UNION ALL SELECT COUNT(*) FROM b"
    with pytest.raises(ViewSyntaxError, match="one schema is given, but the text reads a, b"):
        parse(sql)


def test_a_dimension_may_stand_first() -> None:
    view = View.parse("v", "SELECT country, COUNT(*) AS n FROM users JOIN playback USING (user_id) "
                      "GROUP BY 1")  # fmt: skip
    assert view.topics == ("playback",)


def test_names_keep_their_spelling() -> None:
    view = parse('SELECT "Mixed Case", "order", COUNT(*) AS "N of rows" FROM clicks GROUP BY ALL')
    assert view.columns == ("Mixed Case", "order", "N of rows")
    rows = pa.table([["a"], [None], [None], ["x"], [1]], schema=SCHEMA)
    full, merged = evaluate(view, [rows, rows])
    assert merged.to_pylist() == [{"Mixed Case": "x", "order": 1, "N of rows": 2}]
    assert full.equals(merged)


def test_star_keeps_the_spelling_of_columns() -> None:
    view = parse("SELECT * FROM clicks QUALIFY ROW_NUMBER() OVER (PARTITION BY user_id "
                 "ORDER BY event_time) = 1")  # fmt: skip
    assert view.columns == tuple(SCHEMA.names)


def test_unnamed_columns_are_named_as_duckdb_does() -> None:
    view = parse("SELECT MAX(minutes), COUNT(*) FROM clicks")
    assert view.columns == ("max(minutes)", "count_star()")


def test_implied_dimensions_join_once() -> None:
    view = View.parse(
        "v", "SELECT country, AVG(age) AS age, COUNT(*) AS n FROM playback GROUP BY 1"
    )
    (lookup,) = view.leaves[0].lookups
    assert (lookup.dimension, lookup.columns) == ("users", ("age", "country"))


def test_an_alias_may_have_the_name_of_an_implied_column() -> None:
    view = View.parse("v", "SELECT COALESCE(country, '?') AS country, COUNT(*) AS n "
                      "FROM playback GROUP BY ALL")  # fmt: skip
    assert view.leaves[0].lookups[0].columns == ("country",)


def test_an_alias_of_another_column_hides_an_implied_one() -> None:
    view = View.parse("v", "SELECT location_country AS country, COUNT(*) AS n "
                      "FROM search GROUP BY country")  # fmt: skip
    assert view.leaves[0].lookups == ()


# -- header ------------------------------------------------------------------------------------


def test_header() -> None:
    header = read_header(
        "-- What it is,\n-- in two lines.\n-- owner: data team\n-- watermark: 2 hours\n"
        "-- column n: how many,\n--   over all\n-- column m: sum\n\nSELECT 1"
    )
    assert header.description == "What it is,\nin two lines."
    assert header.owner == "data team"
    assert header.watermark == timedelta(hours=2)
    assert header.columns == {"n": "how many, over all", "m": "sum"}


def test_header_may_be_absent() -> None:
    header = read_header("SELECT 1 -- not a header\n-- owner: nobody")
    assert (header.description, header.owner, header.columns) == ("", "", {})
    assert header.watermark == timedelta(minutes=10)


@pytest.mark.parametrize("text", ["soon", "10", "10 fortnights", "-1 minutes"])
def test_a_watermark_is_a_duration(text: str) -> None:
    with pytest.raises(ViewSyntaxError, match="is no duration"):
        View.parse("v", f"-- watermark: {text}\nSELECT COUNT(*) AS n FROM playback")


# -- hash --------------------------------------------------------------------------------------

BASE = "SELECT user_id, COUNT(*) AS n FROM clicks WHERE minutes > 1 GROUP BY user_id"


@pytest.mark.parametrize(
    "sql",
    [
        f"-- A comment.\n{BASE}",
        BASE.replace(" FROM", "\n\n  /* why */ FROM").lower().replace("as n", "AS  n"),
        BASE.replace("GROUP BY user_id", "GROUP BY 1"),
        BASE.replace("GROUP BY user_id", "GROUP BY ALL"),
        BASE.replace("FROM clicks", "FROM clicks AS c").replace(
            "SELECT user_id", "SELECT c.user_id"
        ),
    ],
)
def test_text_that_means_the_same_has_the_same_hash(sql: str) -> None:
    assert parse(sql).hash == parse(BASE).hash


@pytest.mark.parametrize(
    "sql",
    [
        BASE.replace("> 1", "> 2"),
        BASE.replace("AS n", "AS m"),
        BASE.replace("COUNT(*)", "COUNT(minutes)"),
        BASE + " HAVING COUNT(*) > 1",
        BASE + " ORDER BY n LIMIT 3",
    ],
)
def test_other_logic_has_another_hash(sql: str) -> None:
    assert parse(sql).hash != parse(BASE).hash


def test_other_types_have_another_hash() -> None:
    sql = "SELECT MAX(minutes) AS m FROM clicks"
    wider = SCHEMA.set(2, pa.field("minutes", pa.decimal128(18, 2)))
    assert parse(sql).hash != parse(sql, wider).hash


# -- windows -----------------------------------------------------------------------------------

MONTH = Window("w", 1, "month")


@pytest.mark.parametrize(
    ("key", "window"),
    [
        ("TIME_BUCKET(INTERVAL '5 minutes', event_time)", Window("w", 300, "second")),
        ("TIME_BUCKET(INTERVAL 2 HOUR, event_time)", Window("w", 7200, "second")),
        ("DATE_TRUNC('day', event_time)", Window("w", 86400, "second")),
        ("DATE_TRUNC('week', event_time)", Window("w", 604800, "second")),
        ("CAST(event_time AS DATE)", Window("w", 86400, "second")),
        ("event_time::DATE", Window("w", 86400, "second")),
        ("DATE_TRUNC('month', event_time)", MONTH),
        ("DATE_TRUNC('quarter', event_time)", Window("w", 3, "month")),
        ("DATE_TRUNC('year', event_time)", Window("w", 1, "year")),
        ("TIME_BUCKET(INTERVAL '1 hour', event_time + INTERVAL 1 DAY)", None),
        ("event_time", None),
        ("user_id", None),
    ],
)
def test_window_of_a_key(key: str, window: Window | None) -> None:
    assert parse(f"SELECT {key} AS w, COUNT(*) AS n FROM clicks GROUP BY 1").window == window


def test_a_window_has_to_reach_the_answer_unchanged() -> None:
    inner = "WITH a AS (SELECT DATE_TRUNC('month', event_time) AS w, user_id, COUNT(*) AS n " \
        "FROM clicks GROUP BY ALL) "  # fmt: skip
    assert parse(inner + "SELECT w, SUM(n) AS n FROM a GROUP BY w").window == MONTH
    assert parse(inner + "SELECT MAX(w) AS w, SUM(n) AS n FROM a").window is None
    assert parse(inner + "SELECT w + INTERVAL 1 DAY AS w, n FROM a").window is None
    assert parse(inner + "SELECT user_id, SUM(n) AS n FROM a GROUP BY 1").window is None


def test_the_end_of_a_window() -> None:
    assert Window("w", 300, "second").fixed == timedelta(minutes=5)
    assert MONTH.fixed is None
    assert MONTH.end_sql("w") == "w + INTERVAL 1 MONTH"


# -- several states ----------------------------------------------------------------------------


def test_a_view_over_two_topics_has_two_states() -> None:
    view = View.parse(
        "v",
        "WITH s AS (SELECT user_id, COUNT(*) AS n FROM search GROUP BY 1), "
        "p AS (SELECT user_id, COUNT(*) AS n FROM playback GROUP BY 1) "
        "SELECT s.user_id, s.n AS searches, p.n AS plays FROM s LEFT JOIN p USING (user_id)",
    )
    assert [(leaf.name, leaf.topic) for leaf in view.leaves] == [
        ("state_1", "search"),
        ("state_2", "playback"),
    ]
    assert view.topics == ("search", "playback")
    assert view.window is None
    assert view.sql("partial").startswith("-- state_1\nSELECT")
    assert "\n\n-- state_2\nSELECT" in view.sql("merge", "spark")
    assert "state_2" in view.sql("final")
    search = pa.table({"user_id": ["a", "a", "b"]})
    plays = pa.table({"user_id": ["a"]})
    full, merged = evaluate(view, [{"search": search}, {"playback": plays}, {"search": search}])
    assert merged.to_pylist() == [
        {"user_id": "a", "searches": 4, "plays": 1},
        {"user_id": "b", "searches": 2, "plays": None},
    ]
    assert full.equals(merged)


def test_a_state_that_is_read_twice_is_kept_once() -> None:
    view = parse(
        "WITH a AS (SELECT user_id, COUNT(*) AS n FROM clicks GROUP BY 1) "
        "SELECT x.user_id, x.n / y.n AS r FROM a x JOIN a y ON x.user_id = y.user_id"
    )
    assert len(view.leaves) == 1


def test_equal_aggregates_share_a_state_column() -> None:
    view = parse(
        "SELECT COUNT(*) AS a, COUNT(*) AS b, SUM(minutes) AS s, AVG(minutes) AS m FROM clicks"
    )
    assert view.leaves[0].state_columns == ("a__count", "s__sum", "m__count")


def test_distinct_counts_alone_keep_no_row_of_each_event() -> None:
    view = parse("SELECT COUNT(DISTINCT user_id) AS n FROM clicks")
    rows = pa.table([["a", "a"], [None] * 2, [None] * 2, [None] * 2, [1, 2]], schema=SCHEMA)
    full, merged = evaluate(view, [rows, rows])
    assert merged.to_pylist() == [{"n": 1}]
    assert full.equals(merged)
    assert "UNION ALL" not in view.leaves[0].partial()


def test_two_state_columns_of_one_name_are_refused() -> None:
    with pytest.raises(ViewSyntaxError, match="two columns are named n__count"):
        parse("SELECT user_id AS n__count, COUNT(*) AS n FROM clicks GROUP BY 1")


def test_division_by_a_subquery_is_null_by_zero() -> None:
    view = parse(
        "WITH a AS (SELECT user_id, COUNT(minutes) AS n FROM clicks GROUP BY 1) "
        "SELECT user_id, n / (SELECT SUM(n) FROM a) AS part FROM a"
    )
    rows = pa.table([["a", "b"], [None] * 2, [None] * 2, [None] * 2, [1, 2]], schema=SCHEMA)
    full, merged = evaluate(view, [rows, rows])
    assert merged["part"].to_pylist() == [None, None]
    assert full.equals(merged)


# -- evaluate ----------------------------------------------------------------------------------


def test_evaluate_takes_bare_tables_and_binds_to_their_schema() -> None:
    view = View.parse("v", "SELECT user_id, COUNT(*) AS n FROM anything GROUP BY 1")
    part = pa.table({"user_id": ["a", None]})
    full, merged = evaluate(view, [part, part.slice(0, 0), pa.table({}), part])
    assert merged.to_pylist() == [{"user_id": "a", "n": 2}, {"user_id": None, "n": 2}]
    assert full.equals(merged)


def test_evaluate_names_what_is_missing() -> None:
    view = View.parse("v", "SELECT country, COUNT(*) AS n FROM playback GROUP BY 1")
    part = pa.table({"user_id": ["a"]})
    with pytest.raises(ViewError, match="joins users, which is not given"):
        evaluate(view, [part])
    with pytest.raises(EngineError, match="no engine 'flink'"):
        evaluate(view, [part], engine="flink")


# -- dialects and lineage ----------------------------------------------------------------------


def test_unknown_plans_and_dialects_are_named() -> None:
    view = parse(BASE)
    with pytest.raises(EngineError, match="no dialect 'oracle'"):
        view.sql("full", "oracle")
    with pytest.raises(EngineError, match="no plan 'half'"):
        view.sql("half")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("duckdb", "spark"),
    [
        ("DAYOFWEEK(d)", "(DAYOFWEEK(d) - 1)"),
        ("ISODOW(d)", "(WEEKDAY(d) + 1)"),
        ("DATE_TRUNC('month', d)", "CAST(DATE_TRUNC('MONTH', d) AS TIMESTAMP_NTZ)"),
        (
            "DATE_DIFF('month', a, b)",
            "CAST(((YEAR(b) * 12 + MONTH(b)) - (YEAR(a) * 12 + MONTH(a))) AS BIGINT)",
        ),
        (
            "TIME_BUCKET(INTERVAL '1 hour', t)",
            "CAST(TIMESTAMP_MICROS(UNIX_MICROS(CAST(t AS TIMESTAMP_LTZ)) - "
            "PMOD(UNIX_MICROS(CAST(t AS TIMESTAMP_LTZ)) - 946857600000000, 3600000000)) "
            "AS TIMESTAMP_NTZ)",
        ),
        ("CONCAT(a, 'x')", "CONCAT(COALESCE(CAST(a AS STRING), ''), 'x')"),
        ("a LIKE 'x\\_%'", "a LIKE 'x\\\\\\\\_%'"),
        ("ROUND(CAST(x AS DOUBLE), 2)",
         "(ROUND((CAST(x AS DOUBLE) * CAST(100 AS DOUBLE))) / CAST(100 AS DOUBLE))"),
        ("{'a': 1}", "STRUCT(1 AS a)"),
        ("CAST(x AS HUGEINT)", "CAST(x AS DECIMAL(38, 0))"),
    ],
)  # fmt: skip
def test_spark(duckdb: str, spark: str) -> None:
    text = " ".join(transpile(f"SELECT {duckdb} AS x", "spark").split())
    assert text.replace("( ", "(").replace(" )", ")") == f"SELECT {spark} AS x"


def test_spark_has_no_qualify() -> None:
    text = transpile(
        "SELECT a FROM t QUALIFY ROW_NUMBER() OVER (ORDER BY b) = 1 ORDER BY c", "spark"
    )
    assert " ".join(text.split()) == (
        "SELECT _q.a FROM (SELECT a, ROW_NUMBER() OVER (ORDER BY b NULLS LAST) AS _q1, c AS _q2 "
        "FROM t) AS _q WHERE _q._q1 = 1 ORDER BY _q._q2 NULLS LAST"
    ).replace("(SELECT a", "( SELECT a").replace("FROM t) AS", "FROM t ) AS")


def test_lineage_follows_expressions_dimensions_and_states() -> None:
    view = library()["engagement_health"]
    found = lineage(view)
    assert tuple(found) == view.columns
    assert found["window_start"] == ("playback.event_time",)
    assert found["country"] == ("users.country",)
    assert found["sessions"] == ()
    assert "users.monthly_spend" in found["revenue_impact"]


def test_lineage_of_sessions_and_unions() -> None:
    view = parse(
        "SELECT user_id, SESSION_WINDOW(event_time, '1 hour') AS s, MAX(minutes) AS m "
        "FROM clicks GROUP BY ALL"
    )
    assert lineage(view)["m"] == ("clicks.minutes",)
    union = parse("SELECT user_id AS k, COUNT(*) AS n FROM clicks GROUP BY 1 UNION ALL "
                  "SELECT \"Mixed Case\", COUNT(*) FROM clicks GROUP BY 1")  # fmt: skip
    assert lineage(union)["k"] == ("clicks.Mixed Case", "clicks.user_id")
