"""What the speed layer holds in memory of one topic."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from playhead.speed.dedupe import SeenEvents, Unseen
from playhead.speed.judge import Due
from playhead.speed.windows import WindowedView, watermark_of
from playhead.views.leaf import Leaf


@dataclass
class LiveTopic:
    """What the layer holds in memory of one topic."""

    name: str
    leaves: list[tuple[str, Leaf]] = field(default_factory=list)
    windows: list[WindowedView] = field(default_factory=list)
    next: dict[int, int] = field(default_factory=dict)
    seen: SeenEvents | None = None
    loads: int = 0
    unkept: int = 0
    newest: datetime | None = None

    def watermark(self, delay: timedelta) -> datetime | None:
        return None if self.newest is None else watermark_of(self.newest, delay)

    def due(self) -> list[Due]:
        """Which windows have ended by what is committed: what comes to them later is late."""
        marks = [(w, self.watermark(w.view.watermark)) for w in self.windows]
        return [Due(w, w.final_before(mark)) for w, mark in marks if mark is not None]

    @property
    def states(self) -> tuple[str, ...]:
        """The names of its states."""
        return tuple(name for name, _ in self.leaves)


@dataclass(frozen=True)
class Taken:
    """What a micro-batch makes of one topic, to be kept in memory once it is committed."""

    after: dict[int, int]
    unseen: Unseen
    newest: datetime | None
    arrived: datetime
