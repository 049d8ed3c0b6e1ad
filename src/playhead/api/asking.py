"""What a request asks for: its format, its times, its rows; and the answer in that format."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from playhead.api.bodies import MEDIA_TYPES, Format
from playhead.api.problems import ProblemError

__all__ = [
    "FormatParam",
    "LimitParam",
    "TextNumbersParam",
    "TimeParam",
    "chosen_format",
    "etag_matches",
    "naive_utc",
    "streamed",
]

FormatParam = Annotated[
    Format | None,
    Query(alias="format", description="How rows are written; else as `Accept` says, else JSON."),
]
TimeParam = Annotated[
    datetime | None,
    Query(description="ISO 8601; without an offset it is UTC.", examples=["2025-06-01T18:00:00Z"]),
]
LimitParam = Annotated[int | None, Query(ge=0, description="Rows at most.")]
TextNumbersParam = Annotated[
    bool,
    Query(
        description="DECIMALs and 64-bit integers as text, for clients whose numbers are doubles "
        "(JavaScript); else they are JSON numbers with all their digits."
    ),
]
_ANY = ("*/*", "application/*")


def chosen_format(asked: Format | None, request: Request) -> Format:
    """The format by the parameter, else by `Accept`, else JSON.

    Raises:
        ProblemError: 406, nothing of what is accepted is offered.
    """
    if asked is not None:
        return asked
    accepted = request.headers.get("accept", "*/*")
    wanted = sorted(
        (part for part in (_weighed(text) for text in accepted.split(",")) if part[1] > 0),
        key=lambda part: -part[1],
    )
    for media, _ in wanted:
        found = [kind for kind, name in MEDIA_TYPES.items() if name == media]
        if found or media in _ANY:
            return found[0] if found else Format.JSON
        if media == "text/*":
            return Format.CSV
    raise ProblemError(
        406, f"nothing of {accepted[:200]!r} is offered", hint=", ".join(MEDIA_TYPES.values())
    )


def _weighed(text: str) -> tuple[str, float]:
    """A media type of an Accept header, and how much it is wanted."""
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media, float(value)
            except ValueError:
                return media, 0.0
    return media, 1.0


def naive_utc(time: datetime | None, name: str) -> datetime | None:
    """A time of the request as Playhead keeps times.

    Raises:
        ProblemError: 400, beyond the years 1 to 9999.
    """
    if time is None or time.tzinfo is None:
        return time
    try:
        return time.astimezone(UTC).replace(tzinfo=None)
    except OverflowError as error:
        raise ProblemError(400, f"{name}: {time} is no time of the years 1 to 9999") from error


def etag_matches(request: Request, etag: str) -> bool:
    """Whether the client has this answer already."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or etag in (part.strip() for part in known.split(","))


class _Released(StreamingResponse):
    """Tells when it is over: sent, broken off, or never begun."""

    release: Callable[[], None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.release is not None:
                self.release()


def streamed(
    pieces: Iterator[bytes | memoryview] | AsyncIterator[bytes],
    kind: Format,
    headers: Mapping[str, str],
    release: Callable[[], None] | None = None,
) -> Response:
    """An answer whose rows are written while they are sent.

    Args:
        release: called at its end, whatever happened.
    """
    content = pieces if isinstance(pieces, AsyncIterator) else _apart(pieces)
    response = _Released(content, headers=dict(headers), media_type=MEDIA_TYPES[kind])
    response.release = release
    return response


async def _apart(pieces: Iterator[bytes | memoryview]) -> AsyncIterator[bytes]:
    """Make each piece in a thread, so that the others' requests go on."""
    while True:
        piece = await asyncio.to_thread(next, pieces, None)
        if piece is None:
            return
        yield bytes(piece)
