"""Reading what is new in a topic, in the order in which it came."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.errors import StateError
from playhead.eventlog import EventLog, next_offset

# Offsets without events are left behind in steps of this many.
_SKIPPED = 1_000


def read_new(
    log: EventLog,
    topic: str,
    columns: Sequence[str],
    position: Mapping[int, int],
    *,
    limit: int,
) -> tuple[pa.Table, dict[int, int]]:
    """The events of a topic from `position` on, and the offsets after them.

    Args:
        position: the next offset, by partition.
        limit: at most about this many events, shared by the partitions that have some.

    Returns:
        The columns and what the event log adds; no columns if nothing is new. Offsets of the
        partitions that gave events.

    Raises:
        StateError: the event log ends before `position`.
    """
    ends = log.end_offsets(topic)
    check_ends(topic, position, ends)
    # A partition that is new waits until it has a position.
    behind = {p: end for p, end in ends.items() if position.get(p, end) < end}
    share = max(limit // max(len(behind), 1), 1)
    read = {
        p: _read_partition(log, topic, columns, p, (position[p], position[p] + share, end))
        for p, end in behind.items()
    }
    parts = {p: part for p, (part, _) in read.items()}
    unread = {p for p, (_, reached) in read.items() if reached < behind[p]}
    tables = _before_unread(parts, unread)
    after = {
        p: read[p][1]
        if table.num_rows == parts[p].num_rows
        else parts[p].column("offset")[table.num_rows].as_py()
        for p, table in tables.items()
    }
    return pa.concat_tables(tables.values()) if tables else pa.table({}), after


def check_ends(topic: str, position: Mapping[int, int], ends: Mapping[int, int]) -> None:
    """Refuse an event log that ends before what was read of it.

    Raises:
        StateError: naming the partition and both offsets.
    """
    for partition, offset in position.items():
        if ends.get(partition, 0) < offset:
            raise StateError(
                f"topic {topic}, partition {partition}: the event log ends at offset "
                f"{ends.get(partition, 0)}, but the speed layer has read up to {offset}",
                hint="Was the event log deleted or replaced? Restore its file from a backup; "
                "a new log needs a new workspace.",
            )


def arrival_us(events: pa.Table) -> npt.NDArray[np.int64]:
    """When each event came into the log: microseconds since 1970, shape (n,)."""
    arrival: npt.NDArray[np.int64] = events.column("ingest_time").cast(pa.int64()).to_numpy()
    return arrival


def _read_partition(
    log: EventLog,
    topic: str,
    columns: Sequence[str],
    partition: int,
    span: tuple[int, int, int],
) -> tuple[pa.Table, int]:
    """The events of a span (offset, about where to stop, end), and the offset after them.

    There is at least one, unless no offset up to the end holds any.
    """
    offset, stop, end = span
    tables: list[pa.Table] = []
    while offset < min(stop, end) or (offset < end and not any(t.num_rows for t in tables)):
        wanted = max(stop - offset, 1) if offset < stop else _SKIPPED
        count = min(wanted, end - offset)
        events = log.read(topic, partition, offset, max_events=count, columns=columns)
        tables.append(events)
        offset = next_offset(events, offset)
    return pa.concat_tables(tables), offset


def _before_unread(parts: Mapping[int, pa.Table], unread: Collection[int]) -> dict[int, pa.Table]:
    """Of each partition, what came before whatever the `unread` ones still hold.

    So of events that repeat in several partitions, the first to come is the first to be taken
    in, however small a micro-batch is: the batch layer keeps the same one.
    """
    if not unread:
        return dict(parts)
    arrivals = {partition: arrival_us(part) for partition, part in parts.items()}
    time, first = min((arrivals[partition][-1], partition) for partition in unread)
    counts = {
        partition: int(arrival.searchsorted(time, side="right" if partition <= first else "left"))
        for partition, arrival in arrivals.items()
    }
    return {p: part.slice(0, counts[p]) for p, part in parts.items() if counts[p]}
