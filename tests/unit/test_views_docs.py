"""docs/views.md says what the code does: its examples run, its lists are complete."""

import random
import re
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlglot
from sqlglot import exp

from playhead.errors import NotMergeableError
from playhead.testing.evaluate import evaluate
from playhead.views import View
from playhead.views.catalog import library
from playhead.views.functions import (
    ABOVE_ONLY,
    MERGEABLE,
    REFUSED_FUNCTIONS,
    SCALAR,
    WINDOW_ONLY,
)
from playhead.views.grammar import REFUSED_CONSTRUCTS

PAGE = (Path(__file__).parents[2] / "docs" / "views.md").read_text(encoding="utf-8")
SQL = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
REFUSED = re.findall(r"```sql refused\n(.*?)```", PAGE, flags=re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def _events(r: random.Random, schema: pa.Schema, rows: int) -> pa.Table:
    def value(kind: pa.DataType) -> Any:
        if pa.types.is_decimal(kind):
            return Decimal(r.randrange(100)) / 10**kind.scale
        if pa.types.is_timestamp(kind):
            return datetime(2024, 1, 1) + timedelta(minutes=10 * r.randrange(3000))
        if pa.types.is_date(kind):
            return datetime(2024, 1, 1 + r.randrange(28)).date()
        if pa.types.is_integer(kind):
            return r.randrange(6)
        return r.random() < 0.5 if pa.types.is_boolean(kind) else r.choice(["a", "b", "c"])

    return pa.table(
        {
            field.name: pa.array([value(field.type) for _ in range(rows)], field.type)
            for field in schema
        }
    )


@pytest.mark.parametrize("sql", SQL, ids=range(len(SQL)))
def test_sql_examples_run(sql: str) -> None:
    view = View.parse("example", sql)
    r = random.Random(1)
    batches = [
        {topic: _events(r, view.relations[topic].schema, rows) for topic in view.topics}
        for rows in (20, 0, 40)
    ]
    dimensions = {
        name: _events(r, view.relations[name].schema, 3).slice(0, 1)
        for name in view.plans.dimensions
    }
    full, merged = evaluate(view, batches, dimensions)
    assert full.num_rows
    assert full.equals(merged)


@pytest.mark.parametrize("sql", REFUSED, ids=range(len(REFUSED)))
def test_refused_examples_are_refused(sql: str) -> None:
    with pytest.raises(NotMergeableError):
        View.parse("example", sql)


@pytest.mark.parametrize("text", PYTHON, ids=range(len(PYTHON)))
def test_python_examples_run(text: str) -> None:
    exec(compile(text, "docs/views.md", "exec"), {})  # noqa: S102


def test_the_built_in_views_are_listed() -> None:
    section = PAGE.split("## The built-in views")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE) == list(library())


def test_canonical_functions_are_those_of_the_code() -> None:
    section = PAGE.split("## The canonical functions")[1].split("\n## ")[0]
    found: set[type] = set()
    for text in re.findall(r"`([^`]+)`", section):
        try:
            tree = sqlglot.parse_one(text, dialect="duckdb")
        except sqlglot.ParseError:
            continue
        found |= {type(node) for node in tree.find_all(exp.Func)}
    found -= {exp.Anonymous}
    assert found == {*SCALAR, *MERGEABLE, *ABOVE_ONLY, *WINDOW_ONLY}


def test_every_refused_function_is_in_the_table() -> None:
    for name, (why, instead) in REFUSED_FUNCTIONS.items():
        assert f"| `{name.upper()}` | {why} | {instead} |" in PAGE


def test_every_refused_construct_is_in_the_table() -> None:
    for name, why, instead in REFUSED_CONSTRUCTS.values():
        assert f"| {name} | {why} | {instead} |" in PAGE
