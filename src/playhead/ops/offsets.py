"""Log against lake by offsets, and cleaned tables against raw ones by day."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from playhead.batch.repeats import dedupe_sql
from playhead.contracts import TOPICS
from playhead.errors import PlayheadError
from playhead.eventlog import event_offsets
from playhead.lake import Snapshot
from playhead.lake.tables import clean_name, raw_name
from playhead.ops.findings import REBUILD_ALL, Finding, Scope, shown
from playhead.views.binder import quote

_SHOWN = 6
EPOCH, LOAD, OFFSETS = "playhead.epoch", "playhead.load", "playhead.offsets"


@dataclass(frozen=True)
class _Sealed:
    """What one epoch has of one partition in the lake; `digest` sums the offsets' hashes."""

    partition: int
    epoch: int
    rows: int
    first: int
    last: int
    digest: int


def check_offsets(scope: Scope) -> Iterator[Finding]:
    """Every offset that was sealed is in the lake, once; the log goes on where the lake ends.

    On brokers, an offset may hold no event: it is missed if the event log still has one there.
    """
    for topic in _topics(scope):
        if scope.readable(raw_name(topic)):
            scope.told("log against lake", 0, None, topic)
            yield from _Offsets(scope, topic).findings()


def _topics(scope: Scope) -> list[str]:
    try:
        tables = scope.workspace.lake.tables("raw")
    except PlayheadError:
        return []
    return [table.removeprefix(raw_name("")) for table in tables]


