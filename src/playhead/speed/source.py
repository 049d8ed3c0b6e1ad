"""The seam between the speed layer and what takes events in: this process, or a cluster."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import numpy.typing as npt

from playhead.speed.archive import Archiver
from playhead.speed.enrich import Lookups
from playhead.speed.records import Encoded, Part, Touched
from playhead.speed.windows import WindowedView

if TYPE_CHECKING:
    from playhead.speed.dimensions import DimensionTables
    from playhead.speed.topic import LiveTopic


class Kept(ABC):
    """The events of an intake that repeat none; asked only while their micro-batch is made."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many they are."""

    @property
    @abstractmethod
    def newest(self) -> datetime | None:
        """The highest event time; None where no event has one."""

    @abstractmethod
    def late(self, watermark: datetime | None) -> int:
        """How many happened before the watermark."""

    @abstractmethod
    def parts(self, states: Sequence[str]) -> list[Part | Encoded]:
        """What they add to the topic's states, which are these."""

    @abstractmethod
    def touched(
        self,
        connection: duckdb.DuckDBPyConnection,
        windowed: WindowedView,
        watermark: datetime | None,
    ) -> list[Touched]:
        """Windows of a view that they fall into; see `WindowedView.touched`."""


class Intake(ABC):
    """New events of a topic, n of them, of which some may repeat others.

    Attributes:
        ids: both halves of the hashes of their ids, shape (n,) each; in the order of their
            offsets within a partition.
        arrival_us: when each came into the log, microseconds since 1970, shape (n,).
        after: the next offsets, by partition.
        lookups: how their keys fared in the dimensions.
            They are known once the states are made.
        enrich_ms: how long looking them up took; None where that is not told apart.
    """

    ids: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]
    arrival_us: npt.NDArray[np.int64]
    after: dict[int, int]
    lookups: tuple[Lookups, ...]
    enrich_ms: float | None

    @abstractmethod
    def keep(self, mask: npt.NDArray[np.bool_]) -> Kept:
        """Those where the mask, shape (n,), is true."""


class Source(ABC):
    """Takes events in; for one thread."""

    @property
    def label(self) -> str:
        """What tells the micro-batch that was taken last from others; empty where nothing does."""
        return ""

    def archiver(self) -> Archiver | None:
        """What adds an epoch's events to the lake, used by another thread; None: this process."""
        return None

    @abstractmethod
    def plan(self, topic: "LiveTopic", dimensions: "DimensionTables") -> None:
        """Take a topic in for the states and windows that it has now, from its `next` on."""

    @abstractmethod
    def take(self, topics: "Iterable[LiveTopic]") -> AbstractContextManager[Mapping[str, Intake]]:
        """What is new of planned topics, from each one's `next` on, where something is.

        What is taken is done with when the block ends: by an error, it comes again.

        Raises:
            StateError: the event log ends before a topic's `next`.
            LogAwayError: the event log's servers are away.
        """

    @abstractmethod
    def waits(self, topics: "Iterable[LiveTopic]") -> bool:
        """Whether there is more that `take` has not given, when it has given nothing."""

    @abstractmethod
    def stop(self) -> None:
        """Take nothing in until `take` is called again; may be called twice."""
