"""Cleans a topic: rows without a key go, and of several rows of one event the earliest stays."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

import duckdb

from playhead.batch.sqltext import identifier
from playhead.contracts import contract
from playhead.errors import LakeConflictError
from playhead.lake import Lake, Written, clean_table, raw_table

__all__ = ["RANK", "CleanReport", "clean_topic", "dedupe_sql"]

logger = logging.getLogger(__name__)

RANK = ("ingest_time", "load_id", "epoch", "partition", "offset")
"""Which of several rows of one event stays: the lowest, column by column, NULL after all else."""

_ATTEMPTS = 10
_LAST = {"ingest_time": "TIMESTAMP 'infinity'"}
_LAST_NUMBER = "9223372036854775807"
_REPEATS, _MET = "cleaning_repeats", "cleaning_met"


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


def clean_topic(
    lake: Lake, con: duckdb.DuckDBPyConnection, topic: str, *, full: bool = False
) -> CleanReport:
    """Bring `clean.<topic>` up to date with `raw.<topic>`, in one snapshot that says how far.

    Only rows of epochs and loads that the clean table does not cover yet are read; with `full`,
    the whole table is made anew. Safe to run twice at once: one of the two starts over.

    Raises:
        LakeConflictError: other cleaners kept committing first.
    """
    fields = contract(topic).schema
    if not lake.exists(raw_table(topic, fields).name):
        return CleanReport(topic)
    clean_table(topic, fields).create_in(lake)
    for _ in range(_ATTEMPTS):
        report = _Cleaning(lake, con, topic, full=full).run()
        if report is not None:
            logger.info("cleaned %s", report)
            return report
    raise LakeConflictError(
        f"{clean_table(topic, fields).name}: other processes kept cleaning it first",
        hint="Nothing is lost. Try again when they are done.",
    )


class _Cleaning:
    """One attempt, on one snapshot of the raw and one of the clean table."""

    def __init__(
        self, lake: Lake, con: duckdb.DuckDBPyConnection, topic: str, *, full: bool
    ) -> None:
        self._lake = lake
        self._con = con
        self._contract = contract(topic)
        self._raw = lake.snapshot(raw_table(topic, self._contract.schema).name)
        self._clean = lake.snapshot(clean_table(topic, self._contract.schema).name)
        self._target = _Covered.of(self._raw.properties)
        self._covered = _Covered(-1, 0) if full else _Covered.of(self._clean.properties)
        self._full = full

    def run(self) -> CleanReport | None:
        """Clean and commit; None if another cleaner committed first."""
        report = CleanReport(self._contract.name)
        if self._covered == self._target and not self._full:
            return report
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE {_REPEATS} AS {_repeats_sql(self._keyed)}")
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE {_MET} AS {self._met_sql()}")
        try:
            written = self._write()
            if written.skipped:
                return None
            return self._count(report, written)
        finally:
            self._con.execute(f"DROP TABLE {_REPEATS}; DROP TABLE {_MET}")

    @property
    def _new(self) -> str:
        """Rows of the raw table that the clean one does not cover."""
        return f"""(
            SELECT * FROM {self._raw.scan()}
            WHERE (load_id > {self._covered.load} AND load_id <= {self._target.load})
                OR (epoch > {self._covered.epoch} AND epoch <= {self._target.epoch})
        )"""

    @property
    def _keyless_sql(self) -> str:
        return " OR ".join(f"{identifier(name)} IS NULL" for name in self._contract.not_null)

    @property
    def _keyed(self) -> str:
        return f"(SELECT * FROM {self._new} WHERE NOT ({self._keyless_sql}))"

    @property
    def _existing(self) -> str:
        """The rows of the clean table; a full cleaning starts from none."""
        scan = self._clean.scan()
        return f"(SELECT * FROM {scan} WHERE false)" if self._full else scan

    @property
    def _firsts(self) -> str:
        """The earliest new row of every event."""
        return f"({_without(self._keyed, _REPEATS)})"

    def _met_sql(self) -> str:
        """New rows whose event the clean table has already, each with that row's place.

        Usually the older row stays; a new one `wins` if its rank is lower, as when a sealed
        epoch brings what a load brought, too, but later.
        """
        rank, old_rank = _rank_sql("new"), _rank_sql("old")
        return f"""
            SELECT new.event_id, {_columns("new", _PLACE)}, {rank} < {old_rank} AS wins,
                {", ".join(f"old.{identifier(c)} AS {identifier(f'old_{c}')}" for c in _PLACE)},
                old.event_time::DATE AS old_day
            FROM (SELECT {_columns("r", ("event_id", *RANK))} FROM {self._firsts} AS r) AS new
            JOIN (SELECT {_columns("c", ("event_id", "event_time", *RANK))}
                  FROM {self._existing} AS c) AS old USING (event_id)
        """

    @property
    def _survivors(self) -> str:
        lost = f"(SELECT * FROM {_MET} WHERE NOT wins)"
        return f"({_without(self._firsts, lost)})"

    @property
    def _displaced(self) -> str:
        """Rows of the clean table that give way."""
        places = ", ".join(f"{identifier(f'old_{c}')} AS {identifier(c)}" for c in _PLACE)
        return f"(SELECT event_id, {places} FROM {_MET} WHERE wins)"

    def _write(self) -> Written:
        """Append, unless older rows give way: then the days that change are written anew."""
        run = int(self._clean.properties.get("playhead.cleaned", 0))
        properties = {**self._target.properties(), "playhead.cleaned": str(run + 1)}

        def guard(current: Mapping[str, str]) -> bool:
            return int(current.get("playhead.cleaned", 0)) == run

        if self._full:
            return self._lake.overwrite(
                self._clean.name,
                self._con,
                f"FROM {self._survivors}",
                properties=properties,
                guard=guard,
            )
        days = self._days_to_rewrite()
        if not days:
            return self._lake.append(
                self._clean.name,
                self._con,
                f"FROM {self._survivors}",
                properties=properties,
                guard=guard,
            )
        stays = _without(self._clean.scan(partitions=days), self._displaced)
        return self._lake.overwrite(
            self._clean.name,
            self._con,
            f"FROM {self._survivors} UNION ALL BY NAME ({stays})",
            partitions=days,
            properties=properties,
            guard=guard,
        )

    def _days_to_rewrite(self) -> list[date]:
        """Empty if no row of the clean table gives way."""
        rows = self._con.execute(f"SELECT DISTINCT old_day FROM {_MET} WHERE wins").fetchall()
        if not rows:
            return []
        new = self._con.execute(
            f"SELECT DISTINCT event_time::DATE FROM {self._survivors}"
        ).fetchall()
        return sorted({day for (day,) in (*rows, *new)})

    def _count(self, report: CleanReport, written: Written) -> CleanReport:
        rows, null_keys = self._one(
            f"SELECT count(*), count(*) FILTER ({self._keyless_sql}) FROM {self._new}"
        )
        repeats, lost, replaced = self._one(
            f"SELECT (SELECT count(*) FROM {_REPEATS}), count(*) FILTER (NOT wins), "
            f"count(*) FILTER (wins) FROM {_MET}"
        )
        beaten = repeats + lost + replaced
        same = self._count_same_content() if beaten else 0
        return replace(
            report,
            rows=rows,
            null_keys=null_keys,
            duplicate_rows=same,
            duplicate_ids=beaten - same,
            written=rows - null_keys - repeats - lost,
            replaced=replaced,
        )

    def _count_same_content(self) -> int:
        """How many of the beaten rows equal the row that stays, field by field."""
        fields = tuple(self._contract.schema.names)
        ids = f"(SELECT event_id FROM {_REPEATS} UNION SELECT event_id FROM {_MET})"
        every = f"""(
            SELECT {_columns("n", (*fields, *RANK))} FROM {self._keyed} AS n
            SEMI JOIN {ids} USING (event_id)
            UNION ALL
            SELECT {_columns("o", (*fields, *RANK))} FROM {self._existing} AS o
            SEMI JOIN (SELECT event_id FROM {_MET}) USING (event_id)
        )"""
        content = ", ".join(identifier(name) for name in fields)
        (same,) = self._one(f"""
            SELECT count(*) FILTER (place > 1 AND content = best) FROM (
                SELECT row({content}) AS content,
                    first_value(row({content})) OVER by_rank AS best,
                    row_number() OVER by_rank AS place
                FROM {every} AS every
                WINDOW by_rank AS (PARTITION BY event_id ORDER BY {_order_sql()})
            )
        """)
        return same

    def _one(self, query: str) -> tuple[int, ...]:
        row = self._con.execute(query).fetchone()
        assert row is not None  # noqa: S101
        return tuple(int(value) for value in row)


_PLACE = ("load_id", "partition", "offset")


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


def _repeats_sql(relation: str) -> str:
    """The event id and place of every row of `relation` that an earlier row of it beats."""
    narrow = f"SELECT {_columns('r', ('event_id', *RANK))} FROM {relation} AS r"
    several = f"SELECT event_id FROM {relation} AS r GROUP BY event_id HAVING count(*) > 1"
    return f"""
        SELECT event_id, {", ".join(map(identifier, _PLACE))}
        FROM (SELECT * FROM ({narrow}) SEMI JOIN ({several}) USING (event_id))
        QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY {_order_sql()}) > 1
    """


def _without(relation: str, places: str) -> str:
    """The rows of `relation` whose place is not among `places`."""
    same = " AND ".join(
        f"r.{identifier(name)} IS NOT DISTINCT FROM gone.{identifier(name)}" for name in _PLACE
    )
    return f"SELECT r.* FROM {relation} AS r ANTI JOIN {places} AS gone ON {same}"
