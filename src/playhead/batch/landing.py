"""A load's rows on their way into both tables of a topic, sorted and encoded once.

Nearly every row of a load is a row of the raw and of the clean table, whose columns are the same.
What cleaning keeps is written for the clean table, and its files are copied for the raw one, which
gets what cleaning drops in files of its own. The raw table is committed first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from playhead.batch.clean import Cleaning, CleanReport
from playhead.batch.newrows import Counted, LoadedRows
from playhead.contracts import contract
from playhead.errors import LakeError
from playhead.lake import Draft, Lake, clean_table, raw_table

__all__ = ["Landing", "prepare_landing"]


@dataclass(frozen=True)
class Landing:
    """Files of both tables, committed by neither.

    Attributes:
        raw: all rows of the load, to be published by the caller, before the clean table's.
    """

    raw: Draft
    _clean: Draft
    _cleaning: Cleaning
    _counted: Counted

    def publish_clean(self) -> CleanReport | None:
        """Commit the clean table; None if another process cleaned it first."""
        return self._cleaning.publish(self._clean, self._counted)


@contextmanager
def prepare_landing(
    lake: Lake, con: duckdb.DuckDBPyConnection, topic: str, loaded: LoadedRows, rows: int
) -> Iterator[Landing | None]:
    """Write a load's rows for both tables of a topic; files that nobody published go at the end.

    None where that cannot be done at once: the clean table is behind the raw one, or a row of it
    gives way to one of the load.

    Args:
        loaded: the rows, under the load id that comes next.
        rows: how many they are.

    Raises:
        LakeError: the rows cannot be written, or what was written is not all of them.
    """
    schema = contract(topic).schema
    raw_name, clean = raw_table(topic, schema).name, clean_table(topic, schema)
    clean.create_in(lake)
    cleaning = Cleaning(lake, con, topic, loaded=loaded, ahead=True)
    with lake.draft(raw_name) as raw, lake.draft(clean.name) as cleaned:
        if not (cleaning.is_next and raw.resembles(cleaned)):
            yield None
            return
        with cleaning.compared():
            if cleaning.replaces_rows:
                yield None
                return
            counted = cleaning.keep(cleaned)
            raw.copy(cleaned)
            raw.add(con, f"FROM {cleaning.dropped}")
            if raw.rows != rows:
                raise LakeError(
                    f"{raw_name}: {raw.rows} rows were written, and {rows} are to be loaded",
                    hint="Nothing of this file was loaded.",
                )
            yield Landing(raw, cleaned, cleaning, counted)
