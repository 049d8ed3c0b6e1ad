"""Every built-in view over random data of its topics' own contracts."""

import random
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from law_events import plain, same_values

from playhead.contracts import DIMENSIONS, TOPICS, Field
from playhead.testing.evaluate import evaluate
from playhead.views import View
from playhead.views.catalog import library
from playhead.views.relations import Relation, known_relations

_SPAN = timedelta(days=70)
_START = datetime(2024, 1, 20)


def _value(r: random.Random, name: str, kind: pa.DataType, fields: dict[str, Field]) -> Any:
    """A random value that its contract allows; ids are few, so that lookups hit and miss."""
    field = fields.get(name)
    if field is not None and field.values:
        return r.choice(field.values)
    if name.endswith("_id"):
        return f"{name[0]}{min(int(r.expovariate(0.4)), 11)}"
    if pa.types.is_boolean(kind):
        return r.random() < 0.5
    if pa.types.is_decimal(kind):
        return Decimal(r.randrange(0, 10 ** min(kind.precision, 4))) / 10**kind.scale
    if pa.types.is_integer(kind):
        return r.randrange(0, 6)
    if pa.types.is_date(kind):
        return (_START + r.random() * _SPAN).date()
    if pa.types.is_timestamp(kind):
        return _START + timedelta(seconds=60 * r.randrange(int(_SPAN.total_seconds()) // 60))
    return r.choice(["USA", "Canada", "drama", "x", ""])


def _table(r: random.Random, relation: Relation, rows: int, fields: dict[str, Field]) -> pa.Table:
    columns = {}
    for column in relation.schema:
        nulls = 0.1 if column.nullable or r.random() < 0.2 else 0
        values = [
            None if r.random() < nulls else _value(r, column.name, column.type, fields)
            for _ in range(rows)
        ]
        columns[column.name] = pa.array(values, column.type)
    return pa.table(columns)


def _dimension(r: random.Random, relation: Relation, fields: dict[str, Field]) -> pa.Table:
    """One row for each of some keys."""
    table = _table(r, relation, 14, fields)
    for column in relation.key:
        at = table.column_names.index(column)
        ids = [f"{column[0]}{i}" for i in r.sample(range(14), 14)]
        table = table.set_column(at, column, pa.array(ids))
    return table.slice(0, r.randrange(14))


def _fields(name: str) -> dict[str, Field]:
    contract = TOPICS.get(name) or DIMENSIONS.get(name)
    return {field.name: field for field in contract.fields} if contract else {}


@pytest.mark.parametrize("name", library())
@settings(max_examples=settings().max_examples // 3)
@given(seed=st.integers(0, 2**32), rows=st.sampled_from([0, 1, 20, 150]))
def test_merged_equals_full(name: str, seed: int, rows: int) -> None:
    view = library()[name]
    r = random.Random(seed)
    relations = known_relations()
    topics = {t: _table(r, relations[t], rows, _fields(t)) for t in view.topics}
    dimensions = {d: _dimension(r, relations[d], _fields(d)) for d in view.plans.dimensions}
    batches = [dict(zip(topics, parts, strict=True)) for parts in _cut(r, topics)]
    full, merged = evaluate(view, batches, dimensions, seed=seed)
    assert full.schema == merged.schema
    assert repr(full.to_pylist()) == repr(merged.to_pylist())
    assert tuple(full.column_names) == view.columns
    assert same_values(full, plain(view.text, topics, dimensions)), view.text


def _cut(r: random.Random, topics: dict[str, pa.Table]) -> list[list[pa.Table]]:
    cuts = sorted(r.random() for _ in range(r.randrange(5)))
    bounds = [0.0, *cuts, 1.0]
    return [
        [
            t.slice(int(a * t.num_rows), int(b * t.num_rows) - int(a * t.num_rows))
            for t in topics.values()
        ]
        for a, b in pairwise(bounds)
    ]


def test_every_view_documents_its_columns() -> None:
    for name, view in library().items():
        assert set(view.header.columns) == set(view.columns), name
        assert view.header.description, name
        assert view.header.owner, name


def test_views_with_two_parses_are_equal() -> None:
    for name, view in library().items():
        again = View.parse(name, view.text)
        assert again.hash == view.hash
        assert again.plans.full == view.plans.full


def test_dates_reach_months() -> None:
    """The random days reach over month ends, or the monthly views would have one row."""
    assert {(_START + _SPAN * i / 9).month for i in range(9)} >= {1, 2, 3}
    assert isinstance(_START.date(), date)
