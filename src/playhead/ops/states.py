"""States against recomputation: the batch layer's by month or year, the speed layer's by epoch."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa

from playhead.batch.buckets import bucket_of, bucket_sql, bucket_unit
from playhead.batch.clean import rewritten_days
from playhead.batch.recompute import StateCoverage, state_table
from playhead.batch.repeats import dedupe_sql
from playhead.contracts import LOG_COLUMNS, TOPICS
from playhead.errors import CoverageError, PlayheadError
from playhead.eventlog import next_offset
from playhead.lake import Snapshot
from playhead.lake.tables import ORIGIN, clean_name, dimension_name, raw_name
from playhead.ops.findings import RUN_BATCH, Finding, Scope
from playhead.speed.dimensions import dimension_versions
from playhead.speed.records import Block
from playhead.views import View
from playhead.views.binder import quote
from playhead.views.leaf import BATCH_DAY, Leaf
from playhead.views.naming import state_name
from playhead.views.rows import wide_sql

EPOCH = "playhead.epoch"
_STORED, _FRESH = "verify_stored", "verify_fresh"
_ATTEMPTS = 5
# Plans keep states apart by a date: an epoch stands as the day of that number.
_DAY_0, _EPOCH_DAY = "DATE '1970-01-01'", "verify_epoch"


def check_coverage(scope: Scope) -> Iterator[Finding]:
    """Whether batch and speed meet, view by view; what waits for a run is no fault."""
    for view in scope.workspace.views.values():
        tables = {state_table(view, leaf) for leaf in view.leaves}
        if tables & scope.broken:
            continue
        try:
            scope.workspace.session.coverage(view)
        except CoverageError as error:
            apart = ": a gap" in error.message or ": an overlap" in error.message
            make = Finding.warning if apart else Finding.info
            yield make(f"view {view.name}", error.message, RUN_BATCH)
        except PlayheadError:
            # Damage that keeps coverage from being read has findings of its own.
            continue


def check_states(scope: Scope) -> Iterator[Finding]:
    """The states of every view, recomputed and compared digit for digit."""
    views = list(scope.workspace.views.values())
    for done, view in enumerate(views):
        scope.told("states", done, len(views), view.name)
        for leaf in view.leaves:
            if not _inputs_readable(scope, leaf):
                continue
            try:
                yield from _BatchStates(scope, view, leaf).findings()
                yield from _SpeedStates(scope, view, leaf).findings()
            except PlayheadError as error:
                yield Finding.error(
                    f"view {view.name}", error.message, f"playhead rebuild {view.name}"
                )


def _inputs_readable(scope: Scope, leaf: Leaf) -> bool:
    needed = [clean_name(leaf.topic), *(dimension_name(k.dimension) for k in leaf.lookups)]
    return scope.readable(*needed)


@dataclass
class _States:
    """One state of a view, and how to make it anew from events."""

    scope: Scope
    view: View
    leaf: Leaf

    @property
    def place(self) -> str:
        return f"view {self.view.name}" + (f", {self.leaf.name}" if self._several else "")

    @property
    def _several(self) -> bool:
        return len(self.view.leaves) > 1

    @property
    def mend(self) -> str:
        return f"playhead rebuild {self.view.name}"

    def versions(self) -> dict[str, int]:
        """The dimensions' versions that states made now would carry."""
        used = {k.dimension for k in self.leaf.lookups}
        return dimension_versions(self.scope.workspace.lake, sorted(used))

    def partial(self, source: str, lead: str) -> str:
        """States of a relation of events, kept apart by `lead`: SQL of a DATE over the events."""
        columns = dict.fromkeys([*self.leaf.event_columns, "event_time", "epoch"])
        wide = wide_sql(self.leaf.topic, tuple(columns), self.leaf.lookups, source=source)
        return self.leaf.partial(source=f"({wide})", extra=lead)

    def define_dimensions(self) -> None:
        """Make the dimensions that events are joined with readable by name."""
        for name in {k.dimension for k in self.leaf.lookups}:
            scan = self.scope.workspace.lake.scan(dimension_name(name))
            self.scope.connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS FROM {scan}")

    def merged(self, name: str, query: str) -> str:
        """A query: the states of `query` merged, in the types that the leaf says."""
        self.scope.connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")
        typed = [f"CAST({quote(c)} AS {self.leaf.types[c]}) AS {quote(c)}" for c in self.columns]
        items = ", ".join([f"CAST({BATCH_DAY} AS DATE) AS {BATCH_DAY}", *typed])
        return f"SELECT {items} FROM (\n{self.leaf.merge(source=name, extra=True)}\n)"

    @property
    def columns(self) -> Sequence[str]:
        return self.leaf.state_columns

    def differing(self, stored: str, fresh: str) -> list[date]:
        """The leading dates under which stored and recomputed states differ in any row."""
        run = self.scope.connection.execute
        for name, query in ((_STORED, stored), (_FRESH, fresh)):
            run(f"CREATE OR REPLACE TEMP TABLE {name}_m AS {self.merged(name, query)}")
        try:
            rows = run(
                f"SELECT DISTINCT {BATCH_DAY} FROM ((FROM {_STORED}_m EXCEPT ALL FROM {_FRESH}_m) "
                f"UNION ALL (FROM {_FRESH}_m EXCEPT ALL FROM {_STORED}_m)) ORDER BY ALL"
            ).fetchall()
            return [lead for (lead,) in rows]
        finally:
            run(f"DROP TABLE {_STORED}_m")
            run(f"DROP TABLE {_FRESH}_m")