class _Offsets:
    """One topic's offsets, in the lake and in the log."""

    def __init__(self, scope: Scope, topic: str) -> None:
        self._scope = scope
        self._topic = topic
        self._raw = scope.workspace.lake.snapshot(raw_name(topic))
        self._told: dict[str, tuple[int, int]] = json.loads(self._raw.properties.get(OFFSETS, "{}"))
        # Others may write to brokers: messages that are no events, and marks of transactions.
        self._is_sparse = bool(scope.workspace.settings.log.brokers)

    def findings(self) -> Iterator[Finding]:
        sealed = self._sealed()
        self._scope.count("sealed epochs", len({one.epoch for one in sealed}))
        for at, one in enumerate(sealed):
            yield from self._check_one(one)
            before = sealed[at - 1] if at else None
            follows = before is not None and before.partition == one.partition
            if before and follows and self._apart(one.partition, before.last + 1, one.first):
                yield self._wrong(
                    one,
                    f"epoch {before.epoch} ends at offset {before.last}, "
                    f"epoch {one.epoch} begins at {one.first}",
                )
        ends = {one.partition: one.last + 1 for one in sealed}
        yield from self._check_properties(sealed, ends)
        firsts = {one.partition: one.first for one in reversed(sealed)}
        yield from self._check_log(firsts, ends)
        yield from self._check_state(ends, sealed)

    def _sealed(self) -> list[_Sealed]:
        digest = "0" if self._scope.quick else 'sum(hash("offset"))'
        rows = self._scope.connection.execute(
            f'SELECT partition, epoch, count(*), min("offset"), max("offset"), {digest} '
            f"FROM {self._raw.scan(columns=['partition', 'epoch', 'offset'])} "
            "WHERE epoch IS NOT NULL GROUP BY ALL ORDER BY partition, epoch"
        ).fetchall()
        return [_Sealed(*map(int, row)) for row in rows]

    def _check_one(self, one: _Sealed) -> Iterator[Finding]:
        """All offsets from the epoch's first to its last, each once: equal sums of hashes."""
        if one.rows == one.last - one.first + 1 and (
            self._scope.quick or one.digest == self._expected(one)
        ):
            return
        where = f"partition = {one.partition} AND epoch = {one.epoch}"
        scan = self._raw.scan(columns=["partition", "epoch", "offset"])
        twice = self._offsets(
            f'SELECT "offset" FROM {scan} WHERE {where} GROUP BY ALL HAVING count(*) > 1'
        )
        lost = list(islice(self._lost(one), _SHOWN))
        if twice:
            yield self._wrong(one, f"offsets {shown(twice)} of epoch {one.epoch} are there twice")
        if lost:
            yield self._wrong(one, f"offsets {shown(lost)} of epoch {one.epoch} are missing")

    def _expected(self, one: _Sealed) -> int:
        row = self._scope.connection.execute(
            f"SELECT sum(hash(i)) FROM range({one.first}, {one.last + 1}) AS t (i)"
        ).fetchone()
        return int(row[0]) if row else 0

    def _offsets(self, query: str) -> list[int]:
        rows = self._scope.connection.execute(f"{query} ORDER BY ALL LIMIT {_SHOWN}").fetchall()
        return [int(offset) for (offset,) in rows]

    def _check_properties(self, sealed: list[_Sealed], ends: dict[int, int]) -> Iterator[Finding]:
        newest = max((one.epoch for one in sealed), default=0)
        told = int(self._raw.properties.get(EPOCH, 0))
        if newest > told:
            yield Finding.error(
                self._raw.name, f"holds epoch {newest}, but says that it ends at {told}"
            )
        for partition, (first, after) in self._told.items():
            held = ends.get(int(partition), first)
            if after > first and self._apart(int(partition), held, after):
                yield Finding.error(
                    f"{self._raw.name}, partition {partition}",
                    f"ends at offset {held}, but says {after}",
                )

    def _check_log(self, firsts: dict[int, int], ends: dict[int, int]) -> Iterator[Finding]:
        log = self._scope.workspace.log
        try:
            if self._topic not in log.topics():
                return
            starts, log_ends = log.start_offsets(self._topic), log.end_offsets(self._topic)
        except PlayheadError:
            return
        for partition, held in ends.items():
            # Behind the last event there may be messages that were none.
            end = max(held, self._told.get(str(partition), (0, 0))[1]) if self._is_sparse else held
            place = f"topic {self._topic}, partition {partition}"
            if log_ends.get(partition, 0) < end:
                yield Finding.error(
                    place,
                    f"the event log ends at offset {log_ends.get(partition, 0)}, but the lake "
                    f"holds offsets up to {end - 1}",
                    "restore log.db from a backup",
                )
            if starts.get(partition, 0) < firsts[partition] and self._apart(
                partition, starts.get(partition, 0), firsts[partition]
            ):
                yield Finding.error(
                    place,
                    f"offsets {starts.get(partition, 0)} to {firsts[partition] - 1} were sealed "
                    "and are missing in the lake",
                )
            if starts.get(partition, 0) > end:
                yield Finding.error(
                    place,
                    f"offsets {end} to {starts[partition] - 1} left the event log and are not in "
                    "the lake",
                    "restore log.db from a backup",
                )

    def _check_state(self, ends: dict[int, int], sealed: list[_Sealed]) -> Iterator[Finding]:
        """What is not sealed begins where the lake ends, unless sealing is under way."""
        state = self._scope.workspace.state
        try:
            unsealed, sealing = state.unsealed(self._topic), state.epochs()
            known = {epoch for epoch, status in sealing if status == "sealed"}
            for epoch in sorted(known):
                yield from self._check_range(epoch, sealed)
        except PlayheadError:
            return
        fresh = self._scope.workspace.lake.properties(self._raw.name).get(EPOCH)
        if fresh != self._raw.properties.get(EPOCH) or any(s == "sealing" for _, s in sealing):
            return
        for partition, (first, _) in unsealed.items():
            if partition in ends and self._apart(partition, ends[partition], first):
                yield Finding.error(
                    f"topic {self._topic}, partition {partition}",
                    f"the lake ends at offset {ends[partition] - 1}, and what is not sealed begins "
                    f"at {first}",
                )

    def _check_range(self, epoch: int, sealed: list[_Sealed]) -> Iterator[Finding]:
        position = self._scope.workspace.state.range_of(epoch).get(self._topic)
        if position is None or epoch > int(self._raw.properties.get(EPOCH, 0)):
            return
        held = {one.partition: one for one in sealed if one.epoch == epoch}
        for partition, first in position.first.items():
            after, there = position.next[partition], held.get(partition)
            if after > first and (
                self._apart(partition, first, after)
                if there is None
                else self._apart(partition, first, there.first)
                or self._apart(partition, there.last + 1, after)
            ):
                yield Finding.error(
                    f"{self._raw.name}, partition {partition}",
                    f"epoch {epoch} has the offsets {first} to {after - 1}, the lake holds "
                    + (f"{there.first} to {there.last}" if there else "none of them"),
                )

    def _apart(self, partition: int, since: int, until: int) -> bool:
        """Whether two ranges do not meet: they overlap, or there are events between them."""
        return since > until or next(self._events(partition, since, until), None) is not None

    def _lost(self, one: _Sealed) -> Iterator[int]:
        """Offsets of an epoch that the lake lacks; on brokers, those that still hold an event."""
        scan = self._raw.scan(columns=["partition", "epoch", "offset"])
        gaps = self._scope.connection.execute(
            f'SELECT "offset" + 1, after FROM (SELECT "offset", lead("offset") OVER '
            f'(ORDER BY "offset") AS after FROM {scan} WHERE partition = {one.partition} '
            f'AND epoch = {one.epoch}) WHERE after > "offset" + 1 ORDER BY ALL'
        ).fetchall()
        for since, until in gaps:
            yield from self._events(one.partition, since, until)

    def _events(self, partition: int, since: int, until: int) -> Iterator[int]:
        """Offsets that hold events: all; on brokers, as they tell, and they are not away.

        That they are away is told by another check.
        """
        if not self._is_sparse:
            yield from range(since, until)
            return
        log = self._scope.workspace.log
        try:
            yield from event_offsets(log, self._topic, partition, since, until)
        except PlayheadError:
            return

    def _wrong(self, one: _Sealed, what: str) -> Finding:
        return Finding.error(f"{self._raw.name}, partition {one.partition}", what)


