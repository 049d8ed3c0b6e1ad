"""Windows of note and the alerts that were raised in them, in their SQLite tables."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from playhead.speed.records import Alert, Touched

_ALERT_COLUMNS = (
    "alert_id, revision, view, window_start, window_end, level, keys, detail, raised_at"
)


def touch(db: sqlite3.Connection, windows: Sequence[Touched]) -> None:
    """Note that windows got events: a final one of them is to be judged again."""
    db.executemany(
        "INSERT INTO windows VALUES (?, ?, ?, 0, ?) "
        "ON CONFLICT (view, window_start) DO UPDATE SET late = late + excluded.late, "
        "status = CASE WHEN status = 'open' AND excluded.late = 0 THEN 'open' ELSE 'revised' END",
        [(w.view, text(w.start), "revised" if w.late else "open", w.late) for w in windows],
    )


def windows(db: sqlite3.Connection, view: str) -> list[tuple[datetime, str, int, int]]:
    """(start, "open" | "final" | "revised", revision, late events) of a view's windows."""
    rows = db.execute(
        "SELECT window_start, status, revision, late FROM windows WHERE view = ? "
        "ORDER BY window_start",
        (view,),
    )
    return [(datetime.fromisoformat(start), *rest) for start, *rest in rows]


def unjudged(db: sqlite3.Connection, view: str, before: datetime, limit: int) -> list[datetime]:
    """Windows of a view that start before `before` and are open or revised, oldest first."""
    rows = db.execute(
        "SELECT window_start FROM windows WHERE view = ? AND window_start < ? "
        "AND status <> 'final' ORDER BY window_start LIMIT ?",
        (view, text(before), limit),
    )
    return [datetime.fromisoformat(start) for (start,) in rows]


def late(db: sqlite3.Connection, view: str, starts: Sequence[datetime]) -> dict[datetime, int]:
    """How many late events some windows of a view have got so far."""
    rows = db.execute(
        "SELECT window_start, late FROM windows WHERE view = ? "
        "AND window_start IN (SELECT value FROM json_each(?))",
        (view, json.dumps([text(start) for start in starts])),
    )
    return {datetime.fromisoformat(start): count for start, count in rows}


def finish(
    db: sqlite3.Connection,
    view: str,
    starts: Sequence[datetime],
    judged_with: Mapping[datetime, int],
) -> None:
    """Mark windows final; what is final and was never revised needs no note.

    Args:
        judged_with: how many late events a window had when it was judged; one that has got more
            is not final.
    """
    db.executemany(
        "UPDATE windows SET revision = revision + (status = 'revised'), status = 'final' "
        "WHERE view = ? AND window_start = ? AND late = COALESCE(?, late)",
        [(view, text(start), judged_with.get(start)) for start in starts],
    )
    db.execute("DELETE FROM windows WHERE view = ? AND status = 'final' AND revision = 0", (view,))


def alerts(db: sqlite3.Connection, *, unpublished: bool) -> list[Alert]:
    """Alerts raised, oldest first."""
    where = "WHERE published = 0" if unpublished else ""
    rows = db.execute(
        f"SELECT {_ALERT_COLUMNS} FROM alerts {where} "
        "ORDER BY raised_at, window_start, alert_id, revision"
    )
    return [alert_of(row) for row in rows]


def raised(
    db: sqlite3.Connection, view: str, starts: Sequence[datetime]
) -> dict[datetime, set[str]]:
    """Ids of the alerts that were raised before in some windows, by window."""
    rows = db.execute(
        "SELECT DISTINCT window_start, alert_id FROM alerts WHERE view = ? "
        "AND window_start IN (SELECT value FROM json_each(?))",
        (view, json.dumps([text(start) for start in starts])),
    )
    found: dict[datetime, set[str]] = {}
    for start, alert_id in rows:
        found.setdefault(datetime.fromisoformat(start), set()).add(alert_id)
    return found


def changed(db: sqlite3.Connection, alerts: Sequence[Alert]) -> list[Alert]:
    """Those that are new or say something else than their last revision, as its next one."""
    found: list[Alert] = []
    newest: dict[str, tuple[int, str, str]] = {}
    for alert in alerts:
        last = newest.get(alert.alert_id) or _last(db, alert.alert_id)
        if last is None or last[1:] != (alert.level, alert.detail):
            revision = 0 if last is None else last[0] + 1
            newest[alert.alert_id] = (revision, alert.level, alert.detail)
            found.append(replace(alert, revision=revision))
    return found


def _last(db: sqlite3.Connection, alert_id: str) -> tuple[int, str, str] | None:
    """An alert's last (revision, level, detail); None: it was never raised."""
    found: tuple[int, str, str] | None = db.execute(
        "SELECT revision, level, detail FROM alerts WHERE alert_id = ? "
        "ORDER BY revision DESC LIMIT 1",
        (alert_id,),
    ).fetchone()
    return found


def insert(db: sqlite3.Connection, alerts: Sequence[Alert]) -> None:
    """Keep alerts that are new; they are not published yet."""
    db.executemany(
        f"INSERT INTO alerts ({_ALERT_COLUMNS}, published) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        [row_of(alert) for alert in alerts],
    )


def note_published(db: sqlite3.Connection, alerts: Sequence[tuple[str, int]]) -> None:
    """Note that alerts, (id, revision) each, are in the event log."""
    db.executemany(
        "UPDATE alerts SET published = 1 WHERE alert_id = ? AND revision = ?", list(alerts)
    )


def row_of(alert: Alert) -> list[str | int]:
    """An alert as it is stored."""
    return [text(v) if isinstance(v, datetime) else v for v in vars(alert).values()]


def alert_of(row: Sequence[str | int]) -> Alert:
    """An alert of what is stored."""
    alert_id, revision, view, start, end, level, keys, detail, raised_at = map(str, row)
    times = (datetime.fromisoformat(text) for text in (start, end, raised_at))
    start_time, end_time, raised = times
    return Alert(alert_id, int(revision), view, start_time, end_time, level, keys, detail, raised)


def text(time: datetime) -> str:
    """A time as it is stored: naive UTC, sorted as text."""
    return time.isoformat(" ")
