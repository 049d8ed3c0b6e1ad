"""GET /v1/views, /v1/views/{name} and /v1/coverage: what there is, and what it says."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from playhead.api.asking import (
    FormatParam,
    LimitParam,
    TextNumbersParam,
    TimeParam,
    chosen_format,
    etag_matches,
    naive_utc,
    streamed,
)
from playhead.api.bodies import MEDIA_TYPES, Format, body
from playhead.api.problems import ProblemError, answers_with
from playhead.api.service import Service, ServiceDep, may_read
from playhead.assemble import Workspace
from playhead.errors import CoverageError
from playhead.serving import Answer, Coverage, Span, find_view
from playhead.views import View
from playhead.views.leaf import Window

__all__ = ["router"]

router = APIRouter(prefix="/v1", dependencies=[Depends(may_read)], tags=["views"])

_DEFAULT_ROWS = 10_000
_OWN = frozenset({"since", "until", "limit", "offset", "format", "text_numbers"})


class ColumnInfo(BaseModel):
    """One column of a view."""

    name: str = Field(examples=["sessions"])
    type: str = Field(description="DuckDB's type.", examples=["BIGINT"])
    description: str = Field("", description="Meaning and unit, from the view's comment.")
    filter: bool = Field(description="Whether `?name=value` chooses rows by it.")


class WindowInfo(BaseModel):
    """The window of event time by which a view groups."""

    column: str = Field(description="The column with the window's start.")
    width: int = Field(description="How many units long it is.", examples=[300])
    unit: str = Field(description="second, month, quarter or year.", examples=["second"])


class ViewInfo(BaseModel):
    """A view: one SELECT over events."""

    name: str = Field(examples=["engagement_health"])
    description: str
    owner: str
    columns: list[ColumnInfo]
    keys: list[str] = Field(description="Columns that tell the rows of a window apart.")
    window: WindowInfo | None
    watermark_seconds: float = Field(description="How long a window waits for late events.")
    topics: list[str] = Field(description="Topics whose events it counts.")
    dimensions: list[str] = Field(description="Dimensions that it looks up.")
    ready: bool = Field(description="Whether it has an exact answer now.")
    reason: str = Field("", description="Why it has none.")


class ViewList(BaseModel):
    """Every view."""

    views: list[ViewInfo]


class CoverageInfo(BaseModel):
    """What one state of a view is made of."""

    topic: str
    batch_epoch: int = Field(description="Epochs up to this one come from the batch layer.")
    loads: int = Field(description="Loads up to this one come from the batch layer.")
    speed_epochs: list[int] = Field(description="Epochs that come from the speed layer.")
    dimensions: dict[str, int] = Field(description="Versions that batch states were made with.")
    mixed: bool = Field(description="Some states were made with another version of a dimension.")


class ViewCoverage(BaseModel):
    """What a view's answer would be made of now."""

    view: str
    ready: bool
    reason: str = ""
    watermark: datetime | None = Field(description="Windows up to this time (UTC) are final.")
    coverage: list[CoverageInfo]


class CoverageList(BaseModel):
    """Every view's coverage."""

    views: list[ViewCoverage]


class AnswerColumn(BaseModel):
    """One column of an answer."""

    name: str
    type: str = Field(description="Arrow's type.")


class WindowState(BaseModel):
    """A window of the rows that are shown."""

    window_start: datetime
    window_end: datetime
    is_final: bool = Field(description="Whether it ended by the watermark.")
    revision: int = Field(description="How often late events changed it after that.")
    late_events: int


class ViewAnswer(BaseModel):
    """A view's merged answer as of one moment."""

    view: str
    columns: list[AnswerColumn]
    watermark: datetime | None
    coverage: list[CoverageInfo]
    windows: list[WindowState] = Field(description="Windows of the rows shown; [] without any.")
    total: int = Field(description="Rows that the filters leave.")
    offset: int
    count: int = Field(description="Rows shown.")
    truncated: bool = Field(description="Whether rows follow the last one shown.")
    rows: list[dict[str, Any]]


@router.get("/views", response_model=ViewList, responses=answers_with(401, 403, 503))
async def list_views(service: ServiceDep, request: Request) -> ViewList:
    """Every view: its columns, keys, window and sources, and whether it has an answer now."""
    return await service.answer(lambda: _listed(service.workspace), request.is_disconnected)


@router.get("/coverage", response_model=CoverageList, responses=answers_with(401, 403, 503))
async def coverage(service: ServiceDep, request: Request) -> CoverageList:
    """What each view's answer is made of now: batch up to here, speed from there."""
    return await service.answer(lambda: _covered(service.workspace), request.is_disconnected)


