"""Plans as DataFrames: what they read may be of any size, and nothing passes the driver."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, reduce
from importlib import import_module
from typing import TYPE_CHECKING

from playhead.errors import EngineError
from playhead.views.dialects import spark_type, transpile
from playhead.views.leaf import Leaf
from playhead.views.view import View

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["SparkPlans", "told"]

_OUTGREW = (
    "ARITHMETIC_OVERFLOW",
    "CAST_OVERFLOW",
    "NUMERIC_VALUE_OUT_OF_RANGE",
    "DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION",
    "BINARY_ARITHMETIC_OVERFLOW",
)
_TEXTS = 512


class SparkPlans:
    """The plans of views over DataFrames of one session.

    A plan is looked at when its DataFrame is made, and run when somebody reads it. Meanwhile the
    relations are temporary views of the session under their own names: other temporary views of
    these names are lost, so a session of one's own (`SparkSession.newSession`) is the place where
    that matters. One thread at a time.

    Args:
        session: with the settings of `playhead.engines.spark.conf.FIXED`; all DataFrames that
            are given have to be of it.

    Raises:
        EngineError: a setting that answers depend on has another value.
    """

    def __init__(self, session: "SparkSession") -> None:
        _check_settings(session)
        self.session = session

    def full(self, view: View, relations: "Mapping[str, DataFrame]") -> "DataFrame":
        """The answer by plain recomputation over whole topics and dimensions, by name."""
        types = dict(view.plans.columns)
        return self.run(view.plans.full, relations, types, f"view {view.name}")

    def final(
        self,
        view: View,
        states: "Mapping[str, DataFrame]",
        dimensions: "Mapping[str, DataFrame]",
    ) -> "DataFrame":
        """The answer, from one merged state per leaf name."""
        types = dict(view.plans.columns)
        return self.run(view.plans.final, {**dimensions, **states}, types, f"view {view.name}")

    def wide(self, leaf: Leaf, relations: "Mapping[str, DataFrame]") -> "DataFrame":
        """The leaf's wide topic: its topic's events, each with its rows of the dimensions."""
        return self.run(leaf.wide(), relations, {}, f"wide topic of {leaf.name}")

    def partial(self, leaf: Leaf, events: "DataFrame", *, extra: str | None = None) -> "DataFrame":
        """States of some events.

        Args:
            events: the wide topic; may be empty.
            extra: DuckDB SQL over it of one more leading key, as `Leaf.partial` takes it.
        """
        sql = leaf.partial(extra=extra)
        return self.run(sql, {"events": events}, leaf.types, f"partial of {leaf.name}")

    def merge(
        self, leaf: Leaf, states: "Sequence[DataFrame]", *, extra: bool = False
    ) -> "DataFrame":
        """One state out of several, in any order; they may overlap in keys; at least one.

        Args:
            extra: the states have the leading key of `partial`, and keep it.
        """
        together = reduce(lambda one, other: one.unionByName(other), states)
        sql = leaf.merge(extra=extra)
        return self.run(sql, {"states": together}, leaf.types, f"merge of {leaf.name}")

    def run(
        self,
        sql: str,
        relations: "Mapping[str, DataFrame]",
        types: Mapping[str, str],
        what: str,
    ) -> "DataFrame":
        """A plan's rows.

        Args:
            sql: in DuckDB's dialect, with DuckDB's meaning.
            relations: all that it reads, by name.
            types: DuckDB types of its columns; those that are not named stay as they come.
            what: for messages, such as "view daily_engagement".

        Raises:
            EngineError: Spark refuses the text.
        """
        with told(what):
            try:
                for name, frame in relations.items():
                    frame.createOrReplaceTempView(_quoted(name))
                return _typed(self.session.sql(_spark_text(sql)), types)
            finally:
                for name in relations:
                    self.session.catalog.dropTempView(name)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn what Spark raises in the block into an error that names the plan.

    Raises:
        EngineError: Spark failed.
    """
    from pyspark.errors import PySparkException

    # Raised by the gateway to a Java process that is gone; it has no types of its own.
    gone: type[Exception] = import_module("py4j.protocol").Py4JError
    try:
        yield
    except (PySparkException, gone) as error:
        condition = error.getCondition() if isinstance(error, PySparkException) else None
        line = next((line for line in str(error).splitlines() if line.strip()), "")
        hint = None
        if (condition or "").split(".")[0] in _OUTGREW or any(f"[{c}" in line for c in _OUTGREW):
            hint = "A number outgrew its type: CAST it to a wider DECIMAL in the view."
        raise EngineError(f"{what}: {line}", hint=hint) from error


def _check_settings(session: "SparkSession") -> None:
    from playhead.engines.spark.conf import FIXED

    for setting in FIXED:
        found = session.conf.get(setting.name)
        if (found or "").lower() != setting.value.lower():
            raise EngineError(
                f"this Spark session has {setting.name} = {found}, with which answers would differ",
                hint=f"Set it to {setting.value}, or let playhead.engines.spark.spark_session "
                "make the session.",
            )


@lru_cache(_TEXTS)
def _spark_text(sql: str) -> str:
    return transpile(sql, "spark")


@lru_cache(_TEXTS)
def _spark_type(kind: str) -> str:
    return spark_type(kind)


def _typed(frame: "DataFrame", types: Mapping[str, str]) -> "DataFrame":
    """The frame with exactly these types, by casts where Spark has derived another one."""
    from pyspark.sql import functions as f

    columns, differs = [], False
    for field in frame.schema.fields:
        column = f.col(_quoted(field.name))
        wanted = _spark_type(types[field.name]) if field.name in types else None
        if wanted is not None and field.dataType.simpleString() != _simple(wanted):
            column, differs = column.cast(wanted).alias(field.name), True
        columns.append(column)
    return frame.select(*columns) if differs else frame


def _simple(kind: str) -> str:
    return kind.replace(", ", ",").replace(": ", ":").lower()


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"
