"""Dead letters for tests, as a gateway writes them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from layers import T0, Watch
from playhead.assemble import Workspace
from playhead.contracts import TOPICS

TOPIC = "dead_letters"


@dataclass(frozen=True)
class Dead:
    """A letter in as few words as possible; minutes count from the tests' first event time."""

    number: int
    body: bytes = b"{}"
    reason: str = "device_type: object missing required field"
    topic: str | None = "playback"
    minute: float = 0
    sent_at: datetime | None = None

    @property
    def letter_id(self) -> str:
        return f"{self.number:04x}letter"

    @property
    def refused_at(self) -> datetime:
        return T0 + timedelta(minutes=self.minute)

    def row(self) -> dict[str, Any]:
        return {
            "event_id": self.letter_id,
            "event_type": "rejected",
            "event_time": self.refused_at,
            "letter_id": self.letter_id,
            "topic": self.topic,
            "contract_version": None if self.topic is None else 1,
            "reason": self.reason,
            "index": self.number,
            "sent_at": self.sent_at,
            "body": self.body,
        }


def post(opened: Workspace, letters: Iterable[Dead]) -> None:
    """Append letters to the event log."""
    schema = TOPICS[TOPIC].schema
    rows = [letter.row() for letter in letters]
    opened.log.append(TOPIC, pa.Table.from_pylist(rows, schema), key="letter_id")


def watch_body(number: int, **changes: Any) -> bytes:
    """A playback event as a client sends it; a change to None leaves the field out."""
    event = {**Watch(number).row(), **changes}
    return json.dumps({k: v for k, v in event.items() if v is not None}, default=str).encode()
