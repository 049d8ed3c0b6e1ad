"""Every aggregate of the algebra against a brute-force oracle in exact Python arithmetic."""

import math
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from law_events import check_merged

from playhead.views import View

START = datetime(2024, 1, 1)
MONEY = pa.decimal128(12, 2)
SCHEMA = pa.schema(
    [
        ("g", pa.string()),
        ("flag", pa.bool_()),
        ("money", MONEY),
        ("n", pa.int32()),
        ("big", pa.int64()),
        ("x", pa.float64()),
        ("name", pa.string()),
        ("event_time", pa.timestamp("us")),
    ]
)
Row = dict[str, Any]

_rows = st.fixed_dictionaries(
    {
        "g": st.sampled_from(["a", "b", None]),
        "flag": st.sampled_from([True, False, None]),
        "money": st.none() | st.decimals(-(10**6), 10**6, places=2),
        "n": st.none() | st.integers(-3, 3) | st.integers(-(2**31), 2**31 - 1),
        "big": st.none() | st.integers(-(2**60), 2**60),
        "x": st.none() | st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf, -math.inf]),
        "name": st.none() | st.sampled_from(["p", "q", "r", ""]),
        "event_time": st.none()
        | st.integers(0, 12).map(lambda step: START + timedelta(minutes=10 * step)),
    }
)


@st.composite
def batches_of(draw: st.DrawFn, rows: st.SearchStrategy[Row] = _rows) -> list[list[Row]]:
    """Rows cut into parts, some of them empty."""
    return draw(st.lists(st.lists(rows, max_size=8), min_size=1, max_size=5))


def tables(batches: Iterable[list[Row]], schema: pa.Schema = SCHEMA) -> list[pa.Table]:
    return [pa.Table.from_pylist(batch, schema) for batch in batches]


def answer(sql: str, batches: list[list[Row]], schema: pa.Schema = SCHEMA) -> list[Row]:
    return check_merged(_view(sql, schema), tables(batches, schema)).to_pylist()


@cache
def _view(sql: str, schema: pa.Schema) -> View:
    return View.parse("law", sql, schema=schema)


# -- the oracle: one function of a group's rows per aggregate --------------------------------


def known(rows: list[Row], column: str) -> list[Any]:
    return [row[column] for row in rows if row[column] is not None]


def total(rows: list[Row], column: str) -> Any:
    return sum(known(rows, column)) if known(rows, column) else None


def mean(rows: list[Row], column: str) -> float | None:
    values = known(rows, column)
    return float(sum(map(Fraction, values)) / len(values)) if values else None


def variance(rows: list[Row], column: str, less: int) -> float | None:
    values = list(map(Fraction, known(rows, column)))
    if len(values) <= less:
        return None
    middle = sum(values) / len(values)
    return float(sum((v - middle) ** 2 for v in values) / (len(values) - less))


def root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(value)


def order_of(value: Any) -> tuple[int, Any]:
    """DuckDB's order: NaN is greater than every number."""
    return (1, 0) if isinstance(value, float) and math.isnan(value) else (0, value)


def extreme(rows: list[Row], column: str, best: Callable[..., Any]) -> Any:
    values = known(rows, column)
    if not values:
        return None
    value = best(values, key=order_of)
    return value + 0.0 if isinstance(value, float) else value


def arg_best(rows: list[Row], value: str, order: str, best: Callable[..., Any]) -> Any:
    pairs = [(r[order], r[value]) for r in rows if r[order] is not None and r[value] is not None]
    return best(pairs, key=lambda p: (order_of(p[0]), order_of(p[1])))[1] if pairs else None


def distinct(rows: list[Row], column: str) -> int:
    return len({order_of(value) for value in known(rows, column)})


def logical(rows: list[Row], column: str, combine: Callable[[list[bool]], bool]) -> bool | None:
    values = known(rows, column)
    return combine(values) if values else None


