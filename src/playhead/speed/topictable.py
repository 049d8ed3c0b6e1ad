"""What has been seen of each topic, as rows of the state; whoever calls holds the transaction."""

import sqlite3
from datetime import datetime

from playhead.speed.records import Progress


def add(db: sqlite3.Connection, topic: str, seen: Progress) -> None:
    """Count what a micro-batch saw of a topic to what was seen before."""
    newest = seen.max_event_time and seen.max_event_time.isoformat(" ")
    db.execute(
        "INSERT INTO topics VALUES (?, ?, ?, ?, ?) ON CONFLICT (topic) DO UPDATE SET "
        "max_event_time = NULLIF(MAX(COALESCE(max_event_time, ''), "
        "COALESCE(excluded.max_event_time, '')), ''), "
        "events = events + excluded.events, duplicates = duplicates + excluded.duplicates, "
        "late = late + excluded.late",
        (topic, newest, seen.events, seen.duplicates, seen.late),
    )


def progress(db: sqlite3.Connection) -> dict[str, Progress]:
    """What has been seen, by topic."""
    rows = db.execute("SELECT topic, max_event_time, events, duplicates, late FROM topics")
    return {
        topic: Progress(newest and datetime.fromisoformat(newest), *counts)
        for topic, newest, *counts in rows
    }