def check_clean(scope: Scope) -> Iterator[Finding]:
    """The cleaned tables hold what cleaning makes of the raw ones: rows and digests by day."""
    for topic in _topics(scope):
        if topic in TOPICS and scope.readable(raw_name(topic), clean_name(topic)):
            scope.told("clean against raw", 0, None, topic)
            yield from _check_clean(scope, topic)


def _check_clean(scope: Scope, topic: str) -> Iterator[Finding]:
    lake = scope.workspace.lake
    # The cleaned table first: what is added to the raw one meanwhile is beyond its coverage.
    clean = lake.snapshot(clean_name(topic))
    if EPOCH not in clean.properties:
        return
    raw = lake.snapshot(raw_name(topic))
    epoch, load = int(clean.properties[EPOCH]), int(clean.properties.get(LOAD, 0))
    keys = " AND ".join(f"{quote(key)} IS NOT NULL" for key in TOPICS[topic].not_null)
    covered = f"(epoch <= {epoch} OR load_id <= {load})"
    expected = dedupe_sql(f"(SELECT * FROM {raw.scan()} WHERE {covered} AND {keys})")
    found, wanted = _by_day(clean, f"(FROM {clean.scan()})"), _by_day(clean, f"({expected})")
    rows = scope.connection.execute(
        f"SELECT day, f.rows, w.rows FROM ({found}) AS f FULL JOIN ({wanted}) AS w USING (day) "
        "WHERE (f.rows, f.digest) IS DISTINCT FROM (w.rows, w.digest) ORDER BY day"
    ).fetchall()
    scope.count("cleaned days", len(clean.partitions))
    for day, held, right in rows:
        what = f"holds {held or 0} rows, cleaning gives {right or 0}"
        if held == right:
            what = f"its {held} rows are not the ones that cleaning gives"
        yield Finding.error(f"{clean.name}, {day}", what, REBUILD_ALL)


def _by_day(table: Snapshot, relation: str) -> str:
    columns = ", ".join(quote(column.name) for column in table.columns)
    return (
        f"SELECT CAST(event_time AS DATE) AS day, count(*) AS rows, sum(hash({columns})) AS digest "
        f"FROM {relation} GROUP BY ALL"
    )