@router.get(
    "/views/{name}",
    response_model=ViewAnswer,
    responses={
        200: {
            "content": {MEDIA_TYPES[Format.CSV]: {}, MEDIA_TYPES[Format.ARROW]: {}},
            "description": "The rows; CSV and Arrow tell the rest in Playhead-... headers.",
        },
        304: {"description": "The answer is the one that `If-None-Match` names."},
        **answers_with(400, 401, 403, 404, 406, 409, 422, 503, 504, 507),
    },
)
async def show_view(
    service: ServiceDep,
    request: Request,
    name: Annotated[str, Path(description="The view's name.", examples=["engagement_health"])],
    since: TimeParam = None,
    until: TimeParam = None,
    limit: LimitParam = None,
    offset: Annotated[int, Query(ge=0, description="Rows to leave out at first.")] = 0,
    asked_format: FormatParam = None,
    text_numbers: TextNumbersParam = False,
) -> Response:
    """A view's answer, batch and speed merged: exact, as of now.

    Any other parameter is a filter: `?country=USA&country=Canada` keeps rows whose `country` is
    one of both. `since` and `until` keep windows that start in [since, until). Rows are in the
    view's own order, else the newest window comes first.
    """
    kind = chosen_format(asked_format, request)
    asked = _Asked(
        name,
        _span(naive_utc(since, "since"), naive_utc(until, "until")),
        _filters(request),
        offset,
        min(_DEFAULT_ROWS if limit is None else limit, service.settings.query_rows),
    )
    known = request.headers.get("if-none-match")
    found = await service.answer(
        lambda: _answered(service, asked, (kind, text_numbers), request, known),
        request.is_disconnected,
    )
    if isinstance(found, str):
        return Response(status_code=304, headers={"ETag": found})
    etag, page, told = found
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept"}
    if kind is not Format.JSON:
        headers |= _headers(told)
    return streamed(body(page, kind, told, text=text_numbers), kind, headers)


# -- which rows ----------------------------------------------------------------------------


class _Asked(msgspec.Struct, frozen=True):
    """The rows that a request wants."""

    name: str
    within: Span | None
    filters: Mapping[str, Sequence[str]]
    offset: int
    limit: int


def _filters(request: Request) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        if name not in _OWN:
            found.setdefault(name, []).append(value)
    return found


def _span(since: datetime | None, until: datetime | None) -> Span | None:
    if since is None and until is None:
        return None
    start, end = since or Span().start, until or Span().end
    if end <= start:
        raise ProblemError(400, f"until ({end}) is not after since ({start})")
    return Span(start, end)


def _answered(
    service: Service, asked: _Asked, form: tuple[Format, bool], request: Request, known: str | None
) -> "str | tuple[str, pa.Table, dict[str, Any]]":
    """The tag, the rows and what is told of them; the tag alone if the client has them."""
    workspace = service.workspace
    view = find_view(workspace.views, asked.name)
    _check_filters(view, asked.filters)
    if asked.within is not None and view.window is None:
        raise ProblemError(400, f"view {view.name} has no window of event time: no since or until")
    before = _etag(workspace, view, asked, form)
    if known and etag_matches(request, before):
        return before
    bounds = {} if asked.within is None else vars(asked.within)
    answer = workspace.view(view.name, since=bounds.get("start"), until=bounds.get("end"))
    rows = _in_order(view, _kept(answer.to_arrow(), asked.filters))
    page = rows.slice(asked.offset, asked.limit)
    told = _told(answer, page) | {
        "total": rows.num_rows,
        "offset": asked.offset,
        "count": page.num_rows,
        "truncated": asked.offset + page.num_rows < rows.num_rows,
    }
    return before, page, told


def _etag(workspace: Workspace, view: View, asked: _Asked, form: tuple[Format, bool]) -> str:
    """Names the answer's basis before it is made: newer rows under an old name do no harm."""
    parts = (
        view.hash,
        workspace.session.identity(view, asked.within),
        workspace.watermark(view),
        workspace.state.windows(view.name),
        (asked.within, sorted(asked.filters.items()), asked.offset, asked.limit, form),
    )
    return f'W/"{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"'


def _filterable(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_floating(kind) or pa.types.is_binary(kind))


def _check_filters(view: View, filters: Mapping[str, Sequence[str]]) -> None:
    for name in filters:
        if name not in view.columns:
            raise ProblemError(
                400,
                f"view {view.name} has no column {name[:100]!r}",
                hint=f"There are {', '.join(view.columns)}; and {', '.join(sorted(_OWN))}.",
            )