AGGREGATES: dict[str, Callable[[list[Row]], Any]] = {
    "COUNT(*)": len,
    "COUNT(money)": lambda rows: len(known(rows, "money")),
    "COUNT(DISTINCT name)": lambda rows: distinct(rows, "name"),
    "COUNT(DISTINCT x)": lambda rows: distinct(rows, "x"),
    "COUNT(DISTINCT money)": lambda rows: distinct(rows, "money"),
    "COUNT_IF(flag)": lambda rows: sum(known(rows, "flag")),
    "SUM(money)": lambda rows: total(rows, "money"),
    "SUM(n)": lambda rows: total(rows, "n"),
    "SUM(big)": lambda rows: total(rows, "big"),
    "SUM(money * n)": lambda rows: total(
        [{"v": r["money"] * r["n"]} for r in rows if None not in (r["money"], r["n"])], "v"
    ),
    "AVG(money)": lambda rows: mean(rows, "money"),
    "AVG(n)": lambda rows: mean(rows, "n"),
    "MIN(x)": lambda rows: extreme(rows, "x", min),
    "MAX(x)": lambda rows: extreme(rows, "x", max),
    "MIN(name)": lambda rows: extreme(rows, "name", min),
    "MAX(event_time)": lambda rows: extreme(rows, "event_time", max),
    "BOOL_OR(flag)": lambda rows: logical(rows, "flag", any),
    "BOOL_AND(flag)": lambda rows: logical(rows, "flag", all),
    "VAR_SAMP(money)": lambda rows: variance(rows, "money", 1),
    "VAR_POP(n)": lambda rows: variance(rows, "n", 0),
    "STDDEV(money)": lambda rows: root(variance(rows, "money", 1)),
    "STDDEV_POP(n)": lambda rows: root(variance(rows, "n", 0)),
    "ARG_MAX(name, event_time)": lambda rows: arg_best(rows, "name", "event_time", max),
    "ARG_MIN(money, n)": lambda rows: arg_best(rows, "money", "n", min),
    "ARG_MAX(n, x)": lambda rows: arg_best(rows, "n", "x", max),
}


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        both_nan = math.isnan(ours) and math.isnan(theirs)
        equal = both_nan or math.isclose(ours, theirs, rel_tol=1e-15)
        return equal and math.copysign(1, ours) == math.copysign(1, theirs) if ours == 0 else equal
    return bool(ours == theirs)


def by_key(rows: list[Row], key: str = "g") -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


