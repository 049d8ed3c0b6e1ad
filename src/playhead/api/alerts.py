"""GET /v1/alerts: what windows said as they became final, as a list or as they come."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field

from playhead.api.asking import TimeParam, naive_utc
from playhead.api.problems import ProblemError, answers_with
from playhead.api.service import KeyDep, Service, ServiceDep, may_read
from playhead.errors import KeyRefusedError
from playhead.eventlog import EventLog, next_offset
from playhead.speed.alerts import TOPIC
from playhead.speed.records import Alert

__all__ = ["router"]

router = APIRouter(prefix="/v1", dependencies=[Depends(may_read)], tags=["alerts"])

_LOOK_EVERY_S = 0.25
_BEAT_EVERY_S = 15.0
_STREAMS = 100
_AT_ONCE = 500
_EVENT_STREAM = "text/event-stream"
_ID = re.compile(r"-1|[0-9]{1,18}", re.ASCII)


class AlertInfo(BaseModel):
    """What a window of a view said when it became final."""

    alert_id: str = Field(description="The same for every revision.")
    revision: int = Field(description="A late event that changes what it says makes the next one.")
    view: str
    window_start: datetime
    window_end: datetime
    level: str = Field(examples=["HIGH"])
    keys: dict[str, Any] = Field(description="The row's text columns.")
    detail: dict[str, Any] = Field(description="The row's numbers.")
    raised_at: datetime


class AlertList(BaseModel):
    """Alerts, the newest first."""

    alerts: list[AlertInfo]
    truncated: bool = Field(description="Whether there are older ones that are not shown.")


ViewParam = Annotated[str | None, Query(description="Only of this view.")]
LevelParam = Annotated[str | None, Query(description="Only of this level.", examples=["HIGH"])]
LastIdParam = Annotated[
    str | None, Header(alias="Last-Event-ID", description="Go on after this event of the stream.")
]


@router.get(
    "/alerts",
    response_model=AlertList,
    responses={
        200: {"content": {_EVENT_STREAM: {}}, "description": "Alerts, the newest first."},
        **answers_with(400, 401, 403, 422, 503),
    },
)
async def alerts(
    service: ServiceDep,
    request: Request,
    key: KeyDep,
    since: TimeParam = None,
    level: LevelParam = None,
    view: ViewParam = None,
    limit: Annotated[int, Query(ge=0, le=100_000, description="Alerts at most.")] = 1000,
    last_event_id: LastIdParam = None,
) -> Response:
    """Alerts raised so far; with `Accept: text/event-stream` the same as /v1/alerts/stream."""
    if _EVENT_STREAM in request.headers.get("accept", ""):
        return await stream(service, key, since, level, view, last_event_id)
    start = naive_utc(since, "since")
    found = await service.look(service.workspace.state.alerts)
    kept = [alert for alert in reversed(found) if _is_asked(alert, start, level, view)]
    told = {"alerts": [_told(a) for a in kept[:limit]], "truncated": len(kept) > limit}
    return Response(msgspec.json.encode(told), media_type="application/json")


@router.get(
    "/alerts/stream",
    response_class=StreamingResponse,
    responses={
        200: {"content": {_EVENT_STREAM: {"schema": {"type": "string"}}}, "description": "Events."},
        **answers_with(400, 401, 403, 422, 503),
    },
)
async def stream(
    service: ServiceDep,
    key: KeyDep,
    since: TimeParam = None,
    level: LevelParam = None,
    view: ViewParam = None,
    last_event_id: LastIdParam = None,
) -> StreamingResponse:
    """Alerts as they are raised, as server-sent events named `alert`.

    Begins with what comes from now on, or after `Last-Event-ID` (nothing is lost or repeated, as
    long as the event log keeps it), or at `since`. A comment is sent every 15 seconds. It ends
    when its key is revoked.
    """
    if service.streams >= _STREAMS:
        raise ProblemError(503, f"{_STREAMS} streams are open", headers={"Retry-After": "10"})
    log = service.workspace.log
    start = naive_utc(since, "since")
    at = await service.look(lambda: _begin(log, last_event_id, start))
    return StreamingResponse(
        _events(service, key, at, level, view),
        media_type=_EVENT_STREAM,
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _is_asked(alert: Alert, since: datetime | None, level: str | None, view: str | None) -> bool:
    return (
        (since is None or alert.raised_at >= since)
        and (level is None or alert.level == level)
        and (view is None or alert.view == view)
    )


def _told(alert: Alert) -> dict[str, Any]:
    return _named(vars(alert))


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """An alert with its keys and numbers as objects, and its times in UTC."""
    names = ("alert_id", "revision", "view", "window_start", "window_end", "level")
    told = {name: row[name] for name in names} | {
        "keys": _object(row["keys"]),
        "detail": _object(row["detail"]),
        "raised_at": row["raised_at"],
    }
    return {k: f"{v.isoformat()}Z" if isinstance(v, datetime) else v for k, v in told.items()}


def _object(text: str) -> Any:
    """An object as Python writes it, whose numbers may be none (NaN, infinity): they are null."""
    return json.loads(text, parse_constant=lambda _: None)


# -- as they come --------------------------------------------------------------------------


def _begin(log: EventLog, last_id: str | None, since: datetime | None) -> int:
    """The offset of the first alert to send."""
    if last_id is not None and _ID.fullmatch(last_id) is None:
        raise ProblemError(400, "Last-Event-ID is no id of this stream", hint="A whole number.")
    if TOPIC not in log.topics():
        return 0
    end = log.end_offsets(TOPIC)[0]
    if last_id is not None:
        # An id of a log that is there no more would wait for its number to come again.
        return min(int(last_id) + 1, end)
    if since is not None:
        return log.offset_at(TOPIC, since)[0]
    return end


def _next(log: EventLog, at: int) -> tuple[pa.Table | None, int]:
    """Alerts from an offset on, and the offset after them."""
    if TOPIC not in log.topics():
        return None, at
    first, end = log.start_offsets(TOPIC)[0], log.end_offsets(TOPIC)[0]
    at = max(at, first)
    if at >= end:
        return None, at
    found = log.read(TOPIC, 0, at, max_events=min(_AT_ONCE, end - at))
    return found, next_offset(found, at)


async def _events(
    service: Service, key: str | None, at: int, level: str | None, view: str | None
) -> AsyncIterator[bytes]:
    service.streams += 1
    log, quiet_s = service.workspace.log, 0.0
    try:
        # Who breaks off before the first alert comes again to the same place.
        yield b"retry: 1000\n" + _place(at - 1)
        while not service.stopping.is_set() and _may_go_on(service, key):
            first = at
            found, at = await service.look(lambda start=first: _next(log, start))  # type: ignore[misc]
            if found is not None:
                yield _written(found, at, level, view)
                quiet_s = 0.0
                continue
            if quiet_s >= _BEAT_EVERY_S:
                quiet_s = 0.0
                yield b": beat\n\n"
            quiet_s += _LOOK_EVERY_S
            await _rest(service)
    finally:
        service.streams -= 1


def _may_go_on(service: Service, key: str | None) -> bool:
    """Whether the key may still read; it may have been revoked meanwhile."""
    try:
        service.keys.check(key, "read")
    except KeyRefusedError:
        return False
    return True


def _place(offset: int) -> bytes:
    """An event without data, of which a client only keeps the id."""
    return f"id: {offset}\n\n".encode()


async def _rest(service: Service) -> None:
    """Wait for a moment, or until the service stops."""
    try:
        await asyncio.wait_for(service.stopping.wait(), _LOOK_EVERY_S)
    except TimeoutError:
        return


def _written(found: pa.Table, after: int, level: str | None, view: str | None) -> bytes:
    """Alerts as server-sent events, all before `after`; their ids are their offsets."""
    rows = found.append_column("id", found.column("offset"))
    for name, value in (("level", level), ("view", view)):
        if value is not None:
            rows = rows.filter(pc.equal(rows.column(name), value))
    texts = []
    for row in rows.to_pylist():
        row["raised_at"] = row["event_time"]
        data = msgspec.json.encode(_named(row)).decode()
        texts.append(f"id: {row['id']}\nevent: alert\ndata: {data}\n\n")
    if not texts:
        return _place(after - 1)
    return "".join(texts).encode()
