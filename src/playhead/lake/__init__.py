"""Iceberg tables, on disk or in an object store: the truth that all else can be rebuilt from."""

from playhead.lake.draft import Draft
from playhead.lake.lake import Guard, Lake, SharedLake
from playhead.lake.schema import Partition
from playhead.lake.snapshot import LakeFile, Snapshot, Written
from playhead.lake.tables import (
    QUALITY_QUARANTINE,
    QUALITY_REPORT,
    TableSpec,
    clean_table,
    dimension_table,
    raw_table,
)

__all__ = [
    "QUALITY_QUARANTINE",
    "QUALITY_REPORT",
    "Draft",
    "Guard",
    "Lake",
    "LakeFile",
    "Partition",
    "SharedLake",
    "Snapshot",
    "TableSpec",
    "Written",
    "clean_table",
    "dimension_table",
    "raw_table",
]
