"""The quality gates: how good ingestion is now, was in the last hour and in the last day.

Whatever they say is a share of counts or a quantile of measurements that the gateway and the
speed layer keep by the minute (`playhead.samples`), besides how far behind the speed layer is at
this moment, which is looked up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from playhead.assemble import Workspace
from playhead.config import GateSettings
from playhead.contracts import DIMENSIONS
from playhead.ops.lag import followed_topics, measure_lag, read_positions
from playhead.samples import (
    ACCEPTED,
    DUPLICATES,
    ENRICH_MS,
    EVENTS,
    FILE,
    FOUND,
    FRESHNESS_MS,
    LAG_S,
    LATE,
    LOOKED_UP,
    REJECTED,
    WINDOWED,
    WINDOWED_LATE,
    Totals,
    read_totals,
)

__all__ = ["SPANS", "Gate", "Status", "Value", "measure"]

Status = Literal["pass", "fail", "unknown"]
Comparator = Literal["<=", ">="]

SPANS: Mapping[str, timedelta] = {
    "5 minutes": timedelta(minutes=5),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
"""The stretches of time that every gate is measured over, up to now."""

_P99 = 0.99
_NO_GATEWAY = "no events came through a gateway"
_NO_EVENTS = "the speed layer took no events in"
_NOT_CONTRACT = frozenset({"event_time", "too_large"})
"""Classes of rejected events that fit their contract, and were refused for something else."""


@dataclass(frozen=True)
class Value:
    """A gate over one stretch of time.

    Attributes:
        value: what was measured, in the gate's unit; None if nothing was.
        reason: why it is unknown or fails; empty where it passes.
    """

    value: float | None
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Gate:
    """One promise about ingestion, and how it is kept.

    Attributes:
        meaning: what is measured, in a sentence.
        comparator: how the value has to compare with the limit.
        values: by stretch of time, see `SPANS`.
    """

    name: str
    meaning: str
    limit: float
    comparator: Comparator
    unit: str
    values: Mapping[str, Value]

    @property
    def now(self) -> Value:
        """The value of the shortest stretch in which something was measured."""
        known = (value for value in self.values.values() if value.status != "unknown")
        return next(known, next(iter(self.values.values())))

    @property
    def status(self) -> Status:
        """Whether the gate passes now."""
        return self.now.status


@dataclass(frozen=True)
class _Measured:
    """All that is known of one stretch of time."""

    totals: Totals
    behind_s: float | None


@dataclass(frozen=True)
class _Rule:
    """How a gate is measured.

    Attributes:
        value: the measured value; None if there was nothing to measure.
        missing: why there is nothing, then.
    """

    name: str
    meaning: str
    comparator: Comparator
    unit: str
    limit: Callable[[GateSettings], float]
    value: Callable[[_Measured], float | None]
    missing: str

    def gate(self, settings: GateSettings, measured: Mapping[str, _Measured]) -> Gate:
        limit = self.limit(settings)
        values = {span: self._judge(self.value(one), limit) for span, one in measured.items()}
        return Gate(self.name, self.meaning, limit, self.comparator, self.unit, values)

    def _judge(self, value: float | None, limit: float) -> Value:
        if value is None:
            return Value(None, "unknown", self.missing)
        if value <= limit if self.comparator == "<=" else value >= limit:
            return Value(value, "pass")
        wanted = "at most" if self.comparator == "<=" else "at least"
        return Value(value, "fail", f"{value:.6g} {self.unit}, and {wanted} {limit:g} are wanted")


def measure(workspace: Workspace, now: datetime | None = None) -> list[Gate]:
    """Every gate as of now.

    Args:
        now: naive UTC; the workspace's clock by default.

    Raises:
        WorkspaceError: the samples cannot be read.
    """
    now = now or workspace.clock.now()
    behind_s = _behind_s(workspace, now)
    totals = read_totals(workspace.path / FILE, now, list(SPANS.values()))
    measured = {span: _Measured(each, behind_s) for span, each in zip(SPANS, totals, strict=True)}
    return [rule.gate(workspace.settings.gates, measured) for rule in _RULES]


def _behind_s(workspace: Workspace, now: datetime) -> float | None:
    """How long the oldest event that is not in state yet has waited; None before any event."""
    log, reached = workspace.log, read_positions(workspace.state)
    lags = measure_lag(log, reached, now, followed_topics(log))
    return max(lag.waited_s for lag in lags) if any(lag.end for lag in lags) else None


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _conforming(one: _Measured) -> float | None:
    by_reason = one.totals.by(REJECTED, "reason")
    misfits = sum(count for reason, count in by_reason.items() if reason not in _NOT_CONTRACT)
    whole = one.totals.count(ACCEPTED) + sum(by_reason.values())
    return _percent(whole - misfits, whole)


def _rejected(one: _Measured) -> float | None:
    rejected = one.totals.count(REJECTED)
    return _percent(rejected, one.totals.count(ACCEPTED) + rejected)


def _repeated(one: _Measured) -> float | None:
    repeats = one.totals.count(DUPLICATES)
    return _percent(repeats, one.totals.count(EVENTS) + repeats)


def _enriched(one: _Measured) -> float | None:
    found, asked = one.totals.by(FOUND, "dimension"), one.totals.by(LOOKED_UP, "dimension")
    # What is made of events, such as the ratings of pairs, has no row for most keys.
    loaded = [name for name in asked if name in DIMENSIONS]
    return _percent(sum(found.get(name, 0) for name in loaded), sum(asked[n] for n in loaded))


def _lag(one: _Measured) -> float | None:
    measured = one.totals.distribution(LAG_S).quantile(_P99)
    known = [lag for lag in (measured, one.behind_s) if lag is not None]
    return max(known, default=None)


def _complete(one: _Measured) -> float | None:
    whole = one.totals.count(WINDOWED)
    return _percent(whole - one.totals.count(WINDOWED_LATE), whole)


_RULES: Sequence[_Rule] = (
    _Rule(
        "schema conformance",
        "Events that fit their contract, of all that came to the gateway.",
        ">=",
        "%",
        lambda limits: limits.min_conformance_percent,
        _conforming,
        _NO_GATEWAY,
    ),
    _Rule(
        "rejection rate",
        "Events that went to the dead letters, for whatever reason, of all that came.",
        "<=",
        "%",
        lambda limits: limits.max_rejected_percent,
        _rejected,
        _NO_GATEWAY,
    ),
    _Rule(
        "duplicate rate",
        "Events whose id had come before, of all that the speed layer read.",
        "<=",
        "%",
        lambda limits: limits.max_duplicate_percent,
        _repeated,
        _NO_EVENTS,
    ),
    _Rule(
        "enrichment coverage",
        "Users and titles of events that have a row in their dimension, of all that were looked"
        " up.",
        ">=",
        "%",
        lambda limits: limits.min_enriched_percent,
        _enriched,
        "no key was looked up in a dimension",
    ),
    _Rule(
        "enrichment latency",
        "Time that looking up the keys of a micro-batch took, 99th percentile.",
        "<=",
        "ms",
        lambda limits: limits.max_enrichment_ms,
        lambda one: one.totals.distribution(ENRICH_MS).quantile(_P99),
        "no key was looked up in a dimension",
    ),
    _Rule(
        "freshness",
        "Time from an event's arrival to the commit that makes it count, 99th percentile.",
        "<=",
        "ms",
        lambda limits: limits.max_freshness_ms,
        lambda one: one.totals.distribution(FRESHNESS_MS).quantile(_P99),
        _NO_EVENTS,
    ),
    _Rule(
        "consumer lag",
        "How long the oldest event of a micro-batch had waited, 99th percentile, and how long "
        "the oldest waits now.",
        "<=",
        "s",
        lambda limits: limits.max_lag_seconds,
        _lag,
        "no event ever came",
    ),
    _Rule(
        "window completeness",
        "Events that came before their window was final, of all that fell into a window.",
        ">=",
        "%",
        lambda limits: limits.min_complete_percent,
        _complete,
        "no event fell into a window",
    ),
    _Rule(
        "late events",
        "Events that came after the watermark had passed them; they count all the same.",
        "<=",
        "%",
        lambda limits: limits.max_late_percent,
        lambda one: _percent(one.totals.count(LATE), one.totals.count(EVENTS)),
        _NO_EVENTS,
    ),
)
