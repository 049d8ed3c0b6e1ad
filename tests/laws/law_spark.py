"""What the laws of Spark share: one session, and rows on which engines might differ."""

import random
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any

import pyarrow as pa

from playhead.config import SparkSettings
from playhead.contracts import DIMENSIONS, TOPICS
from playhead.engines.spark import SparkEngine, spark_session
from playhead.engines.spark.conf import Setting, session_settings
from playhead.views import View
from playhead.views.relations import Relation, known_relations

SMALL = (Setting("spark.sql.shuffle.partitions", "2", "small tables"),)
KEYS = [f"k{i}" for i in range(7)]
ODD_KEYS = ["", "K1", "k1 ", "ключ", "ke\u0301y", "k\u00e9y", "🎬", "a'b\"c\\d", "%", "NULL"]
ODD_TEXTS = ["", " ", "drama", "Drama", "Émile", "😀", "a\tb", "ß", "SS"]
ODD_TIMES = [
    datetime(1, 1, 1), datetime(1582, 10, 10), datetime(1969, 12, 31, 23, 59, 59, 999_999),
    datetime(1970, 1, 1), datetime(2024, 1, 31, 23, 59, 59, 999_999), datetime(2024, 2, 29),
    datetime(2024, 2, 29, 23, 59, 59, 999_999), datetime(2024, 3, 31, 2, 30),
    datetime(2024, 10, 27, 2, 30), datetime(2024, 12, 31, 23, 55), datetime(2025, 1, 1),
    datetime(9998, 12, 31, 23, 59, 59, 999_999),
]  # fmt: skip
START = datetime(2024, 1, 20)


@cache
def spark_engine() -> SparkEngine:
    """The one Spark of this process, with two cores and a gigabyte."""
    settings = SparkSettings(master="local[2]", memory="1GB")
    return SparkEngine(spark_session(session_settings(settings, SMALL)))


def nasty_relations(view: View, seed: int, rows: int) -> dict[str, pa.Table]:
    """Tables for all that a view reads: NULLs, extreme numbers, ties, odd texts and times."""
    r = random.Random(seed)
    relations = known_relations()
    names = [*view.topics, *view.plans.dimensions]
    return {name: _table(r, relations[name], rows) for name in names}


def _table(r: random.Random, relation: Relation, rows: int) -> pa.Table:
    if relation.kind == "dimension":
        pairs = r.sample([(a, b) for a in KEYS + ODD_KEYS for b in KEYS + ODD_KEYS], 60)
        if len(relation.key) == 1:
            pairs = [(a, a) for a in r.sample(KEYS + ODD_KEYS, 12)]
        keys = dict(zip(relation.key, zip(*pairs, strict=True), strict=False))
        rows = len(pairs)
    else:
        keys = {}
    contract = TOPICS.get(relation.name) or DIMENSIONS.get(relation.name)
    allowed = {f.name: f.values for f in contract.fields} if contract else {}
    return pa.table(
        {
            column.name: pa.array(
                keys.get(column.name)
                or [
                    None if r.random() < 0.12 else _value(r, column, allowed.get(column.name))
                    for _ in range(rows)
                ],
                column.type,
            )
            for column in relation.schema
        }
    )


def _value(r: random.Random, column: pa.Field, allowed: tuple[str, ...] | None) -> Any:
    kind, odd = column.type, r.random() < 0.15
    if allowed:
        return r.choice(allowed)
    if column.name.endswith("_id"):
        return r.choice(ODD_KEYS if odd else KEYS)
    if pa.types.is_boolean(kind):
        return r.random() < 0.5
    if pa.types.is_decimal(kind):
        most = 10**kind.precision - 1
        whole = r.choice([most, -most, 0, 1, -1, most // 2]) if odd else r.randrange(-500, 9_000)
        return Decimal(whole).scaleb(-kind.scale)
    if pa.types.is_integer(kind):
        return r.choice([2**31 - 1, -(2**31), 0]) if odd else r.randrange(6)
    if pa.types.is_date(kind):
        return r.choice(ODD_TIMES).date() if odd else _day(r)
    if pa.types.is_timestamp(kind):
        return r.choice(ODD_TIMES) if odd else START + timedelta(minutes=r.randrange(100_000))
    return r.choice(ODD_TEXTS if odd else ODD_TEXTS[2:4])


def _day(r: random.Random) -> date:
    return (START + timedelta(days=r.randrange(70))).date()


def split(tables: Mapping[str, pa.Table], seed: int) -> list[dict[str, pa.Table]]:
    """The rows in another order, in four parts, one of which is empty."""
    r = random.Random(seed)
    shuffled = {}
    for name, table in tables.items():
        order = list(range(table.num_rows))
        r.shuffle(order)
        shuffled[name] = table.take(pa.array(order, pa.int64()))
    cut = r.random()
    bounds = [0.0, cut / 2, cut, cut, 1.0]
    return [
        {n: t.slice(int(a * t.num_rows), int(b * t.num_rows) - int(a * t.num_rows))
         for n, t in shuffled.items()}
        for a, b in pairwise(bounds)
    ]  # fmt: skip
