"""POST /v1/query: SQL of strangers, in the jail."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from playhead.api.asking import FormatParam, chosen_format, streamed
from playhead.api.bodies import MEDIA_TYPES, Format
from playhead.api.cellwire import Question
from playhead.api.problems import answers_with
from playhead.api.service import ServiceDep, may_read
from playhead.api.views import AnswerColumn
from playhead.serving.jail import MAX_QUERY_CHARACTERS

__all__ = ["router"]

router = APIRouter(prefix="/v1", dependencies=[Depends(may_read)], tags=["query"])


class QueryRequest(BaseModel):
    """One query."""

    model_config = ConfigDict(extra="forbid")

    sql: str = Field(
        max_length=MAX_QUERY_CHARACTERS,
        description="One SELECT in DuckDB's dialect over topics, dimensions and views.",
        examples=["SELECT country, SUM(sessions) AS sessions FROM engagement_health GROUP BY ALL"],
    )
    limit: int | None = Field(
        None, ge=0, le=1_000_000_000, description="Rows at most; the setting is the upper bound."
    )
    text_numbers: bool = Field(False, description="DECIMALs and 64-bit integers as text.")


class QueryAnswer(BaseModel):
    """The rows of a query."""

    columns: list[AnswerColumn]
    count: int
    truncated: bool = Field(description="Whether there were more rows than were allowed.")
    rows: list[dict[str, Any]]


@router.post(
    "/query",
    response_model=QueryAnswer,
    responses={
        200: {
            "content": {MEDIA_TYPES[Format.CSV]: {}, MEDIA_TYPES[Format.ARROW]: {}},
            "description": "The rows; CSV and Arrow tell the rest in Playhead-... headers.",
        },
        **answers_with(400, 401, 403, 406, 408, 409, 413, 422, 503, 504, 507),
    },
)
async def query(
    service: ServiceDep, request: Request, asked: QueryRequest, asked_format: FormatParam = None
) -> Response:
    """Answer a SELECT. It reads relations by their names, and nothing else of the machine.

    A query that takes too long, or whose client goes away, is ended.
    """
    kind = chosen_format(asked_format, request)
    most = service.settings.query_rows
    question = Question(
        sql=asked.sql,
        rows=most if asked.limit is None else min(asked.limit, most),
        seconds=service.settings.query_seconds,
        format=kind.value,
        text_numbers=asked.text_numbers,
    )
    reply = await service.cells.ask(question, request.is_disconnected)
    headers = {
        "Cache-Control": "no-store",
        "Playhead-Total": str(reply.head.count),
        "Playhead-Truncated": str(reply.head.truncated).lower(),
    }
    return streamed(reply.pieces(), kind, headers, reply.release)
