"""Send events to a gateway from any program: only the standard library, nothing of the platform.

from playhead.client import Producer

with Producer("http://127.0.0.1:8600", key, spool=Path("/var/spool/player")) as producer:
    producer.send({"event_type": "click", "user_id": "u1", ...})
"""

from typing import TYPE_CHECKING, Any

from playhead.client.errors import (
    EventError,
    FlushTimeoutError,
    ProducerClosedError,
    ProducerError,
    ProducerFullError,
    ProducerRefusedError,
    SpoolError,
)
from playhead.client.options import ProducerOptions, Stats
from playhead.client.producer import Producer

if TYPE_CHECKING:
    from playhead.client.aio import AsyncProducer

__all__ = [
    "AsyncProducer",
    "EventError",
    "FlushTimeoutError",
    "Producer",
    "ProducerClosedError",
    "ProducerError",
    "ProducerFullError",
    "ProducerOptions",
    "ProducerRefusedError",
    "SpoolError",
    "Stats",
]


def __getattr__(name: str) -> Any:
    # asyncio takes as long to import as everything else here.
    if name == "AsyncProducer":
        from playhead.client.aio import AsyncProducer

        return AsyncProducer
    raise AttributeError(f"module 'playhead.client' has no attribute {name!r}")
