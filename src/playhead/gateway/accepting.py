"""Taking connections from a socket that several processes share, so that each gets its share."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Collection
from contextlib import suppress

from playhead.gateway.protocol import HEADER_SECONDS

logger = logging.getLogger(__name__)

# Before a process takes another connection it waits, the longer the more it has: half of the most
# with eight. Of several that share a socket, so, the one with the fewest is the first.
_LONGEST_WAIT_S = 0.005
_HALF_WAIT_CONNECTIONS = 8
# One with many takes some at a time.
_CONNECTIONS_FOR_ANOTHER = 16
_OUT_OF_FILES_WAIT_S = 1.0


class Acceptor:
    """Accepts connections on a listening socket and makes a protocol for each.

    The system wakes any process that listens on a shared socket, and mostly the same one: clients
    that keep a few connections open would all end up in one worker.

    Args:
        listener: stays the caller's.
        make_protocol: called for each connection.
        opened: the connections that this process has open now.
        tls: None: plain.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        opened: Collection[object],
        *,
        tls: ssl.SSLContext | None = None,
        backlog: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make_protocol = make_protocol
        self._opened = opened
        self._tls = tls
        self._beginning: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._is_closed = False
        listener.setblocking(False)
        listener.listen(backlog)
        self._listen()

    def close(self) -> None:
        """Take no more connections."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener.fileno())
        for task in self._beginning:
            task.cancel()

    async def wait_closed(self) -> None:
        """Until no connection is being set up."""
        if self._beginning:
            await asyncio.wait(self._beginning)

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        has = len(self._opened) + len(self._beginning)
        wait_s = _LONGEST_WAIT_S * has / (has + _HALF_WAIT_CONNECTIONS)
        for _ in range(1 + has // _CONNECTIONS_FOR_ANOTHER):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                logger.warning("connections wait: none can be accepted (%s)", error.strerror)
                wait_s = _OUT_OF_FILES_WAIT_S
                break
            connection.setblocking(False)
            task = self._loop.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)
        if wait_s:
            self._loop.remove_reader(self._listener.fileno())
            self._pause = self._loop.call_later(wait_s, self._listen)

    async def _begin(self, connection: socket.socket) -> None:
        # Who gives up in the middle of a handshake needs no line in the log.
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            await self._loop.connect_accepted_socket(
                self._make_protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HEADER_SECONDS,
            )