class _BatchStates(_States):
    """A state table against what the cleaned events that it covers give, by bucket."""

    def findings(self) -> Iterator[Finding]:
        table = state_table(self.view, self.leaf)
        if not self.scope.readable(table):
            return
        states = self.scope.workspace.lake.snapshot(table)
        clean = self.scope.workspace.lake.snapshot(clean_name(self.leaf.topic))
        covered = StateCoverage.of(states.properties)
        if covered is None:
            return
        if dict(covered.dimensions) != self.versions():
            yield Finding.info(
                self.place, "its days were made with older dimensions: not compared", RUN_BATCH
            )
            return
        self.define_dimensions()
        # These lost events to other days after the states were made; a batch run heals them.
        lost = rewritten_days(clean.properties, epoch=covered.epoch, load=covered.load)
        skipped = {bucket_of(self.leaf, day) for day in lost}
        months: dict[date, list[date]] = {}
        for month in clean.partitions:
            months.setdefault(bucket_of(self.leaf, month), []).append(month)
        for bucket in sorted(months.keys() | set(states.partitions)):
            self.scope.count("state buckets")
            if bucket not in skipped and self._differs(
                states, clean, covered, bucket, months.get(bucket, [])
            ):
                yield Finding.error(
                    f"{self.place}, {bucket_unit(self.leaf)} of {bucket}",
                    f"the batch states in {table} are not what the events give",
                    self.mend,
                )

    def _differs(
        self,
        states: Snapshot,
        clean: Snapshot,
        covered: StateCoverage,
        bucket: date,
        months: Sequence[date],
    ) -> bool:
        """Whether a bucket's states, merged, are not those of the events that they cover."""
        events = (
            f"(SELECT * FROM {clean.scan(partitions=months)} "
            f"WHERE epoch <= {covered.epoch} OR load_id <= {covered.load})"
        )
        names = ", ".join(quote(name) for name in [BATCH_DAY, *self.columns])
        stored = f"SELECT {names} FROM {states.scan(partitions=[bucket])}"
        return bool(self.differing(stored, self.partial(events, bucket_sql(self.leaf))))


