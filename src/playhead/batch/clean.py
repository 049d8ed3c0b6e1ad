"""Cleans a topic: rows without a key go, and of several rows of one event the earliest stays."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date

import duckdb

from playhead.batch.sqltext import identifier
from playhead.contracts import contract
from playhead.errors import LakeConflictError
from playhead.lake import Draft, Lake, Written, clean_table, raw_table

__all__ = [
    "RANK",
    "CleanReport",
    "Cleaning",
    "LoadedRows",
    "clean_topic",
    "dedupe_sql",
    "rewritten_days",
]

logger = logging.getLogger(__name__)

RANK = ("ingest_time", "load_id", "epoch", "partition", "offset")
"""Which of several rows of one event stays: the lowest, column by column, NULL after all else."""

REWRITTEN = "playhead.rewritten"
"""Property of a clean table: by day, the [epoch, load] of the last cleaning that took rows away."""

_ATTEMPTS = 10
_LAST = {"ingest_time": "TIMESTAMP 'infinity'"}
_LAST_NUMBER = "9223372036854775807"
_REPEATS, _MET = "cleaning_repeats", "cleaning_met"
_LOST = f"(FROM {_MET} WHERE NOT wins)"
_PLACE = ("load_id", "partition", "offset")


@dataclass(frozen=True)
class CleanReport:
    """What one cleaning did with the rows that it found in the raw table.

    Every row is accounted for: `rows + replaced == null_keys + duplicate_rows + duplicate_ids +
    written`, where `replaced` are rows of the clean table that gave way to an earlier one that
    came later (they count among the duplicates).
    """

    topic: str
    rows: int = 0
    null_keys: int = 0
    duplicate_rows: int = 0
    duplicate_ids: int = 0
    written: int = 0
    replaced: int = 0

    @property
    def dropped(self) -> dict[str, int]:
        """Rows dropped, by the name of the rule."""
        return {
            "null key": self.null_keys,
            "duplicate row": self.duplicate_rows,
            "duplicate id": self.duplicate_ids,
        }


@dataclass(frozen=True)
class _Covered:
    """The last epoch and the last load that a table holds; -1 and 0 stand for none."""

    epoch: int
    load: int

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> "_Covered":
        return cls(
            int(properties.get("playhead.epoch", -1)), int(properties.get("playhead.load", 0))
        )

    def properties(self) -> dict[str, str]:
        return {"playhead.epoch": str(self.epoch), "playhead.load": str(self.load)}


def dedupe_sql(relation: str) -> str:
    """A query: the rows of `relation` less repeats of an `event_id`; the lowest by `RANK` stays.

    Only the repeats are held in memory, not the rows.

    Args:
        relation: stands in a FROM clause, has `event_id` and the columns of `RANK`, and may be
            read several times. `load_id`, `partition` and `offset` together tell rows apart.
    """
    return _without(relation, f"({_repeats_sql(relation)})")


@dataclass(frozen=True)
class LoadedRows:
    """The raw rows of one load, where they are cheaper to read than in the raw table.

    Attributes:
        sql: stands in a FROM clause and may be read several times.
        repeated: the same of those rows, at least, whose event has several of them.
    """

    load_id: int
    sql: str
    repeated: str


def rewritten_days(properties: Mapping[str, str], *, epoch: int, load: int) -> set[date]:
    """Days of a clean table that lost a row to cleaning epochs after `epoch` or loads after `load`.

    The row's event is there, on its own day; the old day has no new row that would tell.
    """
    written = json.loads(properties.get(REWRITTEN, "{}"))
    return {
        date.fromisoformat(day) for day, (e, l_id) in written.items() if e > epoch or l_id > load
    }


def clean_topic(
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    topic: str,
    *,
    full: bool = False,
    loaded: LoadedRows | None = None,
) -> CleanReport:
    """Bring `clean.<topic>` up to date with `raw.<topic>`, in one snapshot that says how far.

    Only rows of epochs and loads that the clean table does not cover yet are read; with `full`,
    the whole table is made anew. Safe to run twice at once: one of the two starts over.

    Args:
        loaded: taken instead of the raw table if that load is all there is to clean.

    Raises:
        LakeConflictError: other cleaners kept committing first.
    """
    fields = contract(topic).schema
    if not lake.exists(raw_table(topic, fields).name):
        return CleanReport(topic)
    clean_table(topic, fields).create_in(lake)
    for _ in range(_ATTEMPTS):
        report = Cleaning(lake, con, topic, full=full, loaded=loaded).run()
        if report is not None:
            logger.info("cleaned %s", report)
            return report
    raise LakeConflictError(
        f"{clean_table(topic, fields).name}: other processes kept cleaning it first",
        hint="Nothing is lost. Try again when they are done.",
    )


class Cleaning:
    """One attempt, on one snapshot of the raw and one of the clean table.

    Args:
        ahead: the rows of `loaded` are not in the raw table yet, but the next to come there.
    """

    def __init__(
        self,
        lake: Lake,
        con: duckdb.DuckDBPyConnection,
        topic: str,
        *,
        full: bool = False,
        loaded: LoadedRows | None = None,
        ahead: bool = False,
    ) -> None:
        self._lake = lake
        self._con = con
        self._contract = contract(topic)
        self._raw = lake.snapshot(raw_table(topic, self._contract.schema).name)
        self._clean = lake.snapshot(clean_table(topic, self._contract.schema).name)
        self._target = _Covered.of(self._raw.properties)
        self._is_next = loaded is not None and self._target.load == loaded.load_id - 1
        if ahead and loaded is not None:
            self._target = replace(self._target, load=loaded.load_id)
        self._covered = _Covered(-1, 0) if full else _Covered.of(self._clean.properties)
        self._full = full
        self._loaded = None
        if loaded is not None and self._target.load == loaded.load_id:
            before = replace(self._target, load=loaded.load_id - 1)
            self._loaded = loaded if self._covered == before else None

    def run(self) -> CleanReport | None:
        """Clean and commit; None if another cleaner committed first."""
        if self._covered == self._target and not self._full:
            return CleanReport(self._contract.name)
        with self.compared():
            return None if self._write().skipped else self._count()

    @contextmanager
    def compared(self) -> Iterator[None]:
        """Look for repeats among the new rows and in the clean table; forget them at the end."""
        try:
            self._make(_REPEATS, _repeats_sql(self._keyed, self._repeated))
            self._make(_MET, self._met_sql())
            yield
        finally:
            for name in (_REPEATS, _MET):
                self._con.execute(f"DROP TABLE IF EXISTS {name}")

    @property
    def is_next(self) -> bool:
        """Whether the loaded rows, still on their way, are all that there is to clean."""
        return self._is_next and self._loaded is not None

    @property
    def replaces_rows(self) -> bool:
        """Whether rows of the clean table give way; to be asked while `compared`."""
        return self._one(f"SELECT count(*) FROM {_MET} WHERE wins")[0] > 0

    @property
    def survivors(self) -> str:
        """The rows to add: new, with a key, first of their event, and not beaten by an old one."""
        return f"({_without(f'({_without(self._keyed, _REPEATS)})', _LOST)})"

    @property
    def dropped(self) -> str:
        """The new rows that are not among the `survivors`."""
        places = ", ".join(map(identifier, _PLACE))
        gone = f"(SELECT {places} FROM {_REPEATS} UNION ALL SELECT {places} FROM {_LOST})"
        return (
            f"(FROM {self._new} WHERE {self._keyless} "
            f"UNION ALL SELECT r.* FROM {self._keyed} AS r SEMI JOIN {gone} AS gone "
            f"ON {_same_place_sql()})"
        )

    def publish(self, draft: Draft) -> CleanReport | None:
        """Commit the survivors from a draft of the clean table; None if another was first."""
        written = self._lake.publish(
            self._clean.name, draft, properties=self._properties(), guard=self._guard()
        )
        return None if written.skipped else self._count()

    def _make(self, name: str, query: str) -> None:
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")

    @property
    def _new(self) -> str:
        """The rows that the clean table does not cover.

        Those of loads and those of epochs apart: statistics then rule out whole files of each.
        """
        if self._loaded is not None:
            return self._loaded.sql
        # Of files elsewhere, those that hold covered rows alone are not even fetched.
        raw = self._raw.beyond(epoch=self._covered.epoch, load_id=self._covered.load)
        rows = raw.scan()
        loaded = f"load_id > {self._covered.load} AND load_id <= {self._target.load}"
        sealed = f"epoch > {self._covered.epoch} AND epoch <= {self._target.epoch}"
        return (
            f"(FROM {rows} WHERE {loaded} UNION ALL "
            f"FROM {rows} WHERE {sealed} AND NOT coalesce({loaded}, false))"
        )

    @property
    def _repeated(self) -> str | None:
        """A relation that has all new rows of repeated events, if that is known."""
        if self._loaded is None:
            return None
        return f"(FROM {self._loaded.repeated} WHERE NOT ({self._keyless}))"

    @property
    def _keyed(self) -> str:
        """Those of the new rows that have their keys."""
        return f"(FROM {self._new} WHERE NOT ({self._keyless}))"

    @property
    def _keyless(self) -> str:
        return " OR ".join(f"{identifier(name)} IS NULL" for name in self._contract.not_null)

    def _content(self, relation: str) -> str:
        """A 64-bit hash of the contract's fields: it only tells two sorts of repeats apart."""
        return f"hash({_columns(relation, tuple(self._contract.schema.names))})"

    def _met_sql(self) -> str:
        """New rows whose event the clean table has already, each with that row's place.

        Usually the older row stays; a new one `wins` if its rank is lower, as when a sealed
        epoch brings later what a load has brought, too.
        """
        columns = ("event_id", "event_time", *RANK)
        narrow = f"(SELECT {_columns('r', ('event_id', *RANK))} FROM {self._keyed} AS r)"
        firsts = f"({_without(narrow, _REPEATS)})"
        places = ", ".join(f"old.{identifier(c)} AS {identifier(f'old_{c}')}" for c in _PLACE)
        existing = f"{self._clean.scan(columns=columns)} AS old"
        return f"""
            SELECT new.event_id, {_columns("new", _PLACE)}, {places},
                {_rank_sql("new")} < {_rank_sql("old")} AS wins, old.event_time::DATE AS old_day
            FROM {firsts} AS new JOIN {existing} USING (event_id)
            WHERE {"false" if self._full or not self._clean.rows else "true"}
        """

    @property
    def _displaced(self) -> str:
        """The places of rows of the clean table that give way."""
        places = ", ".join(f"{identifier(f'old_{c}')} AS {identifier(c)}" for c in _PLACE)
        return f"(SELECT {places} FROM {_MET} WHERE wins)"

    def _write(self) -> Written:
        """Append, unless older rows give way: then the months that change are written anew."""
        properties, guard = self._properties(), self._guard()
        query, months = f"FROM {self.survivors}", self._months_to_rewrite()
        if not months and not self._full:
            return self._lake.append(
                self._clean.name, self._con, query, properties=properties, guard=guard
            )
        if months:
            stays = _without(self._clean.scan(partitions=months), self._displaced)
            query = f"{query} UNION ALL BY NAME ({stays})"
        return self._lake.overwrite(
            self._clean.name,
            self._con,
            query,
            partitions=months or None,
            properties=properties,
            guard=guard,
        )

    @property
    def _run(self) -> int:
        """How often the clean table was written before."""
        return int(self._clean.properties.get("playhead.cleaned", 0))

    def _properties(self) -> dict[str, str]:
        return {
            **self._target.properties(),
            "playhead.cleaned": str(self._run + 1),
            REWRITTEN: self._rewritten(),
        }

    def _guard(self) -> Callable[[Mapping[str, str]], bool]:
        return lambda current: int(current.get("playhead.cleaned", 0)) == self._run

    def _months_to_rewrite(self) -> list[date]:
        """The months of all rows that come or go; empty if no row of the clean table gives way."""
        if not self.replaces_rows:
            return []
        rows = self._con.execute(f"""
            SELECT date_trunc('month', old_day)::DATE FROM {_MET} WHERE wins
            UNION SELECT date_trunc('month', event_time)::DATE FROM {self.survivors}
        """).fetchall()
        return sorted(month for (month,) in rows)

    def _rewritten(self) -> str:
        rows = self._con.execute(f"SELECT DISTINCT old_day FROM {_MET} WHERE wins").fetchall()
        known = json.loads(self._clean.properties.get(REWRITTEN, "{}"))
        known |= {str(day): [self._target.epoch, self._target.load] for (day,) in rows}
        return json.dumps(known, sort_keys=True)

    def _count(self) -> CleanReport:
        rows, null_keys = self._one(
            f"SELECT count(*), count(*) FILTER ({self._keyless}) FROM {self._new}"
        )
        (repeats,) = self._one(f"SELECT count(*) FROM {_REPEATS}")
        lost, replaced = self._one(
            f"SELECT count(*) FILTER (NOT wins), count(*) FILTER (wins) FROM {_MET}"
        )
        beaten = repeats + lost + replaced
        same = self._count_same_content() if beaten else 0
        return CleanReport(
            self._contract.name,
            rows=rows,
            null_keys=null_keys,
            duplicate_rows=same,
            duplicate_ids=beaten - same,
            written=rows - null_keys - repeats - lost,
            replaced=replaced,
        )

    def _count_same_content(self) -> int:
        """How many of the beaten rows equal the row that stays, field by field."""
        months = self._con.execute(
            f"SELECT DISTINCT date_trunc('month', old_day)::DATE FROM {_MET}"
        ).fetchall()
        existing = self._clean.scan(partitions=[month for (month,) in months])
        columns = ("event_id", *RANK)
        new = self._keyed if months or self._repeated is None else self._repeated
        (same,) = self._one(f"""
            WITH every AS (
                SELECT {_columns("n", columns)}, {self._content("n")} AS content
                FROM {new} AS n
                SEMI JOIN (SELECT event_id FROM {_REPEATS} UNION SELECT event_id FROM {_MET})
                    USING (event_id)
                UNION ALL
                SELECT {_columns("o", columns)}, {self._content("o")} AS content
                FROM {existing} AS o SEMI JOIN (SELECT event_id FROM {_MET}) USING (event_id)
            )
            SELECT count(*) FILTER (place > 1 AND content = best) FROM (
                SELECT content, first_value(content) OVER by_rank AS best,
                    row_number() OVER by_rank AS place
                FROM every WINDOW by_rank AS (PARTITION BY event_id ORDER BY {_order_sql()})
            )
        """)
        return same

    def _one(self, query: str) -> tuple[int, ...]:
        row = self._con.execute(query).fetchone()
        assert row is not None  # noqa: S101
        return tuple(int(value) for value in row)


