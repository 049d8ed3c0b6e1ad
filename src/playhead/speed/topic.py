"""What the speed layer holds in memory of one topic."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pyarrow as pa

from playhead.errors import StateError
from playhead.speed.coding import Coder
from playhead.speed.dedupe import SeenEvents, Unseen
from playhead.speed.enrich import Enricher
from playhead.speed.intake import Intake, Plan, Taker
from playhead.speed.judge import Due
from playhead.speed.windows import WindowedView, watermark_of
from playhead.views.leaf import Leaf


@dataclass
class LiveTopic:
    """What the layer holds in memory of one topic."""

    name: str
    taker: Taker
    leaves: list[tuple[str, Leaf]] = field(default_factory=list)
    windows: list[WindowedView] = field(default_factory=list)
    next: dict[int, int] = field(default_factory=dict)
    seen: SeenEvents | None = None
    loads: int = 0
    unkept: int = 0
    newest: datetime | None = None
    plan: Plan | None = None

    def watermark(self, delay: timedelta) -> datetime | None:
        return None if self.newest is None else watermark_of(self.newest, delay)

    def due(self) -> list[Due]:
        """Which windows have ended by what is committed: what comes to them later is late."""
        marks = [(w, self.watermark(w.view.watermark)) for w in self.windows]
        return [Due(w, w.final_before(mark)) for w, mark in marks if mark is not None]

    def make_plan(self, dimensions: Mapping[str, pa.Table]) -> None:
        """Plan to read and to keep what the leaves need."""
        leaves = [leaf for _, leaf in self.leaves]
        enricher = Enricher(leaves, dimensions)
        own = {"event_time", *(c for leaf in leaves for c in leaf.event_columns)}
        keys = {event for leaf in leaves for k in leaf.lookups for event, _ in k.on}
        self.plan = Plan(
            self.name,
            states=tuple(name for name, _ in self.leaves),
            read=tuple(sorted(own | keys | {"event_id"})),
            kept=(*sorted(own), *enricher.columns),
            enricher=enricher,
            coder=Coder(),
        )

    def take(self) -> Intake | None:
        """What is new in the event log; None if nothing is."""
        if self.plan is None:
            raise StateError("the speed layer was not started")
        return self.taker.take(self.plan, self.next)


@dataclass(frozen=True)
class Taken:
    """What a micro-batch makes of one topic, to be kept in memory once it is committed."""

    after: dict[int, int]
    unseen: Unseen
    newest: datetime | None
    arrived: datetime
