"""Errors as RFC 9457 problem documents."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from playhead.api.cells import AllBusyError
from playhead.errors import (
    CoverageError,
    KeyRefusedError,
    PlayheadError,
    QueryError,
    QueryMemoryError,
    QueryTimeoutError,
    UnknownViewError,
)

__all__ = ["MEDIA_TYPE", "Problem", "ProblemError", "answer_to", "answers_with", "install"]

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

_STATUSES: tuple[tuple[type[PlayheadError], HTTPStatus], ...] = (
    (UnknownViewError, HTTPStatus.NOT_FOUND),
    (CoverageError, HTTPStatus.CONFLICT),
    (QueryTimeoutError, HTTPStatus.GATEWAY_TIMEOUT),
    (QueryMemoryError, HTTPStatus.INSUFFICIENT_STORAGE),
    (AllBusyError, HTTPStatus.SERVICE_UNAVAILABLE),
    (QueryError, HTTPStatus.BAD_REQUEST),
)
_MEANINGS = {
    400: "A parameter or the query cannot be used; `detail` says why.",
    401: "A key with scope read is needed.",
    403: "The key has no scope read.",
    404: "There is no such view.",
    406: "None of the media types that `Accept` names is offered.",
    408: "The body was not whole in time.",
    409: "The view has no exact answer now: it waits for the batch layer.",
    413: "The body is larger than any query may be.",
    422: "A parameter or the body has another form; `errors` names the places.",
    500: "Something failed that is not the request's fault.",
    503: "Too many queries run and wait; see Retry-After.",
    504: "The query took longer than it may, and was ended.",
    507: "The query needs more memory than it may have.",
}


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field("about:blank", description="Always about:blank: the status says it all.")
    title: str = Field(description="The status in words.", examples=["Bad Request"])
    status: int = Field(description="The HTTP status.", examples=[400])
    detail: str = Field(description="What happened, and where.", examples=["no relation playbacks"])
    hint: str | None = Field(
        None, description="What can be done about it.", examples=["Did you mean playback?"]
    )
    errors: list[dict[str, Any]] | None = Field(
        None, description="Each place of the request that cannot be used."
    )


class ProblemError(Exception):
    """Ends a request with a problem document."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.hint = status, detail, hint
        self.headers = dict(headers or {})


def answers_with(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer with, for its OpenAPI description."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Answer every error by a problem document."""
    for kind in (ProblemError, PlayheadError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _answer)


def _document(
    status: int,
    detail: str,
    hint: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    told |= {"detail": detail, **({"hint": hint} if hint else {}), **more}
    return Response(
        msgspec.json.encode(told), status, headers=dict(headers or {}), media_type=MEDIA_TYPE
    )


async def _answer(_request: Request, error: Exception) -> Response:
    return answer_to(error)


def answer_to(error: Exception) -> Response:
    """The problem document of any error."""
    if isinstance(error, ProblemError):
        return _document(error.status, error.detail, error.hint, headers=error.headers)
    if isinstance(error, PlayheadError):
        return _of_playhead(error)
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    if isinstance(error, HTTPException):
        return _document(error.status_code, str(error.detail), headers=error.headers)
    logger.error("a request failed", exc_info=error)
    return _document(500, "something failed that is not the request's fault; the log says what")


def _of_playhead(error: PlayheadError) -> Response:
    headers = {}
    status = _status(error)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="playhead"'
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "1"
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("a request failed", exc_info=error)
    return _document(status, error.message, error.hint, headers=headers)


def _status(error: PlayheadError) -> int:
    if isinstance(error, KeyRefusedError):
        return error.status
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    retryable = error.retryable
    return HTTPStatus.SERVICE_UNAVAILABLE if retryable else HTTPStatus.INTERNAL_SERVER_ERROR


def _of_validation(error: RequestValidationError) -> Response:
    places = [
        {"place": ".".join(str(part) for part in found["loc"]), "message": found["msg"]}
        for found in error.errors()
    ]
    detail = "; ".join(f"{each['place']}: {each['message']}" for each in places[:5])
    return _document(422, detail or "the request has another form", errors=places)
