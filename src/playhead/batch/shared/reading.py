"""Reads shares of a topic's events in the processes that have them."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from playhead.batch.reading import Reading
from playhead.batch.shared.processes import Processes, Share, shares, worker
from playhead.batch.states import DuckDBStates
from playhead.lake import Snapshot
from playhead.lake.elsewhere import SentSnapshot

__all__ = ["SharedReading", "days_of"]


@dataclass(frozen=True)
class SharedReading:
    """Reads shares of a table of events; can be pickled.

    Attributes:
        events: without files.
    """

    events: SentSnapshot
    reading: Reading

    @classmethod
    def of(cls, events: Snapshot, reading: Reading) -> "SharedReading":
        """What reads the events of a table."""
        return cls(SentSnapshot.of(replace(events, files=())), reading)

    def days(self, share: Share) -> dict[date, int]:
        """How many events to be read each day has in a share, if any."""
        with worker() as (connection, folder):
            return DuckDBStates(connection).days(self.open(share, folder), self.reading)

    def open(self, share: Share, folder: Path) -> Snapshot:
        """A share as a snapshot of this process; the folder is for copies."""
        return replace(self.events, files=share).open(folder)


def days_of(processes: Processes, events: Snapshot, reading: Reading) -> dict[date, int]:
    """How many events to be read each day has, if any, over all shares of a table."""
    divided = shares(reading.of(events), processes.count())
    work = SharedReading.of(events, reading).days
    found: Counter[date] = Counter()
    for days in processes.map(work, divided, f"days of {events.name}"):
        found.update(days)
    return dict(found)