class _SpeedStates(_States):
    """Speed states that the batch layer does not cover, against their epochs' events."""

    def findings(self) -> Iterator[Finding]:
        for _ in range(_ATTEMPTS):
            ranges = self._ranges()
            blocks, loads = self._blocks()
            if not loads:
                return
            labels = {label for epoch, label in self._made() if epoch in {b.epoch for b in blocks}}
            events = self._events(loads)
            if ranges == self._ranges():
                break
        else:
            yield Finding.info(self.place, "its speed states changed all the time: not compared")
            return
        if any(not self._is_current(label) for label in labels):
            yield Finding.info(
                self.place,
                "its speed states were made with older dimensions: not compared",
                RUN_BATCH,
            )
            return
        self.define_dimensions()
        yield from self._wrong(blocks, events)

    def _ranges(self) -> dict[int, object]:
        state = self.scope.workspace.state
        return {epoch: (status, state.range_of(epoch)) for epoch, status in state.epochs()}

    def _made(self) -> Sequence[tuple[int, str]]:
        name = state_name(self.view, self.leaf)
        return self.scope.workspace.state.head(name, self.leaf.topic).made

    def _is_current(self, label: str) -> bool:
        made = json.loads(label)
        return all(made.get(name) == version for name, version in self.versions().items())

    def _blocks(self) -> tuple[list[Block], dict[int, int]]:
        """Blocks beyond the batch coverage, and the last load that each of their epochs knew."""
        name, table = state_name(self.view, self.leaf), state_table(self.view, self.leaf)
        head, blocks = self.scope.workspace.state.snapshot(name, self.leaf.topic)
        covered = None
        if self.scope.readable(table):
            covered = StateCoverage.of(self.scope.workspace.lake.properties(table))
        after = covered.epoch if covered else 0
        if head.since_epoch is None:
            return [], {}
        first = max(after, head.pruned_to, head.since_epoch - 1)
        loads = {active.epoch: active.load for active in head.active if active.epoch > first}
        return [block for block in blocks if block.epoch in loads], loads

    def _events(self, loads: dict[int, int]) -> str:
        """A relation of the events of some epochs, each once, without those that came before."""
        topic, lake = self.leaf.topic, self.scope.workspace.lake
        sealed, last = [], 0
        if lake.exists(raw_name(topic)):
            raw = lake.snapshot(raw_name(topic))
            last = int(raw.properties.get(EPOCH, 0))
            sealed.append(f"SELECT * FROM {raw.scan()} WHERE epoch IN ({_listed(loads)})")
        tail = self._tail(topic, sorted(epoch for epoch in loads if epoch > last))
        self.scope.connection.register("verify_tail", tail)
        names = ", ".join(quote(f.name) for f in [*TOPICS[topic].schema, *ORIGIN])
        parts = [f"SELECT {names} FROM ({part})" for part in (*sealed, "FROM verify_tail")]
        rows = " UNION ALL ".join(parts)
        fresh = dedupe_sql(f"({rows})")
        if sealed:
            earlier = f"(epoch < {min(loads)} OR load_id <= {min(loads.values())})"
            keys = " AND ".join(f"{quote(k)} IS NOT NULL" for k in TOPICS[topic].not_null)
            known = f"SELECT event_id FROM {raw.scan()} WHERE {earlier} AND {keys}"
            fresh = f"SELECT f.* FROM ({fresh}) AS f ANTI JOIN ({known}) AS k USING (event_id)"
        self.scope.connection.execute(f"CREATE OR REPLACE TEMP TABLE verify_events AS {fresh}")
        self.scope.connection.unregister("verify_tail")
        self.scope.count("speed epochs", len(loads))
        return "verify_events"

    def _tail(self, topic: str, epochs: Sequence[int]) -> pa.Table:
        """Events of epochs that are in the log alone, with every column of a raw table."""
        log, parts = self.scope.workspace.log, []
        for epoch in epochs:
            position = self.scope.workspace.state.range_of(epoch).get(topic)
            for partition, first in position.first.items() if position else ():
                offset, end = first, position.next[partition] if position else first
                while offset < end:
                    events = log.read(topic, partition, offset, max_events=end - offset)
                    number = pa.repeat(pa.scalar(epoch, pa.int64()), events.num_rows)
                    parts.append(events.append_column("epoch", number))
                    offset = next_offset(events, offset)
        schema = pa.schema([*TOPICS[topic].schema, *LOG_COLUMNS, pa.field("epoch", pa.int64())])
        optional = pa.schema([pa.field(field.name, field.type) for field in schema])
        tail = pa.concat_tables([optional.empty_table(), *parts], promote_options="default")
        return tail.append_column("load_id", pa.nulls(tail.num_rows, pa.int64()))

    def _wrong(self, blocks: Sequence[Block], events: str) -> Iterator[Finding]:
        """Epochs whose blocks, of states or of widened events, are not what their events give."""
        fresh = self.partial(f"(FROM {events})", f"{_DAY_0} + CAST(epoch AS INTEGER)")
        kinds = sorted({block.kind for block in blocks})
        parts = [self._stored(kind, blocks) for kind in kinds]
        stored = " UNION ALL ".join(parts) or f"SELECT * FROM ({fresh}) WHERE FALSE"
        try:
            epochs = [(lead - date(1970, 1, 1)).days for lead in self.differing(stored, fresh)]
        finally:
            for kind in kinds:
                self.scope.connection.unregister(f"verify_blocks_{kind}")
        if epochs and self._has_old_repeats(events):
            yield Finding.info(
                self.place, "events repeat beyond the dedupe window: not compared", RUN_BATCH
            )
            return
        for epoch in epochs:
            yield Finding.error(
                f"{self.place}, epoch {epoch}",
                "the speed states are not what the epoch's events give",
                self.mend,
            )

    def _stored(self, kind: str, blocks: Sequence[Block]) -> str:
        """The states of all blocks of a kind, under the dates that stand for their epochs."""
        tables = [
            block.rows.append_column(
                _EPOCH_DAY, pa.repeat(pa.scalar(block.epoch, pa.int32()), len(block.rows))
            )
            for block in blocks
            if block.kind == kind
        ]
        whole, lead = f"verify_blocks_{kind}", f"{_DAY_0} + {_EPOCH_DAY}"
        self.scope.connection.register(whole, pa.concat_tables(tables))
        names = ", ".join(quote(name) for name in self.columns)
        if kind == "states":
            return f"SELECT {lead} AS {BATCH_DAY}, {names} FROM {whole}"
        made = self.leaf.partial(source=whole, extra=lead)
        return f"SELECT {BATCH_DAY}, {names} FROM ({made})"

    def _has_old_repeats(self, events: str) -> bool:
        """Whether an id of the epochs came before, longer ago than ids are remembered."""
        if not self.scope.readable(raw_name(self.leaf.topic)):
            return False
        window = timedelta(hours=self.scope.workspace.settings.speed.dedupe_hours)
        raw = self.scope.workspace.lake.scan(raw_name(self.leaf.topic))
        row = self.scope.connection.execute(
            f"SELECT count(*) FROM (SELECT max(ingest_time) - min(ingest_time) AS apart FROM {raw} "
            f"WHERE ingest_time >= (SELECT min(ingest_time) FROM {events}) - INTERVAL 1000 YEAR "
            "GROUP BY event_id HAVING count(*) > 1) "
            f"WHERE apart >= INTERVAL {int(window.total_seconds())} SECOND"
        ).fetchone()
        return bool(row and row[0])


def _listed(numbers: Collection[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
