"""Dimensions as the speed layer holds them: whole tables in memory, with their versions."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from playhead.lake import Lake
from playhead.lake.tables import dimension_name

VERSION = "playhead.version"


@dataclass(frozen=True)
class DimensionTables:
    """Dimension tables of one moment.

    Attributes:
        tables: by name; a dimension that was never loaded is missing.
        versions: of the same moment, by name.
    """

    tables: dict[str, pa.Table]
    versions: dict[str, int]

    @property
    def label(self) -> str:
        """The versions as the text that states carry."""
        return json.dumps(self.versions, sort_keys=True)


def dimension_versions(lake: Lake, names: Iterable[str]) -> dict[str, int]:
    """Versions of the dimensions that have been loaded."""
    found = {}
    for name in names:
        if lake.exists(dimension_name(name)):
            properties = lake.properties(dimension_name(name))
            if VERSION in properties:
                found[name] = int(properties[VERSION])
    return found


def read_dimensions(
    lake: Lake, connection: duckdb.DuckDBPyConnection, names: Iterable[str]
) -> DimensionTables:
    """The dimensions as they are in the lake now, each with the version of the same snapshot."""
    tables, versions = {}, {}
    for name in sorted(names):
        if not lake.exists(dimension_name(name)):
            continue
        snapshot = lake.snapshot(dimension_name(name))
        if VERSION in snapshot.properties:
            tables[name] = connection.execute(f"FROM {snapshot.scan()}").to_arrow_table()
            versions[name] = int(snapshot.properties[VERSION])
    return DimensionTables(tables, versions)
