"""Refusals: what is refused, and that the message names the view, the line, why and what else."""

import pyarrow as pa
import pytest

from playhead.errors import NotMergeableError, ViewError, ViewSyntaxError
from playhead.views import View

SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("friend_id", pa.string()),
        ("event_time", pa.timestamp("us")),
        ("n", pa.int32()),
        ("minutes", pa.decimal128(12, 2)),
        ("fine", pa.decimal128(18, 8)),
        ("ratio", pa.float64()),
        ("flag", pa.bool_()),
        ("day", pa.date32()),
    ]
)
USERS = pa.schema([("user_id", pa.string()), ("age", pa.int32()), ("country", pa.string())])
SCHEMAS = {"clicks": SCHEMA, "users": USERS}

NOT_MERGEABLE = {
    "MEDIAN": "SELECT MEDIAN(n) FROM clicks",
    "MODE": "SELECT MODE(n) FROM clicks",
    "QUANTILE_CONT": "SELECT QUANTILE_CONT(n, 0.5) FROM clicks",
    "STRING_AGG": "SELECT STRING_AGG(user_id, ',') FROM clicks",
    "FIRST": "SELECT FIRST(n) FROM clicks",
    "ANY_VALUE": "SELECT ANY_VALUE(n) FROM clicks",
    "NOW": "SELECT COUNT(*) FROM clicks WHERE event_time > NOW()",
    "RANDOM": "SELECT COUNT(*) FROM clicks WHERE RANDOM() < 0.5",
    "SUM(DISTINCT": "SELECT SUM(DISTINCT n) FROM clicks",
    "AVG(DISTINCT": "SELECT AVG(DISTINCT n) FROM clicks",
    "COUNT(DISTINCT a, b)": "SELECT COUNT(DISTINCT (n, flag)) FROM clicks",
    "SUM of a DOUBLE": "SELECT SUM(ratio) FROM clicks",
    "AVG of a DOUBLE": "SELECT AVG(n / 2) FROM clicks",
    "STDDEV of DECIMAL(18,8)": "SELECT STDDEV(fine) FROM clicks",
    "SUM of VARCHAR": "SELECT SUM(user_id) FROM clicks",
    "MAX(..., n)": "SELECT MAX(n, 3) FROM clicks",
    "ORDER BY inside SUM": "SELECT SUM(n ORDER BY event_time) FROM clicks",
    "a join of events with events": "SELECT COUNT(*) FROM clicks a JOIN clicks b USING (user_id)",
    "the join with users": "SELECT COUNT(*) FROM clicks c JOIN users u ON c.user_id > u.user_id",
    "n is int32": "SELECT COUNT(*) FROM clicks c JOIN users u ON c.n = u.user_id",
    "LEFT JOIN u on more": "SELECT COUNT(u.age) FROM clicks c LEFT JOIN users u "
    "ON c.user_id = u.user_id AND u.age > 3",
    "SEMI JOIN below": "SELECT COUNT(*) FROM clicks c SEMI JOIN users u USING (user_id)",
    "LEFT JOIN with the dimension": "SELECT COUNT(n) FROM users u LEFT JOIN clicks c "
    "ON u.user_id = c.user_id",
    "a window function over raw": "SELECT n, ROW_NUMBER() OVER (ORDER BY n) AS r FROM clicks",
    "a window function over raw ": "SELECT DISTINCT n, COUNT(*) OVER () AS r FROM clicks",
    "a window function over raw  ": "SELECT n FROM clicks QUALIFY RANK() OVER (ORDER BY n) = 1",
    "a subquery beside": "SELECT COUNT(*) FROM clicks WHERE user_id IN (SELECT user_id FROM users)",
    "a correlated subquery": "WITH a AS (SELECT user_id FROM clicks GROUP BY 1) SELECT a.user_id, "
    "(SELECT COUNT(*) FROM clicks AS c WHERE c.user_id = a.user_id) FROM a",
    "reading single events": "WITH a AS (SELECT user_id FROM clicks GROUP BY 1) SELECT * FROM a "
    "WHERE user_id IN (SELECT friend_id FROM clicks)",
    "EXISTS": "WITH a AS (SELECT user_id FROM clicks GROUP BY 1) SELECT * FROM a "
    "WHERE EXISTS (SELECT 1 FROM users AS u WHERE u.user_id = a.user_id)",
    "LIMIT over raw": "SELECT COUNT(*) FROM (SELECT * FROM clicks LIMIT 3)",
    "LIMIT with PERCENT": "SELECT n, COUNT(*) AS c FROM clicks GROUP BY 1 ORDER BY 2 LIMIT 20%",
    "a UNION of raw": "SELECT COUNT(*) FROM (SELECT n FROM clicks UNION ALL SELECT n FROM clicks)",
    "DISTINCT ON": "SELECT DISTINCT ON (user_id) n FROM clicks",
    "ROLLUP": "SELECT COUNT(*) FROM clicks GROUP BY ROLLUP (n)",
    "GROUPING SETS": "SELECT COUNT(*) FROM clicks GROUP BY GROUPING SETS ((n), (flag))",
    "WITH RECURSIVE": "WITH RECURSIVE a AS (SELECT 1 AS x UNION ALL SELECT x FROM a) "
    "SELECT COUNT(*) FROM clicks",
    "UNNEST": "SELECT UNNEST([1]), COUNT(*) FROM clicks GROUP BY 1",
    "a sample": "SELECT COUNT(*) FROM clicks USING SAMPLE 10",
    "AT TIME ZONE": "SELECT event_time AT TIME ZONE 'UTC' AS t, COUNT(*) FROM clicks GROUP BY 1",
    "LAST_VALUE": "WITH a AS (SELECT n, COUNT(*) AS c FROM clicks GROUP BY 1) "
    "SELECT LAST_VALUE(n) OVER (ORDER BY c) AS l FROM a",
    "session_window inside": "SELECT SESSION_WINDOW(event_time, '1 hour').start AS s, COUNT(*) "
    "FROM clicks GROUP BY 1",
    "CAST to TIMESTAMPTZ": "SELECT MAX(CAST(event_time AS TIMESTAMPTZ)) FROM clicks",
    "text of a DOUBLE": "SELECT ratio || '' AS t, COUNT(*) FROM clicks GROUP BY 1",
    "CAST of a DOUBLE": "SELECT CAST(ratio AS INTEGER) AS i, COUNT(*) FROM clicks GROUP BY 1",
    "// of DECIMAL(12,2)": "SELECT minutes // 2 AS i, COUNT(*) FROM clicks GROUP BY 1",
    "TIME_BUCKET with an origin": "SELECT TIME_BUCKET(INTERVAL '1 day', event_time, day) AS t, "
    "COUNT(*) FROM clicks GROUP BY 1",
    "the unit of DATE_TRUNC": "SELECT DATE_TRUNC('decade', day) AS d FROM clicks GROUP BY 1",
    "DATE_DIFF('week'": "SELECT MAX(DATE_DIFF('week', day, event_time)) FROM clicks",
    "column x is refused": "SELECT MAX(event_time) - MIN(event_time) AS x FROM clicks",
    "column x__max is refused": "SELECT MAX(event_time - TIMESTAMP '2024-01-01') AS x FROM clicks",
    "SUBSTRING": "SELECT SUBSTRING(user_id, n) AS s, COUNT(*) FROM clicks GROUP BY 1",
    "MD5": "SELECT MD5(user_id) AS s, COUNT(*) FROM clicks GROUP BY 1",
}

