"""The producer for asyncio: the same thread delivers, and nothing here blocks the event loop."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, Unpack

from playhead.client.errors import ProducerError, ProducerFullError
from playhead.client.options import ProducerOptions, Stats
from playhead.client.producer import Producer

__all__ = ["AsyncProducer"]

_ROOM_POLL_S = 0.01


class AsyncProducer:
    """Like `Producer`, whose methods these are; `flush`, `close` and a blocking `send` wait.

    A spool that an earlier process left is checked when the producer is made, which takes about
    a second for 250 MB.
    """

    def __init__(
        self, url: str, key: str | None = None, **options: Unpack[ProducerOptions]
    ) -> None:
        self._producer = Producer(url, key, **options)

    async def send(self, event: Mapping[str, Any], *, block: bool = False) -> None:
        """Take an event; see `Producer.send`."""
        while True:
            try:
                self._producer.send(event)
            except ProducerFullError:
                if not block or self._producer.is_halted:
                    raise
                await asyncio.sleep(_ROOM_POLL_S)
            else:
                return

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until every event sent so far is settled; see `Producer.flush`."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[ProducerError | None] = loop.create_future()

        def tell(error: ProducerError | None) -> None:
            # A loop that is closed has nobody left who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, done, error)

        waiting = self._producer.when_settled(tell)
        try:
            error = await asyncio.wait_for(done, timeout)
        except TimeoutError:
            raise self._producer.not_settled(timeout) from None
        finally:
            self._producer.forget(waiting)
        if error is not None:
            raise error

    async def close(self, timeout: float = 10.0) -> None:
        """Deliver what waits, and stop; see `Producer.close`."""
        await asyncio.to_thread(self._producer.close, timeout)

    def stats(self) -> Stats:
        """What happened so far."""
        return self._producer.stats()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self._producer.__exit__, kind, error, trace)


def _resolve(done: "asyncio.Future[ProducerError | None]", error: ProducerError | None) -> None:
    if not done.done():
        done.set_result(error)
