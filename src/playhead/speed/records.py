"""What the speed layer keeps and commits, as values."""

from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa


@dataclass(frozen=True)
class Position:
    """Where the speed layer is in one topic: one epoch's [first, next) by partition."""

    first: dict[int, int]
    next: dict[int, int]

    @property
    def holds_events(self) -> bool:
        return any(self.next[partition] > first for partition, first in self.first.items())


@dataclass(frozen=True)
class Progress:
    """What has been seen of one topic."""

    max_event_time: datetime | None = None
    events: int = 0
    duplicates: int = 0
    late: int = 0


@dataclass(frozen=True)
class Touched:
    """A window of a view that got events: `late` of them after it was final."""

    view: str
    start: datetime
    late: int = 0


@dataclass(frozen=True)
class Alert:
    """One raised alert; a late event may raise the next revision of it."""

    alert_id: str
    revision: int
    view: str
    window_start: datetime
    window_end: datetime
    level: str
    keys: str
    detail: str
    raised_at: datetime


@dataclass
class MicroBatch:
    """Everything that one trigger commits, at once.

    Attributes:
        next_offsets: by topic, then partition.
        states: (state name, states) of every state that got some.
        dimensions: versions of the dimensions that the states were made with.
        loads: by topic, the last load whose ids count as seen.
    """

    epoch: int
    next_offsets: dict[str, dict[int, int]] = field(default_factory=dict)
    states: list[tuple[str, pa.Table]] = field(default_factory=list)
    dimensions: str = "{}"
    loads: dict[str, int] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)
    windows: list[Touched] = field(default_factory=list)


@dataclass(frozen=True)
class Active:
    """An epoch that holds events of a topic.

    Attributes:
        status: "open", "sealing" or "sealed".
        load: the topic's last load whose ids counted as seen while the epoch took events in.
    """

    epoch: int
    status: str
    load: int


@dataclass(frozen=True)
class StateView:
    """One state as it stood at one moment.

    Attributes:
        since_epoch: the first epoch whose events the state counts; None if it was never kept.
        pruned_to: blocks up to this epoch are gone, because the batch layer covers them.
        active: epochs with events of the state's topic, ascending; those of long ago, which
            every state has from the batch layer, are forgotten.
        made: (epoch, dimension versions) of the blocks, each once.
    """

    since_epoch: int | None
    pruned_to: int
    active: tuple[Active, ...]
    made: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Block:
    """States of one epoch."""

    epoch: int
    states: pa.Table


@dataclass(frozen=True)
class Mergeable:
    """Blocks of one state and epoch that may become one."""

    epoch: int
    level: int
    blocks: tuple[int, ...]
