"""Alerts: what a window said when it became final, kept once and published once."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from playhead.eventlog import EventLog, next_offset
from playhead.speed.records import Alert
from playhead.speed.state import StateStore
from playhead.speed.windows import WindowedView, end_of
from playhead.views import View

logger = logging.getLogger(__name__)

TOPIC = "alerts"
LEVEL = "alert_level"
QUIET = "LOW"
SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("event_time", pa.timestamp("us"), nullable=False),
        pa.field("alert_id", pa.string(), nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("view", pa.string(), nullable=False),
        pa.field("window_start", pa.timestamp("us"), nullable=False),
        pa.field("window_end", pa.timestamp("us"), nullable=False),
        pa.field("level", pa.string(), nullable=False),
        pa.field("keys", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)

Judge = Callable[[View, Sequence[datetime]], pa.Table]
"""Rows of a view's merged answer in some windows."""


class Alerter:
    """Raises alerts of views that have an `alert_level` column, as their windows become final.

    An alert is identified by its view, window and the text columns of its row; it is raised
    again, as the next revision, when a late event changes what it says.
    """

    def __init__(self, log: EventLog, state: StateStore, judge: Judge) -> None:
        self._log = log
        self._state = state
        self._judge = judge

    def start(self) -> None:
        """Publish what a dead process raised and did not publish."""
        self._log.create_topic(TOPIC, SCHEMA, partitions=1)
        self._publish()

    def finish(self, windowed: WindowedView, windows: Sequence[datetime], now: datetime) -> int:
        """Make windows final and raise their alerts; how many were raised.

        A window that gets events meanwhile is not final yet.

        Raises:
            CoverageError: the view has no exact answer now; its windows stay as they are.
        """
        # Counted before the answer is made: whatever comes in between shows in the counts.
        late = self._state.late(windowed.view.name, windows)
        alerts = self._alerts(windowed, windows, now) if LEVEL in windowed.view.columns else []
        raised = self._state.raise_alerts(windowed.view.name, windows, alerts, late=late)
        if raised:
            self._publish()
        return len(raised)

    def _alerts(
        self, windowed: WindowedView, windows: Sequence[datetime], now: datetime
    ) -> list[Alert]:
        """What the windows say: whatever is loud, and what is quiet now and was not before."""
        rows = self._judge(windowed.view, windows)
        level = rows.column(LEVEL)
        loud = pc.fill_null(pc.not_equal(level, QUIET), False)
        alerts = [self._alert(windowed, row, now) for row in rows.filter(loud).to_pylist()]
        before = self._state.raised(windowed.view.name, windows)
        if before:
            starts = pa.array(list(before), pa.timestamp("us"))
            key = rows.column(windowed.window.key).cast(pa.timestamp("us"))
            quiet = rows.filter(pc.and_(pc.invert(loud), pc.is_in(key, starts)))
            calmed = [self._alert(windowed, row, now) for row in quiet.to_pylist()]
            known = set().union(*before.values())
            alerts += [alert for alert in calmed if alert.alert_id in known]
        return alerts

    def _alert(self, windowed: WindowedView, row: dict[str, Any], now: datetime) -> Alert:
        start = _instant(row.pop(windowed.window.key))
        level = row.pop(LEVEL)
        keys = {k: v for k, v in row.items() if not isinstance(v, (int, float, Decimal))}
        detail = {k: v for k, v in row.items() if k not in keys}
        text = json.dumps(keys, sort_keys=True, default=str)
        name = f"{windowed.view.name}|{start.isoformat()}|{text}"
        return Alert(
            alert_id=hashlib.sha256(name.encode()).hexdigest()[:24],
            revision=0,
            view=windowed.view.name,
            window_start=start,
            window_end=end_of(start, windowed.window),
            level=level or QUIET,
            keys=text,
            detail=json.dumps(detail, default=str),
            raised_at=now,
        )

    def _publish(self) -> None:
        """Put every alert that was raised into the event log, unless it is there already."""
        if not self._state.alerts(unpublished=True):
            return
        # Held: a layer that was stopped in here would publish what the next one has published.
        with self._state.held():
            waiting = self._state.alerts(unpublished=True)
            there = self._published_ids()
            new = [alert for alert in waiting if _event_id(alert) not in there]
            if new:
                self._log.append(TOPIC, _table(new), key="alert_id")
            self._state.published(waiting, self._log.end_offsets(TOPIC))

    def _published_ids(self) -> set[str]:
        """Ids in the topic after the offsets that were last noted as published."""
        found: set[str] = set()
        noted = self._state.published_to()
        for partition, end in self._log.end_offsets(TOPIC).items():
            offset = max(noted.get(partition, 0), self._log.start_offsets(TOPIC)[partition])
            while offset < end:
                events = self._log.read(TOPIC, partition, offset, columns=["event_id"])
                found.update(events.column("event_id").to_pylist())
                offset = next_offset(events, offset)
        return found


def _instant(start: date) -> datetime:
    """A window's start, which is a DATE in a view that truncates to days or months."""
    return start if isinstance(start, datetime) else datetime.combine(start, time.min)


def _event_id(alert: Alert) -> str:
    return f"{alert.alert_id}-{alert.revision}"


def _table(alerts: Sequence[Alert]) -> pa.Table:
    rows = [
        {
            "event_id": _event_id(a),
            "event_type": "alert",
            "event_time": a.raised_at,
            "alert_id": a.alert_id,
            "revision": a.revision,
            "view": a.view,
            "window_start": a.window_start,
            "window_end": a.window_end,
            "level": a.level,
            "keys": a.keys,
            "detail": a.detail,
        }
        for a in alerts
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)