SYNTAX = {
    "line 1, column 19": "SELECT n FROM WHERE",
    "this text has DELETE": "DELETE FROM clicks",
    "is no topic or dimension": "SELECT COUNT(*) FROM range(3)",
    "could not be resolved": "SELECT nope, COUNT(*) FROM clicks GROUP BY 1",
    "neither a GROUP BY key": "SELECT user_id, n, COUNT(*) FROM clicks GROUP BY user_id",
    "an aggregate cannot be": "SELECT COUNT(*) AS c FROM clicks GROUP BY COUNT(*)",
    "hides a relation": "WITH users AS (SELECT user_id, COUNT(*) AS age FROM clicks GROUP BY 1) "
    "SELECT MAX(age) FROM users",
    "hides a relation ": "WITH state_1 AS (SELECT n FROM clicks GROUP BY 1) SELECT * FROM state_1",
    "two columns of the answer": "SELECT n AS a, flag AS a, COUNT(*) FROM clicks GROUP BY ALL",
    "no WINDOW w": "SELECT n, SUM(COUNT(*)) OVER w AS s FROM clicks GROUP BY 1",
    "one session_window": "SELECT SESSION_WINDOW(event_time, '1 hour') AS a, "
    "SESSION_WINDOW(event_time, '2 hours') AS b FROM clicks GROUP BY a, b",
    "a time and a gap": "SELECT SESSION_WINDOW(event_time) AS a FROM clicks GROUP BY a",
}


