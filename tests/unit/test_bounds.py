"""Which windows a WHERE leaves: never fewer than the query shows."""

from datetime import UTC, datetime, timedelta

import pytest

from playhead.engines import connect
from playhead.serving.bounds import spans_asked
from playhead.serving.sources import Span

JANUARY, FEBRUARY = datetime(2024, 1, 1), datetime(2024, 2, 1)
TICK = timedelta(microseconds=1)


def span(sql: str) -> Span:
    with connect() as connection:
        return spans_asked(connection, sql, {"v": "w"}).get("v", Span())


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("w >= '2024-01-01' AND w < TIMESTAMP '2024-02-01'", Span(JANUARY, FEBRUARY + TICK)),
        ("w = DATE '2024-01-01'", Span(JANUARY, JANUARY + TICK)),
        ("'2024-01-01' <= W", Span(JANUARY)),
        ("w BETWEEN '2024-01-01' AND '2024-02-01'", Span(JANUARY, FEBRUARY + TICK)),
        ("(w > '2023-01-01') AND n > 3 AND w > '2024-01-01'", Span(JANUARY)),
        ("w <= TIMESTAMP '2024-01-31' + INTERVAL 1 DAY", Span(end=FEBRUARY + TICK)),
        ("w > '2024-02-01' AND w < '2024-01-01'", Span(FEBRUARY, FEBRUARY)),
    ],
)
def test_conditions_that_all_have_to_hold_bound_the_windows(where: str, expected: Span) -> None:
    assert span(f"SELECT * FROM v WHERE {where}") == expected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM v",
        "SELECT * FROM v WHERE w > '2024-01-01' OR n = 1",
        "SELECT * FROM v WHERE NOT w > '2024-01-01'",
        "SELECT * FROM v WHERE w + INTERVAL 1 DAY > '2024-01-01'",
        "SELECT * FROM v WHERE w > other",
        "SELECT * FROM v WHERE w > (SELECT MAX(w) FROM v)",
        "SELECT * FROM v WHERE w > 'no time'",
        "SELECT * FROM v WHERE w > NULL",
        "SELECT * FROM v WHERE w < now()",
        "SELECT * FROM v WHERE w > now(3)",
        "SELECT * FROM v WHERE w > ?",
        "SELECT * FROM v WHERE u.w > '2024-01-01'",
        "SELECT * FROM v JOIN u USING (k) WHERE w > '2024-01-01'",
        "SELECT * FROM v RIGHT JOIN u USING (k) WHERE v.w > '2024-01-01'",
        "SELECT * FROM u LEFT JOIN v USING (k) WHERE v.w > '2024-01-01'",
        "SELECT * FROM v WHERE w > '2024-01-01' UNION ALL SELECT * FROM v",
        "SELECT * FROM (FROM v) WHERE w > '2024-01-01'",
        "EXPLAIN SELECT * FROM v WHERE w > '2024-01-01'",
        "SELEC",
    ],
)
def test_whatever_else_bounds_nothing(sql: str) -> None:
    assert span(sql) == Span()


def test_now_moves_on_until_the_query_runs() -> None:
    for now in ("now()", "CURRENT_TIMESTAMP"):
        start = span(f"SELECT * FROM v WHERE w >= {now} - INTERVAL 1 HOUR").start
        assert timedelta() <= datetime.now(UTC).replace(tzinfo=None) - start - timedelta(hours=1)


def test_conditions_beside_joins_name_the_relation() -> None:
    joined = "SELECT * FROM v AS x LEFT JOIN u USING (k) WHERE x.w > '2024-01-01'"
    assert span(joined) == Span(JANUARY)
    assert span(f"WITH a AS ({joined}) SELECT COUNT(*) FROM a, a AS b") == Span(JANUARY)
