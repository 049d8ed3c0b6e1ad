"""Spark as an engine over Arrow tables: for tests, small inputs, and to be held against DuckDB."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from playhead.engines.base import Engine
from playhead.engines.spark.plans import SparkPlans, told
from playhead.engines.spark.session import spark_session
from playhead.views.binder import quote
from playhead.views.leaf import Leaf
from playhead.views.view import View

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["SparkEngine"]


class SparkEngine(Engine):
    """Runs plans in a Spark session; answers have the types that DuckDB gives.

    Tables pass the driver both ways: what is large is for `SparkPlans`.

    Args:
        session: the session to use; the process's own one if None.
    """

    def __init__(self, session: "SparkSession | None" = None) -> None:
        self.plans = SparkPlans(session or spark_session())

    def partial(self, leaf: Leaf, events: pa.Table) -> pa.Table:
        what = f"partial of {leaf.name}"
        return _taken(self.plans.partial(leaf, self.frame(events)), leaf.types, what)

    def merge(self, leaf: Leaf, states: Sequence[pa.Table]) -> pa.Table:
        together = states[0] if len(states) == 1 else pa.concat_tables(states)
        what = f"merge of {leaf.name}"
        return _taken(self.plans.merge(leaf, [self.frame(together)]), leaf.types, what)

    def final(
        self, view: View, states: Mapping[str, pa.Table], dimensions: Mapping[str, pa.Table]
    ) -> pa.Table:
        read = {name: dimensions[name] for name in view.plans.dimensions_above}
        frame = self.plans.final(view, self._frames(states), self._frames(read))
        return _taken(frame, dict(view.plans.columns), f"view {view.name}")

    def full(self, view: View, relations: Mapping[str, pa.Table]) -> pa.Table:
        frame = self.plans.full(view, self._frames(relations))
        return _taken(frame, dict(view.plans.columns), f"view {view.name}")

    def frame(self, table: pa.Table) -> "DataFrame":
        """An Arrow table as a DataFrame: one partition for each 100,000 rows."""
        schema = pa.schema([pa.field(f.name, _portable(f.type)) for f in table.schema])
        return self.plans.session.createDataFrame(table.cast(schema).combine_chunks())

    def _frames(self, tables: Mapping[str, pa.Table]) -> "dict[str, DataFrame]":
        return {name: self.frame(table) for name, table in tables.items()}


def _taken(frame: "DataFrame", types: Mapping[str, str], what: str) -> pa.Table:
    """The rows, in the Arrow types that DuckDB's have."""
    with told(what):
        table = frame.toArrow()
    return table.cast(_arrow_schema(tuple((name, types[name]) for name in table.column_names)))


@lru_cache(512)
def _arrow_schema(columns: tuple[tuple[str, str], ...]) -> pa.Schema:
    """DuckDB's Arrow types of columns, (name, DuckDB type) each."""
    nothing = ", ".join(f"CAST(NULL AS {kind}) AS {quote(name)}" for name, kind in columns)
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(f"SELECT {nothing}").to_arrow_table().schema


def _portable(kind: pa.DataType) -> pa.DataType:
    """The nearest type that holds the same values and that Spark takes from Arrow."""
    if pa.types.is_dictionary(kind):
        return _portable(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _portable(f.type)) for f in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_portable(kind.value_type))
    return _PORTABLE.get(kind, kind)


_PORTABLE: dict[pa.DataType, pa.DataType] = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.date64(): pa.date32(),
    pa.null(): pa.int32(),
}
