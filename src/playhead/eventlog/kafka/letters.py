"""Messages that are no events of their topic, as dead letters."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from playhead.contracts import TOPICS
from playhead.contracts.validate import Rejected

LETTERS = "dead_letters"


class Letters:
    """Makes them, and knows which partitions' ones this process has written already.

    A letter's id is that of its place, so that those of several readers count as one.
    """

    def __init__(self) -> None:
        self._noted: dict[tuple[str, int], int] = {}

    def of(
        self,
        topic: str,
        partition: int,
        refused: Sequence[Rejected],
        offsets: Sequence[int],
        times_us: Sequence[int],
    ) -> pa.Table | None:
        """The letters that are new; None if there is none.

        Args:
            offsets, times_us: of all messages; `refused` counts them from 0.
        """
        noted = self._noted.get((topic, partition), -1)
        rows = [
            _letter(topic, partition, offsets[one.index], times_us[one.index], one)
            for one in refused
            if offsets[one.index] > noted
        ]
        return pa.Table.from_pylist(rows, schema=TOPICS[LETTERS].schema) if rows else None

    def note(self, topic: str, partition: int, offset: int) -> None:
        """Remember that the letters of a partition up to an offset are kept."""
        before = self._noted.get((topic, partition), -1)
        self._noted[topic, partition] = max(before, offset)


def _letter(
    topic: str, partition: int, offset: int, time_us: int, refused: Rejected
) -> dict[str, Any]:
    letter_id = f"{topic}-{partition}-{offset}"
    contract = TOPICS.get(topic)
    return {
        "event_id": letter_id,
        "event_type": "rejected",
        "event_time": time_us,
        "letter_id": letter_id,
        "topic": topic,
        "contract_version": contract.version if contract else None,
        "reason": f"partition {partition}, offset {offset}: {refused.reason}",
        "index": 0,
        "body": refused.raw,
    }
