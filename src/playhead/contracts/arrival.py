"""What is asked of an event beyond its contract: when it may have happened, how large it may be."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from playhead.contracts.base import Contract, Field
from playhead.contracts.columns import MAX_US, MIN_US, Bad

_Stamps = npt.NDArray[np.int64]

SENT_AT = Field(
    "sent_at", pa.timestamp("us"), required=False, doc="When the event was sent, by its own clock."
)
"""What an event may carry beside its contract's fields; it is not kept."""

_EPOCH = datetime(1970, 1, 1)
_US = timedelta(microseconds=1)


@dataclass(frozen=True)
class Limits:
    """What a body of events may ask of the machine, and how far its clock may be off.

    Attributes:
        max_events: in one body, good or bad.
        max_field_bytes: of one text or binary value, in UTF-8.
        max_future: how far after its arrival an event may claim to have happened.
        max_past: how far before its arrival.
        max_skew: a client's clock that is further off than this is put right, where the
            client says when it sent the event.
    """

    max_events: int = 20_000
    max_field_bytes: int = 64 * 1024
    max_future: timedelta = timedelta(seconds=300)
    max_past: timedelta = timedelta(days=3650)
    max_skew: timedelta = timedelta(seconds=5)


@dataclass(frozen=True)
class Arrival:
    """When a body came, and by what its events are judged.

    Attributes:
        received: when it came, naive UTC.
        sent_at: when its sender says to have sent it, naive UTC; None: not said.
        limits: see `Limits`.
    """

    received: datetime
    sent_at: datetime | None
    limits: Limits

    def corrected(self, times: pa.Array, sent: pa.Array | None, bad: Bad) -> pa.Array:
        """Event times with the senders' clocks put right.

        Args:
            times: `timestamp[us]`, shape (n,); a null is left alone.
            sent: when each event was sent, likewise; a null, or None, stands for `sent_at`.
            bad: gets the rows whose corrected time is too far in the future or the past.

        Returns:
            `timestamp[us]`, shape (n,).
        """
        received, limits = _micros(self.received), self.limits
        stamps = _stamps(times, received)
        earliest = max(received - limits.max_past // _US, MIN_US)
        latest = min(received + limits.max_future // _US, MAX_US)
        if sent is None and self.sent_at is None:
            if not len(stamps) or (earliest <= stamps.min() and stamps.max() <= latest):
                return times
            moved = stamps
        else:
            skew = received - self._sent(sent, len(times))
            moved = stamps + np.where(np.abs(skew) > limits.max_skew // _US, skew, 0)
        for row in np.flatnonzero(moved > latest):
            bad.setdefault(int(row), f"event_time: {_shown(moved[row])} is {self._ahead}")
        for row in np.flatnonzero(moved < earliest):
            bad.setdefault(int(row), f"event_time: {_shown(moved[row])} is {self._behind}")
        nulls = times.is_null().to_numpy(zero_copy_only=False)
        return pa.array(moved, pa.int64(), mask=nulls).view(times.type)

    def _sent(self, sent: pa.Array | None, count: int) -> _Stamps:
        default = _micros(self.sent_at if self.sent_at is not None else self.received)
        return np.full(count, default, np.int64) if sent is None else _stamps(sent, default)

    @property
    def _ahead(self) -> str:
        limit = self.limits.max_future
        return f"more than {limit} after it was received, at {_shown(_micros(self.received))}"

    @property
    def _behind(self) -> str:
        limit = self.limits.max_past
        return f"more than {limit} before it was received, at {_shown(_micros(self.received))}"

    def refuse_large(self, contract: Contract, batch: pa.RecordBatch, bad: Bad) -> None:
        """Add the rows of which one value is larger than `max_field_bytes`."""
        limit = self.limits.max_field_bytes
        for place in contract.open_texts:
            field, column = contract.fields[place], batch.column(place)
            # All values together are seldom larger, and then no single one is.
            if column.nbytes <= limit:
                continue
            sizes = pc.binary_length(column).fill_null(0).to_numpy()
            for row in np.flatnonzero(sizes > limit):
                size = f"{sizes[row]:,} bytes, and at most {limit:,} are taken"
                bad.setdefault(int(row), f"{field.name}: {size}")


def _stamps(times: pa.Array, default: int) -> _Stamps:
    """Microseconds from 1970; shape (n,), with the default in place of nulls."""
    integers = times.view(pa.int64())
    stamps: _Stamps = (integers.fill_null(default) if times.null_count else integers).to_numpy()
    return stamps


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // _US


def _shown(micros: int) -> str:
    """A time as people write it, also beyond Python's calendar."""
    if MIN_US <= micros <= MAX_US:
        return (_EPOCH + timedelta(microseconds=int(micros))).isoformat() + "Z"
    return f"a time {micros} us from 1970"
