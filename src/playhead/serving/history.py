"""The batch layer's side of a view that is followed: its groups, and its rows by key.

The groups above a table of batch states are the same for as long as the table's snapshot is. They
are computed once and kept in a file, so that an answer over years of history costs what came
since. Rows of the history are read only where something new has the same key.
"""

import logging
import os
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from playhead.batch.sqltext import literal
from playhead.engines.duckdb import ARROW_ROWS
from playhead.errors import StateError
from playhead.serving.sources import Source, merged_states, state_rows
from playhead.speed.blocks import decode, encode
from playhead.views.above import Above
from playhead.views.binder import quote

logger = logging.getLogger(__name__)

MOST_GROUPS = 1_000_000
"""A history with more groups is no summary: it is merged anew for each answer."""

_FORMAT = 1
_CRC_BYTES = 4
_WANTED, _ROWS, _OLD = "follow__wanted", "follow__rows", "follow__old"


class KeptGroups:
    """Groups of batch states in files of a folder, each made for one snapshot of one state.

    What cannot be written or read is computed again: nothing here is needed.

    Args:
        folder: made on first use; None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, state: str, snapshot: int) -> pa.Table | None:
        """The groups that were kept; None if there are none, or they are damaged."""
        if self._folder is None:
            return None
        path = self._folder / self._name(state, snapshot)
        try:
            content = path.read_bytes()
            crc = int.from_bytes(content[:_CRC_BYTES], "little")
            return decode(content[_CRC_BYTES:], crc, str(path))
        except FileNotFoundError:
            return None
        except (OSError, StateError) as error:
            logger.warning("%s is computed anew: %s", state, error)
            return None

    def put(self, state: str, snapshot: int, groups: pa.Table) -> None:
        """Keep the groups of a snapshot in the place of an older one's."""
        if self._folder is None:
            return
        body, crc = encode(groups)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / self._name(state, snapshot)
            written = path.with_suffix(f".{os.getpid()}.part")
            written.write_bytes(crc.to_bytes(_CRC_BYTES, "little") + body)
            written.replace(path)
            for other in self._folder.glob(f"{state}-*.groups"):
                if other != path:
                    other.unlink(missing_ok=True)
        except OSError as error:
            logger.debug("groups of %s are not kept: %s", state, error)

    def _name(self, state: str, snapshot: int) -> str:
        return f"{state}-{_FORMAT}-{snapshot}.groups"


def has_history(source: Source) -> bool:
    """Whether there are batch states, and all of them count: their groups are the same then."""
    return source.batch is not None and bool(source.batch.files) and source.within is None


class History:
    """A table of batch states at one snapshot.

    Args:
        source: has a history.
        kept: where the groups may be found.
    """

    def __init__(self, source: Source, above: Above, kept: KeptGroups) -> None:
        assert source.batch is not None  # noqa: S101 - `has_history` says so
        self._source, self._batch = replace(source, blocks=()), source.batch
        self._above, self._kept = above, kept

    def groups(self, connection: duckdb.DuckDBPyConnection) -> pa.Table | None:
        """The groups above all of its rows; None if they are too many."""
        name, snapshot = self._source.name, self._batch.id or 0
        if (known := self._kept.get(name, snapshot)) is not None:
            return known
        merged = merged_states(connection, self._source)
        groups = connection.execute(
            f"WITH {_ROWS} AS ({merged}) "
            f"FROM ({self._above.groups(of=_ROWS)}) LIMIT {MOST_GROUPS + 1}"
        ).to_arrow_table(ARROW_ROWS)
        if groups.num_rows > MOST_GROUPS:
            return None
        self._kept.put(name, snapshot, groups)
        return groups

    def rows_like(self, connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> pa.Table:
        """Its merged rows with the keys of some rows of the state, in any order."""
        leaf = self._source.leaf
        values = {column for columns, *_ in leaf.components for column in columns}
        keys = [column for column in leaf.state_columns if column not in values]
        connection.register(_WANTED, rows.select(keys))
        alike = " AND ".join(f"h.{quote(k)} IS NOT DISTINCT FROM w.{quote(k)}" for k in keys)
        near = " AND ".join(self._near(rows, key) for key in leaf.key_columns) or "true"
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {_OLD} AS SELECT h.* FROM "
            f"(FROM ({state_rows(leaf, self._batch)}) WHERE {near}) AS h "
            f"SEMI JOIN {_WANTED} AS w ON {alike}"
        )
        return (
            connection.execute(leaf.merge(source=_OLD)).to_arrow_table(ARROW_ROWS).cast(rows.schema)
        )

    def _near(self, rows: pa.Table, key: str) -> str:
        """SQL of a range that holds a key of all rows, by which files can be left out."""
        column = rows.column(key)
        if not len(column) or column.null_count or not _has_exact_text(column.type):
            return "true"
        ends = pc.min_max(column).as_py()
        kind = self._source.leaf.types[key]
        low, high = (f"CAST({literal(str(ends[end]))} AS {kind})" for end in ("min", "max"))
        return f"{quote(key)} BETWEEN {low} AND {high}"


def _has_exact_text(kind: pa.DataType) -> bool:
    """Whether values of a type are written the same by Python as DuckDB reads them."""
    plain = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_string, pa.types.is_date)
    return kind == pa.timestamp("us") or any(is_plain(kind) for is_plain in plain)
