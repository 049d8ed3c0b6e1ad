"""Recorded events of several topics as one sequence in the order of their event times."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from playhead.batch.pace import Times

__all__ = ["Chunk", "merge_recordings", "merge_streams"]

EVENT_TIME = "event_time"


@dataclass(frozen=True)
class Chunk:
    """The next events of all topics: none of a later chunk is earlier than one of these.

    Attributes:
        parts: for each topic, its events of this chunk, ascending in event time.
    """

    parts: tuple[tuple[str, pa.RecordBatch], ...]

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        """For each event of the sequence, its place when the parts are put one after another."""
        every = np.concatenate([_times(events) for _, events in self.parts])
        return np.argsort(every, kind="stable")

    @cached_property
    def times(self) -> Times:
        """Event times of the sequence, shape (n,), ascending."""
        return np.concatenate([_times(events) for _, events in self.parts])[self._order]

    @cached_property
    def _places(self) -> list[NDArray[np.int64]]:
        """For each part, where in the sequence its events are; ascending."""
        ends = np.cumsum([events.num_rows for _, events in self.parts])
        owner = np.searchsorted(ends, self._order, side="right")
        return [np.flatnonzero(owner == part) for part in range(len(self.parts))]

    def __len__(self) -> int:
        return sum(events.num_rows for _, events in self.parts)

    def block(self, start: int, stop: int) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The events [start, stop) of the sequence, topic by topic, without a copy."""
        for (topic, events), places in zip(self.parts, self._places, strict=True):
            low, high = np.searchsorted(places, [start, stop])
            if low < high:
                yield topic, events.slice(int(low), int(high - low))


def merge_recordings(recordings: Sequence[tuple[str, Path]], *, rows: int) -> Iterator[Chunk]:
    """The events of Parquet files, one a topic, each ascending in event time.

    Args:
        rows: of one topic that are in memory at once, and of one chunk.
    """
    files = [(topic, pq.ParquetFile(path)) for topic, path in recordings]
    try:
        yield from merge_streams(
            [(topic, file.iter_batches(batch_size=rows)) for topic, file in files]
        )
    finally:
        for _, file in files:
            file.close()


def merge_streams(streams: Iterable[tuple[str, Iterator[pa.RecordBatch]]]) -> Iterator[Chunk]:
    """The events of several topics; on equal times, in the order of the topics given.

    Args:
        streams: topic, and its batches; event times ascend within a batch and from one to the
            next. A batch may be empty.
    """
    waiting = [_Stream(topic, batches) for topic, batches in streams]
    while waiting := [stream for stream in waiting if stream.fill()]:
        # What a stream has not shown yet is no earlier than the last event that it shows.
        horizon = min(stream.last for stream in waiting)
        taken = ((stream.topic, stream.take(horizon)) for stream in waiting)
        yield Chunk(tuple((topic, events) for topic, events in taken if events.num_rows))


class _Stream:
    """One topic's batches, and what is left of the one that was read last."""

    def __init__(self, topic: str, batches: Iterator[pa.RecordBatch]) -> None:
        self.topic = topic
        self._batches = batches
        self._left = pa.record_batch({})
        self._times: Times = np.empty(0, dtype=np.int64)

    def fill(self) -> bool:
        """Have at least one event at hand; False at the end."""
        while not len(self._times):
            batch = next(self._batches, None)
            if batch is None:
                return False
            self._left, self._times = batch, _times(batch)
        return True

    @property
    def last(self) -> int:
        return int(self._times[-1])

    def take(self, horizon: int) -> pa.RecordBatch:
        """The events at hand up to the horizon, which is included."""
        count = int(np.searchsorted(self._times, horizon, side="right"))
        taken, self._left = self._left.slice(0, count), self._left.slice(count)
        self._times = self._times[count:]
        return taken


def _times(events: pa.RecordBatch) -> Times:
    times: Times = events.column(EVENT_TIME).cast(pa.timestamp("us")).view(pa.int64()).to_numpy()
    return times
