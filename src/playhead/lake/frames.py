"""The lake's tables as Spark's DataFrames: exactly a snapshot, whatever is committed meanwhile."""

from typing import TYPE_CHECKING

from playhead.errors import LakeError
from playhead.lake.schema import Column
from playhead.lake.snapshot import Snapshot
from playhead.views.dialects import spark_type

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

__all__ = ["SnapshotFrames", "typed_columns"]

CATALOG = "playhead"
_FIELD_ID = "parquet.field.id"
_BY_FIELD_ID = "spark.sql.parquet.fieldId.read.enabled"


class SnapshotFrames:
    """Makes DataFrames of snapshots; they are read when somebody runs them.

    Tables of a shared lake are read through its catalog, at the snapshot's id: files are passed
    over by their statistics, and executors fetch them from the store. Files of a lake in a folder
    are checked here and then read by their paths, which executors have to reach.

    Args:
        session: one of `playhead.engines.spark.lake_session`.
    """

    def __init__(self, session: "SparkSession") -> None:
        self._session = session
        session.conf.set(_BY_FIELD_ID, "true")

    def frame(self, snapshot: Snapshot) -> "DataFrame":
        """The rows of a snapshot, with the columns and types that the lake gives them.

        Raises:
            LakeError: a file of a lake in a folder is missing, cut short or damaged.
        """
        if not snapshot.files or snapshot.id is None:
            return self._session.createDataFrame([], _schema(snapshot.columns))
        if "://" not in snapshot.place.root:
            read = self._session.read.schema(_schema(snapshot.columns))
            return read.parquet(*snapshot.paths())
        namespace, _, table = snapshot.name.partition(".")
        frame = self._session.sql(
            f"SELECT * FROM {CATALOG}.`{namespace}`.`{table}` VERSION AS OF {snapshot.id}"
        )
        return frame.select(*typed_columns(frame, snapshot.columns, snapshot.name))


def typed_columns(
    frame: "DataFrame", columns: tuple[Column, ...], table: str
) -> "list[SparkColumn]":
    """A table's columns of a DataFrame, in their order and types; NULL where one is lacking.

    Raises:
        LakeError: the DataFrame has a column that the table lacks.
    """
    from pyspark.sql import functions as f

    known = {name.lower() for name in frame.columns}
    if strays := known - {column.name.lower() for column in columns}:
        raise LakeError(f"{table}: rows have a column {', '.join(sorted(strays))} that it lacks")
    made = []
    for column in columns:
        value = f.col(_quoted(column.name)) if column.name.lower() in known else f.lit(None)
        made.append(value.cast(spark_type(column.type.duckdb)).alias(column.name))
    return made


def _schema(columns: tuple[Column, ...]) -> "StructType":
    from pyspark.sql.types import DataType, StructField, StructType

    return StructType(
        [
            StructField(
                c.name, DataType.fromDDL(spark_type(c.type.duckdb)), True, {_FIELD_ID: c.id}
            )
            for c in columns
        ]
    )


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"
