"""/healthz, /readyz, /metrics and the description of the API."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from playhead.api.problems import ProblemError, answers_with
from playhead.api.service import ServiceDep, may_read
from playhead.errors import PlayheadError

__all__ = ["router"]

router = APIRouter(tags=["operation"])


class Health(BaseModel):
    """The process is there."""

    status: str = Field(examples=["ok"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=Health)
async def healthz() -> Health:
    """Whether the process is alive."""
    return Health(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_model=Health, responses=answers_with(503))
async def readyz(service: ServiceDep) -> Health:
    """Whether questions can be answered: event log, speed state and lake can be read."""
    try:
        await service.readiness.check()
    except PlayheadError as error:
        raise ProblemError(503, error.message, hint=error.hint, headers={"Retry-After": "1"}) from (
            error
        )
    return Health(status="ok")


@router.get(
    "/metrics",
    response_class=Response,
    dependencies=[Depends(may_read)],
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics."},
        **answers_with(401, 403, 503),
    },
)
async def metrics(service: ServiceDep) -> Response:
    """The workspace, its gates, the gateway and this process, for Prometheus."""
    text = await service.look(service.exposition.text)
    return Response(text, headers={"Content-Type": service.exposition.content_type})


@router.get("/openapi.json", include_in_schema=False, dependencies=[Depends(may_read)])
async def openapi(request: Request) -> JSONResponse:
    """The description of this API."""
    described: dict[str, Any] = request.app.openapi()
    return JSONResponse(described)
