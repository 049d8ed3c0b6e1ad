"""The event log: topics of events that nothing downstream can slow or stop, read by offset."""

from playhead.eventlog.base import Appended, EventLog, Kept, Retention
from playhead.eventlog.keys import hash_strings, partition_of
from playhead.eventlog.sqlite import SqliteEventLog

__all__ = [
    "Appended",
    "EventLog",
    "Kept",
    "Retention",
    "SqliteEventLog",
    "hash_strings",
    "partition_of",
]
