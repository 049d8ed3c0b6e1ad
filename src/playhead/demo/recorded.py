"""The data set that a demo replays: which files there are, and where its last tenth begins."""

from datetime import date
from pathlib import Path

from playhead.batch.readers import open_rows
from playhead.batch.sources import Source, find_sources
from playhead.batch.sqltext import identifier
from playhead.batch.values import date_field, text_name, value_sql
from playhead.contracts import FILES, TOPICS
from playhead.engines import connect
from playhead.errors import LoadError

__all__ = ["check_data", "last_tenth", "recorded_files"]

_SESSIONS = "playback"
_REPLAYED = 0.1


def recorded_files(folder: Path) -> dict[str, Source]:
    """The files of a data set that a folder holds, by table."""
    return find_sources(folder, FILES)


def check_data(folder: Path) -> None:
    """Refuse a folder without sessions before anything is made or deleted.

    Raises:
        LoadError: it has none.
    """
    sessions = TOPICS[_SESSIONS].file
    if sessions not in recorded_files(folder):
        raise LoadError(
            f"{folder} holds no {sessions}",
            hint="The demo replays sessions: give a folder with that file, or none at all.",
        )


def last_tenth(folder: Path) -> date:
    """The day from which on at most about a tenth of the sessions happened.

    Raises:
        LoadError: no session has a date.
    """
    contract = TOPICS[_SESSIONS]
    day = date_field(contract)
    assert day is not None  # noqa: S101 - every topic has one
    source = recorded_files(folder)[str(contract.file)]
    with connect() as con, open_rows(source, contract, con, ignore_unknown=True) as rows:
        texts = f"SELECT {identifier(day.source or '')} AS {text_name(day.source or '')} FROM "
        found = con.execute(
            f"SELECT quantile_disc(day, {1 - _REPLAYED}) FROM (SELECT {value_sql(day)} AS day "
            f"FROM ({texts} {rows.sql}))"
        ).fetchone()
    if not found or found[0] is None:
        raise LoadError(
            f"{source.name}: no session has a date", hint="The demo needs sessions to replay."
        )
    since: date = found[0]
    return since
