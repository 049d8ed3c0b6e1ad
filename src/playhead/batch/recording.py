"""Recorded events made ready for a replay: typed, checked, in order of event time, on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import duckdb

from playhead.batch.ingest import QUARANTINE_SCHEMA
from playhead.batch.readers import Progress
from playhead.batch.sources import Source
from playhead.batch.sqltext import identifier, literal
from playhead.batch.stage import DateRange, stage
from playhead.contracts import Contract
from playhead.errors import SettingError
from playhead.lake import QUALITY_QUARANTINE, Lake, Snapshot

__all__ = ["Period", "Recorder", "Recording", "RowCounts"]


@dataclass(frozen=True)
class Period:
    """Event times `[since, until)`, UTC without a zone; None leaves that side open.

    Raises:
        SettingError: it ends before it starts.
    """

    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.since and self.until and self.since > self.until:
            raise SettingError(
                f"replay: from {self.since} to {self.until} is no period",
                hint="Give the earlier time first.",
            )

    @classmethod
    def of(cls, since: date | datetime | None, until: date | datetime | None) -> "Period":
        """From dates, which mean their midnight, or times; those with a zone become UTC."""
        return cls(_moment(since), _moment(until))

    @property
    def days(self) -> DateRange:
        """The days that it touches."""
        since = self.since.date() if self.since else None
        until = (self.until - timedelta.resolution).date() + timedelta(1) if self.until else None
        return DateRange(since, until)

    def sql(self, column: str) -> str:
        """A condition on a TIMESTAMP expression; NULL where that is NULL and a side is given."""
        conditions = ["true"]
        if self.since is not None:
            conditions.append(f"{column} >= TIMESTAMP '{self.since}'")
        if self.until is not None:
            conditions.append(f"{column} < TIMESTAMP '{self.until}'")
        return " AND ".join(conditions)


@dataclass(frozen=True)
class RowCounts:
    """What a topic's rows are: `read == outside + quarantined + refused + events`.

    Attributes:
        read: rows of the source.
        outside: rows outside the period, left alone.
        quarantined: rows that violate the contract, in the quarantine table.
        refused: rows without a key, which the event log has to have; those of files are in the
            quarantine table, too.
        events: rows to send.
    """

    read: int
    outside: int
    quarantined: int
    refused: int
    events: int


@dataclass(frozen=True)
class Recording:
    """One topic's events, ready to be sent.

    Attributes:
        origin: the file, folder or lake table that they come from.
        path: a Parquet file of the contract's fields, ascending in event time.
    """

    topic: str
    origin: str
    path: Path
    rows: RowCounts


class Recorder:
    """Makes recordings; what it reads is sorted by DuckDB, which spills to disk when it must.

    Args:
        con: a session that nobody else uses meanwhile.
        scratch: where the recordings go.
        period: which events are wanted.
    """

    def __init__(
        self,
        lake: Lake,
        con: duckdb.DuckDBPyConnection,
        scratch: Path,
        period: Period,
        *,
        now: datetime,
    ) -> None:
        self._lake = lake
        self._con = con
        self._scratch = scratch
        self._period = period
        self._now = now

    def from_files(
        self,
        contract: Contract,
        source: Source,
        *,
        ignore_unknown: bool,
        progress: Callable[[Progress], None] | None,
    ) -> Recording:
        """Rows of files, typed and checked as a load does it.

        Rows that violate the contract or lack a key go to the quarantine table, once however
        often the same file is replayed for the same period.

        Raises:
            LoadError: see `stage`.
        """
        staged = stage(
            source,
            contract,
            self._con,
            days=self._period.days,
            ignore_unknown=ignore_unknown,
            progress=progress,
        )
        within = f"coalesce({self._period.sql('event_time')}, true)"
        good = f"_faults IS NULL AND NOT {_keyless_sql(contract)}"
        rows, faulty, keyless = self._counts(f"""
            SELECT count(*), count(_faults), count(*) FILTER (_faults IS NULL AND NOT ({good}))
            FROM {staged.sql} WHERE {within}
        """)
        if faulty + keyless:
            bad = f"{staged.sql} WHERE {within} AND NOT ({good})"
            self._quarantine(contract, source, bad)
        path = self._sort(contract, f"{staged.sql} WHERE {within} AND {good}", "_record")
        staged.drop(self._con)
        counts = RowCounts(
            read=staged.read,
            outside=staged.read - rows,
            quarantined=faulty,
            refused=keyless,
            events=rows - faulty - keyless,
        )
        return Recording(contract.name, source.name, path, counts)

    def from_lake(self, contract: Contract, snapshot: Snapshot) -> Recording:
        """Rows of a topic's raw table, as they once came, duplicates included."""
        days = self._period.days
        wanted = [
            month
            for month in snapshot.partitions
            if (days.since is None or month >= days.since.replace(day=1))
            and (days.until is None or month < days.until)
        ]
        scan = snapshot.scan(partitions=wanted)
        within = self._period.sql("event_time")
        keyless = _keyless_sql(contract)
        rows, refused = self._counts(
            f"SELECT count(*), count(*) FILTER ({keyless}) FROM {scan} WHERE {within}"
        )
        path = self._sort(
            contract,
            f"{scan} WHERE {within} AND NOT {keyless}",
            'load_id, epoch, partition, "offset"',
        )
        counts = RowCounts(
            read=snapshot.rows,
            outside=snapshot.rows - rows,
            quarantined=0,
            refused=refused,
            events=rows - refused,
        )
        return Recording(contract.name, snapshot.name, path, counts)

    def _sort(self, contract: Contract, relation: str, ties: str) -> Path:
        """Write the relation's events in order of event time; on equal times, in that of `ties`."""
        path = self._scratch / f"{contract.name}.sorted.parquet"
        fields = ", ".join(identifier(name) for name in contract.schema.names)
        self._con.execute(f"""
            COPY (SELECT {fields} FROM {relation} ORDER BY event_time, {ties})
            TO {literal(str(path))} (FORMAT parquet, COMPRESSION lz4)
        """)
        return path

    def _quarantine(self, contract: Contract, source: Source, bad: str) -> None:
        mark = f"playhead.replay.{contract.name}.{source.sha256()[:16]}"
        if self._period != Period():
            mark += f".{self._period.since}.{self._period.until}".replace(" ", "T")
        self._lake.create(QUALITY_QUARANTINE, QUARANTINE_SCHEMA)
        self._lake.append(
            QUALITY_QUARANTINE,
            self._con,
            _quarantine_sql(contract, bad, self._now),
            properties={mark: "1"},
            guard=lambda properties: mark not in properties,
        )

    def _counts(self, query: str) -> tuple[int, ...]:
        (row,) = self._con.execute(query).fetchall()
        return tuple(int(value) for value in row)


