"""What the speed layer tells the gates of each micro-batch, after its commit."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC

import numpy as np

from playhead.clock import Clock
from playhead.samples import (
    DUPLICATES,
    ENRICH_MS,
    EVENTS,
    FOUND,
    FRESHNESS_MS,
    LAG_S,
    LATE,
    LOOKED_UP,
    WINDOWED,
    WINDOWED_LATE,
    Samples,
)
from playhead.speed.records import MicroBatch
from playhead.speed.source import Intake


class Measuring:
    """Counts into a workspace's samples."""

    def __init__(self, samples: Samples, clock: Clock) -> None:
        self._samples, self._clock = samples, clock

    def committed(self, batch: MicroBatch, intakes: Sequence[Intake]) -> None:
        """Count a micro-batch, and how long its events have waited until now.

        Args:
            intakes: what it was made of.
        """
        now_us = int(self._clock.now().replace(tzinfo=UTC).timestamp() * 1e6)
        for intake in intakes:
            self._measure(intake, now_us)
        for topic, seen in batch.progress.items():
            self._samples.counter(EVENTS, topic=topic).add(seen.events)
            self._samples.counter(DUPLICATES, topic=topic).add(seen.duplicates)
            self._samples.counter(LATE, topic=topic).add(seen.late)
        fell: Counter[str] = Counter()
        too_late: Counter[str] = Counter()
        for window in batch.windows:
            fell[window.view] += window.events
            too_late[window.view] += window.late
        for view, events in fell.items():
            self._samples.counter(WINDOWED, view=view).add(events)
            self._samples.counter(WINDOWED_LATE, view=view).add(too_late[view])

    def _measure(self, intake: Intake, now_us: int) -> None:
        arrival_us = intake.arrival_us
        # Events of one append have one arrival, so there are far fewer stretches than events.
        starts = np.append(0, np.flatnonzero(arrival_us[1:] != arrival_us[:-1]) + 1)
        counts = np.diff(starts, append=len(arrival_us))
        waited_ms = np.maximum(now_us - arrival_us[starts], 0) / 1000
        self._samples.observe_all(FRESHNESS_MS, waited_ms, counts)
        self._samples.observe(LAG_S, float(waited_ms.max()) / 1000)
        if intake.lookups and intake.enrich_ms is not None:
            self._samples.observe(ENRICH_MS, intake.enrich_ms)
        for lookup in intake.lookups:
            self._samples.counter(LOOKED_UP, dimension=lookup.dimension).add(lookup.asked)
            self._samples.counter(FOUND, dimension=lookup.dimension).add(lookup.found)