@pytest.mark.parametrize("filtered", [False, True], ids=["", "filter"])
@settings(max_examples=settings().max_examples // 2)
@given(batches=batches_of())
def test_grouped_aggregates(filtered: bool, batches: list[list[Row]]) -> None:
    clause = " FILTER (WHERE flag)" if filtered else ""
    items = ", ".join(f"{sql}{clause} AS a{i}" for i, sql in enumerate(AGGREGATES))
    rows = [row for batch in batches for row in batch]
    found = answer(f"SELECT g, {items} FROM clicks GROUP BY g", batches)
    groups = by_key(rows)
    assert {row["g"] for row in found} == set(groups)
    for row in found:
        kept = [r for r in groups[row["g"]] if r["flag"] or not filtered]
        for i, (sql, oracle) in enumerate(AGGREGATES.items()):
            assert same(row[f"a{i}"], oracle(kept)), (sql, row[f"a{i}"], oracle(kept))


@pytest.mark.parametrize("filtered", [False, True], ids=["", "filter"])
@settings(max_examples=settings().max_examples // 2)
@given(batches=batches_of())
def test_global_aggregates(filtered: bool, batches: list[list[Row]]) -> None:
    """Without GROUP BY there is one row, also over nothing."""
    clause = " FILTER (WHERE n > 0)" if filtered else ""
    items = ", ".join(f"{sql}{clause} AS a{i}" for i, sql in enumerate(AGGREGATES))
    rows = [row for batch in batches for row in batch]
    (found,) = answer(f"SELECT {items} FROM clicks", batches)
    kept = [r for r in rows if not filtered or (r["n"] is not None and r["n"] > 0)]
    for i, (sql, oracle) in enumerate(AGGREGATES.items()):
        assert same(found[f"a{i}"], oracle(kept)), (sql, found[f"a{i}"], oracle(kept))


@given(batches=batches_of())
def test_float_keys_are_one_key_for_each_value(batches: list[list[Row]]) -> None:
    found = answer("SELECT x, COUNT(*) AS n FROM clicks GROUP BY x", batches)
    rows = [row for batch in batches for row in batch]
    wanted: dict[Any, int] = {}
    for row in rows:
        key = None if row["x"] is None else order_of(row["x"])
        wanted[key] = wanted.get(key, 0) + 1
    assert {None if r["x"] is None else order_of(r["x"]): r["n"] for r in found} == wanted
    assert all(math.copysign(1, row["x"]) == 1 for row in found if row["x"] == 0)


@given(batches=batches_of())
def test_two_levels(batches: list[list[Row]]) -> None:
    """The lower GROUP BY is the state; what stands above may be anything."""
    found = answer(
        "WITH a AS (SELECT g, name, COUNT(*) AS c, SUM(money) AS s FROM clicks GROUP BY ALL) "
        "SELECT g, COUNT(*) AS names, SUM(c) AS c, MAX(s) AS m, AVG(c) AS mean, MEDIAN(c) AS med, "
        "COUNT(*) FILTER (WHERE c > 1) AS repeated FROM a GROUP BY g",
        batches,
    )
    rows = [row for batch in batches for row in batch]
    assert len(found) == len(by_key(rows))
    for row in found:
        names = by_key(by_key(rows)[row["g"]], "name")
        counts = sorted(len(part) for part in names.values())
        sums = [s for part in names.values() if (s := total(part, "money")) is not None]
        assert row["names"] == len(names)
        assert row["c"] == sum(counts)
        assert row["m"] == (max(sums) if sums else None)
        assert row["mean"] == sum(counts) / len(counts)
        assert row["med"] == (counts[(len(counts) - 1) // 2] + counts[len(counts) // 2]) / 2
        assert row["repeated"] == sum(count > 1 for count in counts)


@given(batches=batches_of(), gap=st.sampled_from([10, 20, 30]))
def test_sessions(batches: list[list[Row]], gap: int) -> None:
    """Events at most the gap apart are of one session; one exactly as far belongs to it."""
    found = answer(
        f"SELECT g, SESSION_WINDOW(event_time, '{gap} minutes') AS s, COUNT(*) AS c, "
        "SUM(money) AS m, COUNT(DISTINCT name) AS names FROM clicks GROUP BY g, s",
        batches,
    )
    rows = [row for batch in batches for row in batch if row["event_time"] is not None]
    wanted = []
    for key, group in by_key(rows).items():
        part: list[Row] = []
        for row in sorted(group, key=lambda r: r["event_time"]):
            if part and row["event_time"] - part[-1]["event_time"] > timedelta(minutes=gap):
                wanted.append((key, part))
                part = []
            part.append(row)
        wanted.append((key, part))
    width = timedelta(minutes=gap)
    expected = {
        (key, part[0]["event_time"], part[-1]["event_time"] + width): (
            len(part),
            total(part, "money"),
            distinct(part, "name"),
        )
        for key, part in wanted
    }
    assert expected == {
        (r["g"], r["s"]["start"], r["s"]["end"]): (r["c"], r["m"], r["names"]) for r in found
    }


@given(batches=batches_of(), first=st.sampled_from(["", " NULLS FIRST"]), last=st.integers(1, 3))
def test_latest_by_key(batches: list[list[Row]], first: str, last: int) -> None:
    """The rows of a key with the greatest order; ties go to the least of the other columns."""
    found = answer(
        "SELECT g, money, name FROM clicks "
        f"QUALIFY ROW_NUMBER() OVER (PARTITION BY g ORDER BY n DESC{first}) <= {last}",
        batches,
    )

    def rank(row: Row) -> tuple[Any, ...]:
        null = row["n"] is None
        others = [(row[c] is None, row[c] or type(row[c] or "")()) for c in ("money", "name")]
        return (null if not first else not null, -(row["n"] or 0), *others)

    rows = [row for batch in batches for row in batch]
    wanted = [
        (row["g"], row["money"], row["name"])
        for group in by_key(rows).values()
        for row in sorted(group, key=rank)[:last]
    ]
    key = repr
    assert sorted(((r["g"], r["money"], r["name"]) for r in found), key=key) == sorted(
        wanted, key=key
    )


@given(batches=batches_of())
def test_sums_do_not_overflow_in_a_part(batches: list[list[Row]]) -> None:
    """A part may exceed 64 bits where the whole does not."""
    top = {"g": "a", "big": 2**63 - 1}
    low = {"g": "a", "big": -(2**63 - 1)}
    parts = [[top, top, top], [low, low, low], *batches]
    found = answer("SELECT SUM(big) AS s, COUNT(big) AS c FROM clicks", parts)
    rows = [row for batch in batches for row in batch]
    assert found == [{"s": total(rows, "big") or 0, "c": len(known(rows, "big")) + 6}]


def test_money_is_exact() -> None:
    rows = [{"g": "a", "money": Decimal("0.10")} for _ in range(1000)]
    found = answer("SELECT SUM(money) AS s, AVG(money) AS m FROM clicks", [rows[:1], rows[1:]])
    assert found == [{"s": Decimal("100.00"), "m": 0.1}]
