"""The tables of a workspace: their names, columns, partitions and order."""

from dataclasses import dataclass

import pyarrow as pa

from playhead.lake.lake import Lake
from playhead.lake.schema import Partition

QUALITY_REPORT = "quality.report"
QUALITY_QUARANTINE = "quality.quarantine"

EVENT_TIME = "event_time"

# What the log and the loader add to an event. Rows of a load have no epoch, rows of the log
# no load.
ORIGIN = pa.schema(
    [
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("ingest_time", pa.timestamp("us")),
        pa.field("epoch", pa.int64()),
        pa.field("load_id", pa.int64()),
    ]
)


@dataclass(frozen=True)
class TableSpec:
    """A table as it should be; `create_in` makes it so."""

    name: str
    schema: pa.Schema
    partition: Partition | None = None
    sort: tuple[str, ...] = ()

    def create_in(self, lake: Lake) -> None:
        """Create the table, or bring it up to this schema (see `Lake.create`)."""
        lake.create(self.name, self.schema, partition=self.partition, sort=self.sort)


def raw_name(topic: str) -> str:
    """The table of a topic's events as they came."""
    return f"raw.{topic}"


def clean_name(topic: str) -> str:
    """The table of a topic's events without duplicates and rows that break a rule."""
    return f"clean.{topic}"


def dimension_name(dimension: str) -> str:
    """The table of a dimension."""
    return f"dim.{dimension}"


def raw_table(topic: str, schema: pa.Schema) -> TableSpec:
    """Events as they came, by month of event time, in the order of the log.

    Args:
        schema: the contract's fields; all are optional here, for nothing may be refused.
    """
    return TableSpec(
        raw_name(topic),
        _events(schema),
        Partition(EVENT_TIME, "month"),
        ("partition", "offset"),
    )


def clean_table(topic: str, schema: pa.Schema) -> TableSpec:
    """Cleaned events, with the columns of the raw table, by month and in order of event time."""
    return TableSpec(
        clean_name(topic), _events(schema), Partition(EVENT_TIME, "month"), (EVENT_TIME,)
    )


def dimension_table(dimension: str, schema: pa.Schema) -> TableSpec:
    """A dimension, in one piece; `schema` as for `raw_table`."""
    return TableSpec(dimension_name(dimension), _optional(schema))


def _events(schema: pa.Schema) -> pa.Schema:
    return pa.schema([*_optional(schema), *ORIGIN])


def _optional(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(field.name, field.type) for field in schema])