def _columns(relation: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"{relation}.{identifier(name)}" for name in names)


def _order_sql() -> str:
    return ", ".join(f"{identifier(name)} NULLS LAST" for name in RANK)


def _rank_sql(relation: str) -> str:
    """The rank as one comparable value."""
    parts = (
        f"coalesce({relation}.{identifier(name)}, {_LAST.get(name, _LAST_NUMBER)})" for name in RANK
    )
    return f"row({', '.join(parts)})"


def _repeats_sql(relation: str, repeated: str | None = None) -> str:
    """The event id and place of every row of `relation` that an earlier row of it beats.

    Rows are compared where a hash of the id repeats: hashes take a fraction of the ids' memory.

    Args:
        repeated: those rows of the relation, at least, if they are known.
    """
    narrow = f"SELECT {_columns('r', ('event_id', *RANK))} FROM {repeated or relation} AS r"
    if repeated is None:
        several = f"SELECT hash(event_id) AS h FROM {relation} AS r GROUP BY h HAVING count(*) > 1"
        narrow = f"SELECT * FROM ({narrow}) AS n SEMI JOIN ({several}) ON hash(n.event_id) = h"
    return f"""
        SELECT event_id, {", ".join(map(identifier, _PLACE))} FROM ({narrow})
        QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY {_order_sql()}) > 1
    """


def _without(relation: str, places: str) -> str:
    """The rows of `relation` whose place is not among `places`."""
    return f"SELECT r.* FROM {relation} AS r ANTI JOIN {places} AS gone ON {_same_place_sql()}"


def _same_place_sql() -> str:
    return " AND ".join(
        f"r.{identifier(name)} IS NOT DISTINCT FROM gone.{identifier(name)}" for name in _PLACE
    )
