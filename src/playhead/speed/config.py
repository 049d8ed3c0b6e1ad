"""How the speed layer paces itself."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True)
class SpeedConfig:
    """How the speed layer paces itself.

    Attributes:
        trigger: from the start of one micro-batch to the next, while events keep coming.
        seal_every: how long an epoch stays open before its events go to the lake.
        judge_every: how often windows are looked at for being final, and the lake for loads.
        dedupe_window: a repeated `event_id` is dropped if the first came this recently.
        dedupe_limit: at most this many ids are remembered, 16 bytes each.
        ids_folder: where their hashes are kept for the next start; None: it recalls them from
            the lake and the event log.
        max_events: of one topic in one micro-batch.
        retention: events older than this may go from the event log once they are sealed (and
            every other reader has them); None: whoever runs the log sees to that.
        retain_every: how often.
    """

    trigger: timedelta = timedelta(milliseconds=100)
    seal_every: timedelta = timedelta(seconds=60)
    judge_every: timedelta = timedelta(seconds=1)
    dedupe_window: timedelta = timedelta(hours=24)
    dedupe_limit: int = 50_000_000
    ids_folder: Path | None = None
    max_events: int = 400_000
    retention: timedelta | None = None
    retain_every: timedelta = timedelta(hours=1)
