"""The event log: topics of events that nothing downstream can slow or stop, read by offset."""

from playhead.eventlog.base import Appended, EventLog, Kept, Retention, event_offsets, next_offset
from playhead.eventlog.keys import hash_strings, partition_of
from playhead.eventlog.opening import open_log
from playhead.eventlog.sqlite import SqliteEventLog

__all__ = [
    "Appended",
    "EventLog",
    "Kept",
    "Retention",
    "SqliteEventLog",
    "event_offsets",
    "hash_strings",
    "next_offset",
    "open_log",
    "partition_of",
]
