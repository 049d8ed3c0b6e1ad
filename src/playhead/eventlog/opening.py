"""The event log of a workspace, as its settings say: its own file, or brokers."""

from pathlib import Path

from playhead.clock import Clock
from playhead.config import LogSettings
from playhead.eventlog.base import EventLog
from playhead.eventlog.sqlite import SqliteEventLog

__all__ = ["open_log"]


def open_log(workspace: Path, settings: LogSettings, *, clock: Clock | None = None) -> EventLog:
    """Open it.

    Args:
        workspace: the folder that holds the log's file, and the file of the brokers' options.

    Raises:
        EventLogError: it is on brokers, and `playhead[kafka]` is not installed.
        SettingError: the brokers' options cannot be used.
        WorkspaceError: the file is none of an event log.
    """
    if not settings.brokers:
        return SqliteEventLog(workspace / "log.db", clock=clock)
    # Only those who have brokers need their client.
    from playhead.eventlog.kafka import Brokers, KafkaEventLog, read_options

    file = settings.options_file
    brokers = Brokers(
        settings.brokers,
        settings.topic_prefix,
        settings.replication,
        read_options(workspace / file) if file else None,
    )
    return KafkaEventLog(brokers, clock=clock)
