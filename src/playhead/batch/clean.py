"""Cleans a topic: rows without a key go, and of several rows of one event the earliest stays."""

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date

import duckdb

from playhead.batch.newrows import (
    CleanEngine,
    Comparison,
    Counted,
    DuckDBCleaning,
    LoadedRows,
    NewRows,
)
from playhead.batch.reading import Reading
from playhead.batch.repeats import PLACE, met_sql, only, repeats_sql, same_content_sql
from playhead.batch.sqltext import identifier
from playhead.contracts import contract
from playhead.errors import LakeConflictError
from playhead.lake import Draft, Lake, Written, clean_table, raw_table

__all__ = ["CleanReport", "Cleaning", "clean_topic", "rewritten_days"]

logger = logging.getLogger(__name__)

REWRITTEN = "playhead.rewritten"
"""Property of a clean table: by day, the [epoch, load] of the last cleaning that took rows away."""

_ATTEMPTS = 10
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
    engine: CleanEngine | None = None,
) -> CleanReport:
    """Bring `clean.<topic>` up to date with `raw.<topic>`, in one snapshot that says how far.

    Only rows of epochs and loads that the clean table does not cover yet are read; with `full`,
    the whole table is made anew. Safe to run twice at once: one of the two starts over.

    Args:
        loaded: taken instead of the raw table if that load is all there is to clean.
        engine: what compares and writes many rows; None: this connection.

    Raises:
        LakeConflictError: other cleaners kept committing first.
    """
    fields = contract(topic).schema
    if not lake.exists(raw_table(topic, fields).name):
        return CleanReport(topic)
    clean_table(topic, fields).create_in(lake)
    for _ in range(_ATTEMPTS):
        report = Cleaning(lake, con, topic, full=full, loaded=loaded, engine=engine).run()
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

    _comparison: Comparison

    def __init__(
        self,
        lake: Lake,
        con: duckdb.DuckDBPyConnection,
        topic: str,
        *,
        full: bool = False,
        loaded: LoadedRows | None = None,
        ahead: bool = False,
        engine: CleanEngine | None = None,
    ) -> None:
        self._lake, self._con, self._topic, self._full = lake, con, topic, full
        schema = contract(topic).schema
        raw = lake.snapshot(raw_table(topic, schema).name)
        self._clean = lake.snapshot(clean_table(topic, schema).name)
        self._target = _Covered.of(raw.properties)
        self._is_next = loaded is not None and self._target.load == loaded.load_id - 1
        if ahead and loaded is not None:
            self._target = replace(self._target, load=loaded.load_id)
        self._covered = _Covered(-1, 0) if full else _Covered.of(self._clean.properties)
        if loaded is not None:
            all_before = replace(self._target, load=loaded.load_id - 1)
            if self._target.load != loaded.load_id or self._covered != all_before:
                loaded = None
        self._new = NewRows(raw, self._reading(), loaded)
        # Spark is not started for a topic that got nothing.
        much = loaded is None and self._new.reading.of(raw).rows > 0
        self._engine = engine if engine is not None and much else DuckDBCleaning()

    def run(self) -> CleanReport | None:
        """Clean and commit; None if another cleaner committed first."""
        if self._covered == self._target and not self._full:
            return CleanReport(self._topic)
        with self.compared(), self._lake.draft(self._clean.name) as draft:
            months = self._months_to_rewrite()
            counted = self.keep(draft, months)
            replaced = None if self._full else tuple(sorted(months))
            return None if self._publish(draft, replaced).skipped else self._report(counted)

    @contextmanager
    def compared(self) -> Iterator[None]:
        """Look for repeats among the new rows and in the clean table; forget them at the end."""
        old = replace(self._clean, files=()) if self._full else self._clean
        try:
            with self._engine.compare(self._con, self._new, old) as found:
                self._comparison = found
                self._make(_REPEATS, repeats_sql(found.new, found.repeated))
                self._make(_MET, met_sql(found.new, _REPEATS, found.old()))
                yield
        finally:
            for name in (_REPEATS, _MET):
                self._con.execute(f"DROP TABLE IF EXISTS {name}")

    @property
    def is_next(self) -> bool:
        """Whether the loaded rows, still on their way, are all that there is to clean."""
        return self._is_next and self._new.loaded is not None

    @property
    def replaces_rows(self) -> bool:
        """Whether rows of the clean table give way; to be asked while `compared`."""
        return self._one(f"SELECT count(*) FROM {_MET} WHERE wins")[0] > 0

    def keep(self, draft: Draft, anew: Collection[date] = ()) -> Counted:
        """Add the rows that stay: new, with a key, first of their event, not beaten by an old one.

        Args:
            anew: months whose old rows are added, too, less those that give way.
        """
        places = ", ".join(f"{identifier(f'old_{c}')} AS {identifier(c)}" for c in PLACE)
        displaced = f"(SELECT {places} FROM {_MET} WHERE wins)"
        return self._comparison.keep(draft, self._gone, anew, displaced)

    @property
    def dropped(self) -> str:
        """A relation of the new rows that do not stay."""
        keyed, keyless = self._new.keyed, self._new.keyless
        return f"(FROM {self._new.sql} WHERE {keyless} UNION ALL {only(keyed, self._gone)})"

    def publish(self, draft: Draft, counted: Counted) -> CleanReport | None:
        """Commit a draft of the rows that stay; None if another was first.

        Args:
            counted: what `keep` told of them.
        """
        return None if self._publish(draft).skipped else self._report(counted)

    @property
    def _gone(self) -> str:
        """The places of new rows that another row of their event beats."""
        places = ", ".join(map(identifier, PLACE))
        return (
            f"(SELECT {places} FROM {_REPEATS} "
            f"UNION ALL SELECT {places} FROM {_MET} WHERE NOT wins)"
        )

    def _reading(self) -> Reading:
        covered, target = self._covered, self._target
        return Reading.between(
            self._topic, (covered.epoch, covered.load), (target.epoch, target.load)
        )

    def _make(self, name: str, query: str) -> None:
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")

    def _publish(self, draft: Draft, replaced: Sequence[date] | None = ()) -> Written:
        """Commit: rows are added, unless older ones give way; then their months are new."""
        return self._lake.publish(
            self._clean.name,
            draft,
            partitions=replaced,
            properties={
                **self._target.properties(),
                "playhead.cleaned": str(self._run + 1),
                REWRITTEN: self._rewritten(),
            },
            guard=self._guard(),
        )

    @property
    def _run(self) -> int:
        """How often the clean table was written before."""
        return int(self._clean.properties.get("playhead.cleaned", 0))

    def _guard(self) -> Callable[[Mapping[str, str]], bool]:
        return lambda current: int(current.get("playhead.cleaned", 0)) == self._run

    def _months_to_rewrite(self) -> set[date]:
        """The months of all rows that come or go; empty if no row of the clean table gives way."""
        if not self.replaces_rows:
            return set()
        return self._comparison.months() | self._months_met("WHERE wins")

    def _months_met(self, condition: str = "") -> set[date]:
        """The months of rows of the clean table whose events came again."""
        rows = self._con.execute(
            f"SELECT DISTINCT date_trunc('month', old_day)::DATE FROM {_MET} {condition}"
        ).fetchall()
        return {month for (month,) in rows}

    def _rewritten(self) -> str:
        rows = self._con.execute(f"SELECT DISTINCT old_day FROM {_MET} WHERE wins").fetchall()
        known = json.loads(self._clean.properties.get(REWRITTEN, "{}"))
        known |= {str(day): [self._target.epoch, self._target.load] for (day,) in rows}
        return json.dumps(known, sort_keys=True)

    def _report(self, counted: Counted) -> CleanReport:
        (repeats,) = self._one(f"SELECT count(*) FROM {_REPEATS}")
        lost, replaced = self._one(
            f"SELECT count(*) FILTER (NOT wins), count(*) FILTER (wins) FROM {_MET}"
        )
        beaten = repeats + lost + replaced
        same = self._count_same_content() if beaten else 0
        return CleanReport(
            self._topic,
            rows=counted.rows,
            null_keys=counted.keyless,
            duplicate_rows=same,
            duplicate_ids=beaten - same,
            written=counted.rows - counted.keyless - repeats - lost,
            replaced=replaced,
        )

    def _count_same_content(self) -> int:
        """How many of the beaten rows equal the row that stays, field by field."""
        found, months = self._comparison, self._months_met()
        new = found.new if months or found.repeated is None else found.repeated
        (same,) = self._one(same_content_sql(new, found.old(months), _REPEATS, _MET))
        return same

    def _one(self, query: str) -> tuple[int, ...]:
        row = self._con.execute(query).fetchone()
        assert row is not None  # noqa: S101
        return tuple(int(value) for value in row)