@pytest.mark.parametrize("what", NOT_MERGEABLE)
def test_refused_as_not_mergeable(what: str) -> None:
    with pytest.raises(NotMergeableError) as caught:
        View.parse("my_view", NOT_MERGEABLE[what], schema=SCHEMAS)
    text = str(caught.value)
    assert text.startswith("view my_view: ")
    assert what.strip().lower() in text.lower()
    assert "refused" in text
    assert "Instead: " in str(caught.value.hint)


@pytest.mark.parametrize("what", SYNTAX)
def test_refused_as_syntax(what: str) -> None:
    with pytest.raises(ViewSyntaxError) as caught:
        View.parse("my_view", SYNTAX[what], schema=SCHEMAS)
    assert str(caught.value).startswith("view my_view: ")
    assert what.strip() in str(caught.value)


def test_a_refusal_says_all() -> None:
    sql = "-- What it is.\nSELECT\n  user_id,\n  MEDIAN(minutes) AS middle\nFROM clicks\nGROUP BY 1"
    with pytest.raises(NotMergeableError) as caught:
        View.parse("middle_minutes", sql, schema=SCHEMA)
    assert str(caught.value) == (
        "view middle_minutes: line 4: MEDIAN is refused: it needs every value at once: no small "
        "partial result of it can be merged exactly\n"
        "  Instead: use AVG, MIN/MAX, or COUNT(*) FILTER over value ranges; above the lowest "
        "GROUP BY a MEDIAN of its rows is allowed."
    )


def test_the_suggestion_is_in_the_users_words() -> None:
    with pytest.raises(NotMergeableError, match="line 2: SUM of a DOUBLE") as caught:
        View.parse("v", "SELECT user_id,\n  SUM(ratio) FROM clicks\nGROUP BY 1", schema=SCHEMA)
    assert "SUM(CAST(ratio AS DECIMAL(18, 6)))" in str(caught.value)


def test_single_events_are_no_view() -> None:
    with pytest.raises(ViewError, match="no GROUP BY or aggregate over events"):
        View.parse("v", "SELECT user_id FROM clicks", schema=SCHEMA)


def test_a_column_of_two_dimensions_has_to_be_named() -> None:
    sql = "SELECT age, COUNT(*) AS n FROM clicks GROUP BY age"
    other = pa.schema([("user_id", pa.string()), ("age", pa.int32())])
    view = View.parse("v", "SELECT COUNT(*) AS n FROM clicks", schema=SCHEMA)
    assert view.columns == ("n",)
    both = {"clicks": SCHEMA, "users": USERS, "pair_ratings": other}
    bound = View.parse("v", sql, schema={"clicks": SCHEMA, "users": USERS})
    assert bound.leaves[0].lookups[0].dimension == "users"
    movie = pa.schema([*SCHEMA, pa.field("movie_id", pa.string())])
    with pytest.raises(ViewSyntaxError, match="column age is in users and pair_ratings"):
        View.parse("v", sql, schema=both | {"clicks": movie})


@pytest.mark.parametrize("name", ["", "Upper", "1st", "a-b", "a b", "ä"])
def test_names_of_views(name: str) -> None:
    with pytest.raises(ViewError, match="is no view name"):
        View.parse(name, "SELECT COUNT(*) AS n FROM playback")
