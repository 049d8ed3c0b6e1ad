"""One file's way into the lake, step by step, each step committed once.

Topic: stage, append to raw, append to clean, quarantine, report. Dimension: stage, replace,
quarantine, report. The report carries the mark that all steps before it are done.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Literal

import duckdb
import pyarrow as pa

from playhead import disk
from playhead.batch import quality
from playhead.batch.clean import CleanReport, clean_topic
from playhead.batch.dimensions import replace_dimension
from playhead.batch.landing import prepare_landing
from playhead.batch.newrows import LoadedRows
from playhead.batch.quality import Metric
from playhead.batch.readers import Progress
from playhead.batch.sources import Source
from playhead.batch.sqltext import identifier, literal
from playhead.batch.stage import DateRange, Staged, content_sql, stage
from playhead.clock import Clock
from playhead.contracts import DIMENSIONS, Contract
from playhead.errors import LakeConflictError, LoadError, PlayheadError
from playhead.lake import (
    QUALITY_QUARANTINE,
    QUALITY_REPORT,
    Lake,
    dimension_table,
    raw_table,
)

__all__ = ["QUARANTINE_SCHEMA", "Ingest", "TableLoad"]

logger = logging.getLogger(__name__)

Status = Literal["loaded", "already loaded", "missing", "failed"]

QUARANTINE_SCHEMA = pa.schema(
    [
        ("load_id", pa.int64()),
        ("table", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.string()),
        ("loaded_at", pa.timestamp("us")),
    ]
)
_ATTEMPTS = 10


@dataclass(frozen=True)
class TableLoad:
    """What became of one table's file.

    Every row is accounted for: `read == outside + quarantined + sum(dropped.values()) + written`
    (for a topic, as far as its clean table was up to date with the raw one before).

    Attributes:
        table: the topic or dimension.
        file: name of the file or folder; what was looked for if it is missing.
        load_id: counts the loads of this table; 0 if there was none.
        read: rows of the file.
        outside: rows outside the days asked for, left alone.
        quarantined: rows in `quality.quarantine`.
        dropped: rows that cleaning dropped, by rule.
        written: rows added to the clean table, or rows of the dimension.
        ignored: columns of the file that the contract does not have.
    """

    table: str
    file: str
    status: Status
    load_id: int = 0
    read: int = 0
    outside: int = 0
    quarantined: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    written: int = 0
    ignored: tuple[str, ...] = ()
    seconds: float = 0.0
    quality: tuple[Metric, ...] = ()
    error: PlayheadError | None = None


@dataclass(frozen=True)
class _Load:
    """One load of a topic, as the property `playhead.loads` of its raw table remembers it."""

    id: int
    file: str
    sha256: str
    since: str | None
    until: str | None
    rows: int
    at: str


@dataclass(frozen=True)
class Ingest:
    """Brings files of one folder into the lake; see `Loader` for the arguments."""

    lake: Lake
    con: duckdb.DuckDBPyConnection
    clock: Clock
    days: DateRange
    ignore_unknown: bool
    progress: Callable[[Progress], None] | None

    def load(self, contract: Contract, source: Source | None) -> TableLoad:
        """Load one table; what goes wrong is in the result, and the other tables go on."""
        if source is None:
            return TableLoad(contract.name, f"{contract.file}.*", "missing")
        started = self.clock.monotonic()
        done = TableLoad(contract.name, source.name, "failed")
        load = self._dimension if contract.kind == "dimension" else self._topic
        try:
            done = load(contract, source, done)
        except PlayheadError as error:
            done = replace(done, error=error)
        except (duckdb.Error, OSError) as error:
            reason = str(error).splitlines()[0]
            failed = LoadError(
                f"{source.name}: cannot be loaded: {reason}", hint=disk.advice(error)
            )
            done = replace(done, error=failed)
        logger.info("%s: %s", source.name, done.status)
        return replace(done, seconds=self.clock.monotonic() - started)

    def _topic(self, contract: Contract, source: Source, done: TableLoad) -> TableLoad:
        digest = source.sha256()
        raw = raw_table(contract.name, contract.schema)
        raw.create_in(self.lake)
        load = self._known_load(self.lake.properties(raw.name), digest)
        if load is not None and self._is_recorded(contract, load.id, digest):
            return replace(done, status="already loaded", load_id=load.id)
        cleaned = None
        with self._stage(contract, source, done) as (staged, done):
            if load is None:
                load, cleaned = self._append(contract, source, staged, digest)
            if cleaned is None:
                loaded = _loaded_rows(contract, staged, load)
                cleaned = clean_topic(self.lake, self.con, contract.name, loaded=loaded)
            done = replace(done, load_id=load.id, dropped=cleaned.dropped, written=cleaned.written)
            return self._record(contract, source, staged, digest, done)

    def _dimension(self, contract: Contract, source: Source, done: TableLoad) -> TableLoad:
        digest = source.sha256()
        table = dimension_table(contract.name, contract.schema)
        table.create_in(self.lake)
        current = self.lake.properties(table.name)
        load_id = int(current.get("playhead.load", 0))
        if current.get("playhead.sha256") != digest:
            load_id += 1
        elif self._is_recorded(contract, load_id, digest):
            return replace(done, status="already loaded", load_id=load_id)
        with self._stage(contract, source, done) as (staged, done):
            replaced = replace_dimension(
                self.lake,
                self.con,
                contract.name,
                contract.schema,
                _dimension_sql(contract, staged.sql),
                properties={"playhead.load": str(load_id), "playhead.sha256": digest},
            )
            dropped = self._dropped(contract, staged)
            done = replace(done, load_id=load_id, dropped=dropped, written=replaced.rows)
            return self._record(contract, source, staged, digest, done)

    @contextmanager
    def _stage(
        self, contract: Contract, source: Source, done: TableLoad
    ) -> Iterator[tuple[Staged, TableLoad]]:
        """Typed rows in the session, for as long as the block lasts, and what they are."""
        staged = stage(
            source,
            contract,
            self.con,
            days=self.days,
            ignore_unknown=self.ignore_unknown,
            progress=self.progress,
        )
        rows, faulty = self._row(f"SELECT count(*), count(_faults) FROM {staged.sql}")
        done = replace(
            done,
            status="loaded",
            read=staged.read,
            outside=staged.read - rows,
            quarantined=faulty,
            ignored=staged.unknown,
        )
        try:
            yield staged, done
        finally:
            staged.drop(self.con)

    def _known_load(self, properties: Mapping[str, str], digest: str) -> _Load | None:
        """The load that brought these bytes and days, if there was one."""
        for entry in _loads(properties):
            if (entry.sha256, entry.since, entry.until) == (digest, *self._days):
                return entry
        return None

    @property
    def _days(self) -> tuple[str | None, str | None]:
        since, until = self.days.since, self.days.until
        return (since.isoformat() if since else None, until.isoformat() if until else None)

    def _append(
        self, contract: Contract, source: Source, staged: Staged, digest: str
    ) -> tuple[_Load, CleanReport | None]:
        """Append the good rows to the raw table under the next load id, unless another process
        brings the same file first.

        Returns:
            the load with which they came, and what became of the clean table, if it is up to date.
        """
        raw = raw_table(contract.name, contract.schema).name
        (rows,) = self._row(f"SELECT count(*) FROM {staged.sql} WHERE _faults IS NULL")
        for _ in range(_ATTEMPTS):
            current = self.lake.properties(raw)
            known = self._known_load(current, digest)
            if known is not None:
                return known, None
            last = int(current.get("playhead.load", 0))
            now = self.clock.now().isoformat()
            load = _Load(last + 1, source.name, digest, *self._days, rows, now)
            loads = [asdict(entry) for entry in (*_loads(current), load)]
            properties = {"playhead.load": str(load.id), "playhead.loads": json.dumps(loads)}
            guard = partial(_is_last_load, last)
            loaded = _loaded_rows(contract, staged, load)
            with prepare_landing(self.lake, self.con, contract.name, loaded, rows) as landing:
                if landing is None:
                    written = self.lake.append(
                        raw, self.con, f"FROM {loaded.sql}", properties=properties, guard=guard
                    )
                else:
                    written = self.lake.publish(
                        raw, landing.raw, properties=properties, guard=guard
                    )
                if not written.skipped:
                    return load, None if landing is None else landing.publish_clean()
        raise LakeConflictError(
            f"{raw}: other loads kept committing first",
            hint="Nothing of this file was loaded. Try again when they are done.",
        )

    def _is_recorded(self, contract: Contract, load_id: int, digest: str) -> bool:
        """Whether the last step of this load was done."""
        if not self.lake.exists(QUALITY_REPORT):
            return False
        return _mark(contract, load_id, digest) in self.lake.properties(QUALITY_REPORT)

    def _record(
        self, contract: Contract, source: Source, staged: Staged, digest: str, done: TableLoad
    ) -> TableLoad:
        """Keep the faulty rows and the quality report, each once."""
        now = self.clock.now()
        mark = _mark(contract, done.load_id, digest)
        if done.quarantined:
            self.lake.create(QUALITY_QUARANTINE, QUARANTINE_SCHEMA)
            self.lake.append(
                QUALITY_QUARANTINE,
                self.con,
                _quarantine_sql(contract, staged.sql, done.load_id, now.isoformat(sep=" ")),
                properties={mark: "1"},
                guard=lambda properties: mark not in properties,
            )
        metrics = quality.measure(
            self.con,
            contract,
            staged.sql,
            file=source.name,
            dimensions=self._dimensions() if contract.kind == "topic" else {},
            repeated=staged.repeated,
            unknown=staged.unknown,
        )
        quality.keep(self.lake, self.con, metrics, load_id=done.load_id, at=now, mark=mark)
        return replace(done, quality=tuple(metrics))

    def _dimensions(self) -> dict[str, str]:
        """The dimensions that have been loaded, as relations."""
        tables = {name: dimension_table(name, c.schema).name for name, c in DIMENSIONS.items()}
        snapshots = {n: self.lake.snapshot(t) for n, t in tables.items() if self.lake.exists(t)}
        return {name: snapshot.scan() for name, snapshot in snapshots.items() if snapshot.rows}

    def _dropped(self, contract: Contract, staged: Staged) -> dict[str, int]:
        """How many of a dimension's good rows each rule of cleaning drops, in their order."""
        key = ", ".join(identifier(name) for name in contract.key)
        rows, distinct, keys = self._row(f"""
            SELECT count(*), count(DISTINCT {content_sql(contract)}), count(DISTINCT row({key}))
            FROM {staged.repeated} WHERE _faults IS NULL AND {_has_keys_sql(contract)}
        """)
        (keyless,) = self._row(f"""
            SELECT count(*) FILTER (NOT ({_has_keys_sql(contract)}))
            FROM {staged.sql} WHERE _faults IS NULL
        """)
        return {
            "null key": keyless,
            "duplicate row": rows - distinct,
            "duplicate key": distinct - keys,
        }

    def _row(self, query: str) -> tuple[int, ...]:
        (row,) = self.con.execute(query).fetchall()
        return tuple(int(value) for value in row)


