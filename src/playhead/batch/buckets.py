"""The stretches of history that states are kept by, and those that are read at once.

A state row says in which bucket its events fell: a month where the groups follow a date, else a
year, for groups that do not end with the month would be kept again for every month. A bucket is
made anew as a whole when one of its events goes; new events only add rows to it.
"""

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import pyarrow as pa
import sqlglot
from sqlglot import exp

from playhead.contracts import contract
from playhead.lake import Snapshot
from playhead.views.leaf import Leaf

__all__ = [
    "Stretch",
    "bucket_of",
    "bucket_sql",
    "bucket_unit",
    "in_buckets",
    "months_of",
    "stretches",
]

STRETCH_ROWS = 16_000_000
"""Events that are widened at once, if a day does not hold more: about 2 GB in DuckDB."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive days `[since, until)` of a topic."""

    since: date
    until: date

    @property
    def partitions(self) -> list[date]:
        """The months that it touches."""
        months, month = [], self.since.replace(day=1)
        while month < self.until:
            months.append(month)
            month = (month + timedelta(days=32)).replace(day=1)
        return months

    def rows(self, counts: Mapping[date, int]) -> int:
        """How many of the rows that each day has are in it."""
        return sum(count for day, count in counts.items() if self.since <= day < self.until)

    def scan(self, events: Snapshot, condition: str = "true") -> str:
        """A relation of its events that meet a condition on the topic's columns."""
        return (
            f"(FROM {events.scan(partitions=self.partitions)} WHERE ({condition}) "
            f"AND event_time >= TIMESTAMP '{self.since}' AND event_time < TIMESTAMP '{self.until}')"
        )


def stretches(rows: Mapping[date, int], limit: int = STRETCH_ROWS) -> list[Stretch]:
    """Days cut into stretches of at most `limit` rows each, or of one day that has more.

    Args:
        rows: how many rows each day has.
    """
    found: list[Stretch] = []
    held = 0
    for day, count in sorted(rows.items()):
        if found and held + count <= limit:
            found[-1] = Stretch(found[-1].since, day + timedelta(days=1))
            held += count
        else:
            found.append(Stretch(day, day + timedelta(days=1)))
            held = count
    return found


@functools.lru_cache(maxsize=1_000)
def _unit(topic: str, keys: tuple[str, ...]) -> Literal["month", "year"]:
    fields = {field.name.lower(): field.type for field in contract(topic).schema}
    dated = {name for name, kind in fields.items() if pa.types.is_temporal(kind)}
    for key in keys:
        columns = sqlglot.parse_one(key, dialect="duckdb").find_all(exp.Column)
        if any(column.name.lower() in dated for column in columns):
            return "month"
    return "year"


def bucket_unit(leaf: Leaf) -> Literal["month", "year"]:
    """How long the buckets of a leaf's state are."""
    if leaf.session is not None:
        return "month"
    return _unit(leaf.topic, tuple(sql for _, sql in leaf.keys))


def bucket_of(leaf: Leaf, day: date) -> date:
    """The first day of the bucket that a day's events fall in."""
    return day.replace(day=1) if bucket_unit(leaf) == "month" else day.replace(month=1, day=1)


def bucket_sql(leaf: Leaf, time: str = "event_time") -> str:
    """SQL of the same (a DATE), from an event's time or day."""
    return f"CAST(date_trunc('{bucket_unit(leaf)}', {time}) AS DATE)"


def in_buckets(leaf: Leaf, buckets: Collection[date]) -> str:
    """A condition on `event_time`: events of these buckets."""
    months = 1 if bucket_unit(leaf) == "month" else 12
    ranges = [
        f"(event_time >= TIMESTAMP '{day}' "
        f"AND event_time < TIMESTAMP '{day}' + INTERVAL {months} MONTH)"
        for day in sorted(buckets)
    ]
    return " OR ".join(ranges) or "false"


def months_of(leaf: Leaf, buckets: Collection[date]) -> tuple[date, ...]:
    """The months of some buckets, in order."""
    if bucket_unit(leaf) == "month":
        return tuple(sorted(buckets))
    return tuple(day.replace(month=month) for day in sorted(buckets) for month in range(1, 13))
