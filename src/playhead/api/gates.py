"""GET /v1/gates: how good ingestion is now, was in the last hour and in the last day."""

from typing import Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from playhead.api.problems import answers_with
from playhead.api.service import ServiceDep, may_read
from playhead.ops.gates import Gate, Status, measure

__all__ = ["router"]

router = APIRouter(prefix="/v1", dependencies=[Depends(may_read)], tags=["gates"])


class SpanInfo(BaseModel):
    """A gate over one stretch of time up to now."""

    span: str = Field(examples=["5 minutes"])
    value: float | None = Field(description="What was measured; null if nothing was.")
    status: Status
    reason: str = Field(description="Why it fails or is unknown; empty where it passes.")


class GateInfo(BaseModel):
    """One promise about ingestion, and how it is kept."""

    name: str = Field(examples=["freshness"])
    meaning: str
    status: Status = Field(description="Of the shortest span in which something was measured.")
    limit: float
    comparator: Literal["<=", ">="] = Field(description="How a value has to compare with `limit`.")
    unit: str = Field(description="Of limit and values.", examples=["ms"])
    spans: list[SpanInfo] = Field(description="The shortest first.")


class GateList(BaseModel):
    """All gates."""

    status: Status = Field(
        description="fail if a gate fails; else pass if one passes; else unknown."
    )
    gates: list[GateInfo]


@router.get("/gates", response_model=GateList, responses=answers_with(401, 403, 503))
async def gates(service: ServiceDep) -> GateList:
    """Every quality gate of ingestion: its limit, what was measured, and whether it is kept."""
    measured = await service.look(lambda: measure(service.workspace))
    found = {gate.status for gate in measured}
    worst: Status = "fail" if "fail" in found else "pass" if "pass" in found else "unknown"
    return GateList(status=worst, gates=[_info(gate) for gate in measured])


def _info(gate: Gate) -> GateInfo:
    spans = [
        SpanInfo(span=span, value=one.value, status=one.status, reason=one.reason)
        for span, one in gate.values.items()
    ]
    return GateInfo(
        name=gate.name,
        meaning=gate.meaning,
        status=gate.status,
        limit=gate.limit,
        comparator=gate.comparator,
        unit=gate.unit,
        spans=spans,
    )