def _loads(properties: Mapping[str, str]) -> list[_Load]:
    return [_Load(**entry) for entry in json.loads(properties.get("playhead.loads", "[]"))]


def _is_last_load(last: int, properties: Mapping[str, str]) -> bool:
    return int(properties.get("playhead.load", 0)) == last


def _mark(contract: Contract, load_id: int, digest: str) -> str:
    """The property by which quarantine and report know that they have a load already."""
    return f"playhead.load.{contract.name}.{load_id}.{digest[:16]}"


def _has_keys_sql(contract: Contract) -> str:
    return " AND ".join(f"{identifier(name)} IS NOT NULL" for name in contract.not_null)


def _loaded_rows(contract: Contract, staged: Staged, load: _Load) -> LoadedRows:
    rows, repeated = (
        f"({_raw_sql(contract, relation, load)})" for relation in (staged.sql, staged.repeated)
    )
    return LoadedRows(load.id, rows, repeated)


def _raw_sql(contract: Contract, staged: str, load: _Load) -> str:
    fields = ", ".join(identifier(name) for name in contract.schema.names)
    return f"""
        SELECT {fields}, -1 AS partition, _record AS "offset", TIMESTAMP '{load.at}' AS ingest_time,
            NULL::BIGINT AS epoch, {load.id}::BIGINT AS load_id
        FROM {staged} WHERE _faults IS NULL
    """


def _dimension_sql(contract: Contract, staged: str) -> str:
    """The good rows that have their keys; of several with one key, the last of the file."""
    fields = ", ".join(identifier(name) for name in contract.schema.names)
    key = ", ".join(identifier(name) for name in contract.key)
    return f"""
        SELECT {fields} FROM {staged} WHERE _faults IS NULL AND {_has_keys_sql(contract)}
        QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY _record DESC) = 1
    """


def _quarantine_sql(contract: Contract, staged: str, load_id: int, now: str) -> str:
    return f"""
        SELECT {load_id}::BIGINT AS load_id, {literal(contract.name)} AS "table", _file AS file,
            _line AS line,
            nullif(array_to_string(list_transform(_faults, f -> f."column"), ', '), '') AS "column",
            array_to_string(list_transform(_faults, f -> f.reason), '; ') AS reason,
            _raw AS raw, TIMESTAMP '{now}' AS loaded_at
        FROM {staged} WHERE _faults IS NOT NULL
    """
