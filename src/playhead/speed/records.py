"""What the speed layer keeps and commits, as values."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import pyarrow as pa

from playhead.speed.blocks import encode


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
    events: int = field(default=0, compare=False)


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


Kind = Literal["events", "states"]
"""What a block holds: events of the wide topic as they came, or partial states."""


@dataclass(frozen=True)
class Part:
    """Rows that count for some states.

    Attributes:
        states: their names.
        rows: events of the wide topic for all of them, or states of the one that there is.
        first_us, last_us: microseconds since 1970 of the first and the last event in it; None
            where no event has a time.
    """

    states: tuple[str, ...]
    rows: pa.Table
    kind: Kind = "events"
    first_us: int | None = None
    last_us: int | None = None


@dataclass(frozen=True)
class Encoded:
    """A part as it is stored: its rows as bytes, and their CRC-32."""

    part: Part
    body: bytes
    crc32: int

    @classmethod
    def of(cls, part: Part) -> "Encoded":
        """Encode a part, which is best done before a transaction begins."""
        return cls(part, *encode(part.rows))


@dataclass
class MicroBatch:
    """Everything that one trigger commits, at once.

    Attributes:
        next_offsets: by topic, then partition.
        parts: what it adds to states.
        dimensions: versions of the dimensions that the events were widened with.
        loads: by topic, the last load whose ids count as seen.
    """

    epoch: int
    next_offsets: dict[str, dict[int, int]] = field(default_factory=dict)
    parts: list[Part | Encoded] = field(default_factory=list)
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
class EpochSeen:
    """One epoch that the state still knows, over all topics.

    Attributes:
        status: "open", "sealing" or "sealed".
        opened: when it began to take events in (naive UTC).
        sealed: when its events were in the lake; None: they are not yet.
        events: that it holds, repeats included.
    """

    epoch: int
    status: str
    opened: datetime
    sealed: datetime | None
    events: int

    @classmethod
    def of(
        cls, epoch: int, status: str, opened: str, sealed: str | None, events: int
    ) -> "EpochSeen":
        """The same with its times as the state has them: as text."""
        done = None if sealed is None else datetime.fromisoformat(sealed)
        return cls(epoch, status, datetime.fromisoformat(opened), done, events)


@dataclass(frozen=True)
class StateView:
    """One state as it stood at one moment.

    Attributes:
        since_epoch: the first epoch whose events the state counts; None if it was never kept.
        pruned_to: blocks up to this epoch are gone, because the batch layer covers them.
        active: epochs with events of the state's topic, ascending; those of long ago, which
            every state has from the batch layer, are forgotten.
        made: (epoch, dimension versions) of the blocks, each once.
        since_block: tells two states of one name apart, of which one followed the other.
        newest: the highest number of a block that a micro-batch gave it; 0 for none.
    """

    since_epoch: int | None
    pruned_to: int
    active: tuple[Active, ...]
    made: tuple[tuple[int, str], ...]
    since_block: int = 0
    newest: int = 0


@dataclass(frozen=True)
class Block:
    """Rows of one epoch that count for a state.

    Attributes:
        number: it never changes what it holds.
        oldest, newest: numbers of the first and the last block of a micro-batch that it is made
            of, both inclusive; its own number where it is such a block itself.
        crc32: of its rows as they are stored.
    """

    number: int
    epoch: int
    kind: Kind
    oldest: int
    newest: int
    rows: pa.Table
    crc32: int = 0


@dataclass(frozen=True)
class Group:
    """Blocks of one state, epoch, kind and set of dimensions that may become one.

    Attributes:
        level: the highest among them.
        rows: in all of them.
        closed: no more come to their epoch.
        made_with: versions of the dimensions.
    """

    epoch: int
    level: int
    blocks: tuple[int, ...]
    rows: int
    closed: bool
    made_with: str


@dataclass(frozen=True)
class Crowd:
    """Bodies of events, of the same epoch and for the same states, that may become one.

    Attributes:
        level: the highest among them.
        states: names.
    """

    level: int
    bodies: tuple[int, ...]
    states: tuple[str, ...]
