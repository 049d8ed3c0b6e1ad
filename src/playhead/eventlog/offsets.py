"""Which offsets of a partition may be read, committed and deleted, whoever stores the events."""

import logging
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from playhead.errors import EventLogError, OffsetOutOfRangeError
from playhead.eventlog.base import Kept

logger = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1)
_HEAD = struct.Struct("<5q")


@dataclass(frozen=True, slots=True)
class Head:
    """What a partition holds: the offsets start .. end - 1.

    Attributes:
        ingest_us: `ingest_time` of the last append, microseconds since 1970 UTC; 0 if none.
    """

    start_offset: int
    end_offset: int
    ingest_us: int

    def seal(self, topic_id: int, partition: int) -> int:
        """The checksum of a partition's head."""
        values = (topic_id, partition, self.start_offset, self.end_offset, self.ingest_us)
        return zlib.crc32(_HEAD.pack(*values))


def microseconds(time: datetime) -> int:
    """Microseconds since 1970 UTC of a time in UTC, or with a zone of its own."""
    plain = time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    return (plain - _EPOCH) // timedelta(microseconds=1)


def check_read(topic: str, partition: int, offset: int, heads: Mapping[int, Head]) -> Head:
    """The partition's head, if `offset` may be read from (its end included).

    Raises:
        OffsetOutOfRangeError: it is before the start or behind the end.
        EventLogError: no such partition.
    """
    head = _head(topic, partition, heads)
    if not head.start_offset <= offset <= head.end_offset:
        why = "was deleted by retention" if offset < head.start_offset else "is not written yet"
        raise OffsetOutOfRangeError(
            f"Topic {topic}, partition {partition}: offset {offset} {why}.",
            hint=f"Read from {head.start_offset} up to {head.end_offset}.",
        )
    return head


def check_commit(
    group: str, topic: str, offsets: Mapping[int, int], heads: Mapping[int, Head]
) -> None:
    """Raise unless the group may commit all these offsets.

    Raises:
        OffsetOutOfRangeError: an offset is negative or behind the end.
        EventLogError: no such partition, or the group has no name.
    """
    if not group:
        raise EventLogError(f"Topic {topic}: a consumer group needs a name.")
    for partition, offset in offsets.items():
        end = _head(topic, partition, heads).end_offset
        if not 0 <= offset <= end:
            raise OffsetOutOfRangeError(
                f"Topic {topic}, partition {partition}: group {group} cannot commit offset"
                f" {offset}; the partition ends at {end}."
            )


def deletable(start: int, aged: int, committed: Mapping[str, int]) -> int:
    """The offset before which everything may go.

    Args:
        start: the partition's first offset.
        aged: all before this offset is old enough.
        committed: what each registered group committed in this partition; 0 if nothing yet.
    """
    return max(start, min([aged, *committed.values()]))


def lagging(
    topic: str, partition: int, start: int, aged: int, committed: Mapping[str, int]
) -> list[Kept]:
    """The groups that keep events from being deleted (arguments as `deletable`); logged."""
    lags = [
        Kept(topic, partition, group, aged - max(offset, start))
        for group, offset in sorted(committed.items())
        if max(offset, start) < aged
    ]
    for lag in lags:
        logger.warning(
            "retention keeps %d events of topic %s, partition %d: group %s has not committed them",
            lag.events,
            topic,
            partition,
            lag.group,
        )
    return lags


def _head(topic: str, partition: int, heads: Mapping[int, Head]) -> Head:
    if partition not in heads:
        raise EventLogError(
            f"Topic {topic} has no partition {partition}.",
            hint=f"It has the partitions 0 to {len(heads) - 1}.",
        )
    return heads[partition]