def _moment(value: date | datetime | None) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        return datetime.combine(value, time.min)
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def _required(contract: Contract) -> list[str]:
    """Fields that the event log or cleaning insists on."""
    return [f.name for f in contract.fields if f.required or f.name in contract.not_null]


def _keyless_sql(contract: Contract) -> str:
    return f"({' OR '.join(f'{identifier(name)} IS NULL' for name in _required(contract))})"


def _quarantine_sql(contract: Contract, bad: str, now: datetime) -> str:
    """Faulty and keyless rows in the form of the quarantine table; they belong to no load."""
    required = _required(contract)
    missing = ", ".join(
        f"CASE WHEN {identifier(name)} IS NULL THEN {literal(name)} END" for name in required
    )
    values = ", ".join(f"{literal(n)}: {identifier(n)}" for n in contract.schema.names)
    return f"""
        SELECT NULL::BIGINT AS load_id, {literal(contract.name)} AS "table", _file AS file,
            _line AS line, nullif(array_to_string(columns, ', '), '') AS "column",
            array_to_string(reasons, '; ') AS reason, raw, TIMESTAMP '{now}' AS loaded_at
        FROM (
            SELECT _file, _line, coalesce(_raw, to_json({{{values}}})::VARCHAR) AS raw,
                CASE WHEN _faults IS NULL THEN list_filter([{missing}], n -> n IS NOT NULL)
                    ELSE list_transform(_faults, f -> f."column") END AS columns,
                CASE WHEN _faults IS NULL
                    THEN list_transform(list_filter([{missing}], n -> n IS NOT NULL),
                        n -> concat(n, ' is empty, and an event needs it'))
                    ELSE list_transform(_faults, f -> f.reason) END AS reasons
            FROM {bad}
        )
    """