def _kept(table: pa.Table, filters: Mapping[str, Sequence[str]]) -> pa.Table:
    """Rows whose columns each have one of the values asked for."""
    for name, values in filters.items():
        column = table.column(name)
        if not _filterable(column.type):
            raise ProblemError(400, f"column {name} is {column.type}: no filter is offered")
        try:
            wanted = pa.array(values, pa.string()).cast(column.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ProblemError(400, f"{name} is {column.type}: {error}") from error
        table = table.filter(pc.is_in(column, wanted))
    return table


def _in_order(view: View, table: pa.Table) -> pa.Table:
    """By the view's own ORDER BY, or the newest window first, then by the other columns."""
    if view.plans.ordered or not table.num_rows:
        return table
    window = view.window.key if view.window else None
    plain = [f.name for f in table.schema if not pa.types.is_nested(f.type) and f.name != window]
    order = [(window, "descending")] if window in table.column_names else []
    order += [(name, "ascending") for name in plain]
    return table.sort_by(order) if order else table


# -- what is told --------------------------------------------------------------------------


def _told(answer: Answer, page: pa.Table) -> dict[str, Any]:
    shown = Answer(answer.view, page, answer.coverage, answer.watermark, answer.revisions)
    return {
        "view": answer.view.name,
        "columns": [{"name": f.name, "type": str(f.type)} for f in page.schema],
        "watermark": _zulu(answer.watermark),
        "coverage": [_of(part).model_dump() for part in answer.coverage],
        "windows": [] if answer.view.window is None else _window_states(shown),
    }


def _window_states(answer: Answer) -> list[dict[str, Any]]:
    return [
        row | {name: _zulu(row[name]) for name in ("window_start", "window_end")}
        for row in answer.windows().to_pylist()
    ]


def _headers(told: Mapping[str, Any]) -> dict[str, str]:
    """What JSON says beside the rows, for formats that hold nothing else."""
    still = [row["window_start"] for row in told["windows"] if not row["is_final"]]
    return {
        "Playhead-Watermark": told["watermark"] or "",
        "Playhead-Coverage": json.dumps(told["coverage"], separators=(",", ":")),
        "Playhead-Open-Windows": str(len(still)),
        "Playhead-First-Open-Window": min(still, default=""),
        "Playhead-Total": str(told["total"]),
        "Playhead-Truncated": str(told["truncated"]).lower(),
    }


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)


def _zulu(time: datetime | None) -> str | None:
    return None if time is None else f"{time.isoformat()}Z"


def _of(part: Coverage) -> CoverageInfo:
    return CoverageInfo(
        topic=part.topic,
        batch_epoch=part.batch_epoch,
        loads=part.loads,
        speed_epochs=list(part.speed_epochs),
        dimensions=dict(part.dimensions),
        mixed=part.mixed,
    )


def _covered(workspace: Workspace) -> CoverageList:
    found = []
    for view in workspace.views.values():
        parts: tuple[Coverage, ...] = ()
        reason = ""
        try:
            parts = workspace.session.coverage(view)
        except CoverageError as error:
            reason = error.message
        found.append(
            ViewCoverage(
                view=view.name,
                ready=not reason,
                reason=reason,
                watermark=_utc(workspace.watermark(view)),
                coverage=[_of(part) for part in parts],
            )
        )
    return CoverageList(views=found)


def _listed(workspace: Workspace) -> ViewList:
    return ViewList(
        views=[_info(each.view, each.ready, each.reason) for each in workspace.statuses()]
    )


def _info(view: View, ready: bool, reason: str) -> ViewInfo:
    header, window = view.header, view.window
    columns = [
        ColumnInfo(
            name=name,
            type=kind,
            description=header.columns.get(name, ""),
            filter=not kind.endswith("]") and not kind.startswith(("STRUCT", "MAP", "DOUBLE")),
        )
        for name, kind in view.plans.columns
    ]
    return ViewInfo(
        name=view.name,
        description=header.description,
        owner=header.owner,
        columns=columns,
        keys=list(view.keys),
        window=None if window is None else _window_info(window),
        watermark_seconds=view.watermark.total_seconds(),
        topics=list(view.topics),
        dimensions=list(view.plans.dimensions),
        ready=ready,
        reason=reason,
    )


def _window_info(window: Window) -> WindowInfo:
    return WindowInfo(column=window.key, width=window.width, unit=window.unit)
