"""Random events and dimensions for the laws: every type, NULLs, skew, duplicates, orphans."""

import math
import random
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import duckdb
import numpy as np
import pyarrow as pa

from playhead.testing.evaluate import evaluate
from playhead.views import View

START = datetime(2023, 12, 20)
USERS, MOVIES = 9, 6

USERS_TABLE = pa.table(
    {
        "user_id": [f"u{i}" for i in range(USERS - 2)],
        "country": ["USA", "Canada", None, "USA", "UK", "USA", "Canada"],
        "subscription_plan": ["basic", "premium"] * 3 + [None],
        "age": pa.array([20, 21, None, 40, 41, 42, 43], pa.int32()),
        "monthly_spend": pa.array(
            [Decimal("1.10") * i for i in range(6)] + [None], pa.decimal128(12, 2)
        ),
    }
)
MOVIES_TABLE = pa.table(
    {
        "movie_id": [f"m{i}" for i in range(MOVIES - 1)],
        "genre_primary": ["Drama", "Comedy", "Drama", None, "War"],
        "duration_minutes": pa.array([Decimal(i * 10) for i in range(5)], pa.decimal128(12, 2)),
    }
)
DIMENSIONS = {"users": USERS_TABLE, "movies": MOVIES_TABLE}

INTEGERS = {
    "i8": pa.int8(), "i16": pa.int16(), "i32": pa.int32(), "i64": pa.int64(),
    "u8": pa.uint8(), "u16": pa.uint16(), "u32": pa.uint32(), "u64": pa.uint64(),
}  # fmt: skip
DOUBLES = (0.0, -0.0, 0.5, -2.5, 1e300, 1 / 3, math.inf, -math.inf, math.nan)


def random_events(r: random.Random, rows: int) -> pa.Table:
    """One topic's events with columns of every kind."""

    def column(kind: pa.DataType, make: object, nulls: float = 0.15) -> pa.Array:
        values = [None if r.random() < nulls else make() for _ in range(rows)]  # type: ignore[operator]
        return pa.array(values, kind)

    def skewed(n: int) -> int:
        return min(int(r.expovariate(0.7)), n - 1)

    table = {
        "event_id": pa.array([f"e{r.randrange(10**9)}" for _ in range(rows)], pa.string()),
        "event_time": column(
            pa.timestamp("us"), lambda: START + timedelta(seconds=600 * r.randrange(3000)), 0.02
        ),
        "user_id": column(pa.string(), lambda: f"u{skewed(USERS)}"),
        "friend_id": column(pa.string(), lambda: f"u{r.randrange(USERS)}"),
        "movie_id": column(pa.string(), lambda: f"m{skewed(MOVIES)}"),
        "action": column(pa.string(), lambda: r.choice(["started", "Stopped", "", "a_b", "50%"])),
        "day": column(pa.date32(), lambda: date(2023, 12, 20) + timedelta(r.randrange(40))),
        "minutes": column(pa.decimal128(12, 2), lambda: Decimal(r.randrange(-999, 9999)) / 100),
        "score": column(pa.decimal128(9, 4), lambda: Decimal(r.randrange(10**6)) / 10**4),
        "ratio": column(pa.float64(), lambda: r.choice(DOUBLES)),
        "small": column(pa.float32(), lambda: r.choice(DOUBLES[:4])),
        "flag": column(pa.bool_(), lambda: r.random() < 0.5),
        "n": column(pa.int32(), lambda: r.randrange(-5, 10)),
    }
    for name, kind in INTEGERS.items():
        info = np.iinfo(kind.to_pandas_dtype())
        table[name] = column(
            kind, lambda info=info: r.choice([info.min, info.max, 0, 1, r.randrange(100)])
        )
    events = pa.table(table)
    repeated = r.randrange(rows // 4 + 1)
    return pa.concat_tables([events, events.slice(0, repeated)])


def random_batches(r: random.Random, events: pa.Table) -> list[pa.Table]:
    """The events in any order, cut anywhere: empty parts, parts whose types are all NULL."""
    order = list(range(events.num_rows))
    r.shuffle(order)
    events = _encoded(r, events.take(pa.array(order, pa.int64())))
    cuts = sorted(r.randrange(events.num_rows + 1) for _ in range(r.randrange(6)))
    bounds = [0, *cuts, events.num_rows]
    batches = [events.slice(a, b - a) for a, b in pairwise(bounds)]
    if r.random() < 0.3:
        batches.append(events.schema.empty_table())
    if r.random() < 0.3:
        batches.append(pa.table({name: pa.array([], pa.null()) for name in events.column_names}))
    if r.random() < 0.3:
        batches.append(_some_null(r, events.slice(0, 3)))
    r.shuffle(batches)
    return batches


def _encoded(r: random.Random, events: pa.Table) -> pa.Table:
    """Texts as plain, large or dictionary arrays; times in nanoseconds."""
    for name in ("user_id", "action", "movie_id"):
        at = events.column_names.index(name)
        match r.randrange(4):
            case 0:
                events = events.set_column(at, name, events[name].dictionary_encode())
            case 1:
                events = events.set_column(at, name, events[name].cast(pa.large_string()))
    if r.random() < 0.2:
        at = events.column_names.index("event_time")
        events = events.set_column(at, "event_time", events["event_time"].cast(pa.timestamp("ns")))
    return events


def _some_null(r: random.Random, part: pa.Table) -> pa.Table:
    """A part in which some columns are of NULL type."""
    for at, name in enumerate(part.column_names):
        if r.random() < 0.3:
            part = part.set_column(at, name, pa.nulls(part.num_rows))
    return part


def check_merged(
    view: View,
    batches: list[pa.Table],
    *,
    dimensions: dict[str, pa.Table] | None = None,
    seed: int = 0,
) -> pa.Table:
    """Assert that merged equals full, schema and digits; gives the full answer."""
    full, merged = evaluate(view, batches, dimensions or DIMENSIONS, seed=seed)
    assert full.schema == merged.schema, f"{full.schema}\n---\n{merged.schema}\n{view.text}"
    # repr tells -0.0 from 0.0, and takes NaN for itself.
    ours, theirs = repr(full.to_pylist()), repr(merged.to_pylist())
    assert ours == theirs, f"{view.text}\nfull   {ours[:2000]}\nmerged {theirs[:2000]}"
    return full


def plain(sql: str, topics: dict[str, pa.Table], dimensions: dict[str, pa.Table]) -> pa.Table:
    """The text run as it is, over tables of DuckDB's own."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, table in (topics | dimensions).items():
            connection.register("given", table)
            connection.execute(f"CREATE TABLE {name} AS FROM given")
        return connection.execute(sql).to_arrow_table()


def same_values(ours: pa.Table, theirs: pa.Table) -> bool:
    """Whether two answers hold the same rows, whatever their order and number types."""
    if ours.column_names != theirs.column_names or ours.num_rows != theirs.num_rows:
        return False
    left, right = (sorted(map(_row, t.to_pylist()), key=_rough) for t in (ours, theirs))
    return all(
        _same(a, b) for x, y in zip(left, right, strict=True) for a, b in zip(x, y, strict=True)
    )


def _row(row: dict[str, object]) -> list[object]:
    return [_value(value) for value in row.values()]


def _value(value: object) -> object:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float | Decimal):
        return float(value) + 0.0
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day).isoformat()
    return value


def _rough(row: list[object]) -> str:
    return repr([f"{v:.6g}" if isinstance(v, float) else v for v in row])


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        both_nan = math.isnan(a) and math.isnan(b)
        return both_nan or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-6)
    return a == b
