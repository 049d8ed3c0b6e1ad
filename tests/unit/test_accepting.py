"""Connections of a socket that several processes share."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest
import uvloop

from playhead.gateway.accepting import Acceptor

BACKLOG = 512


class Connection(asyncio.Protocol):
    """One that is counted as long as it is open, and says whose it is."""

    def __init__(self, name: bytes, opened: set[object]) -> None:
        self.name, self.opened = name, opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.opened.add(self)
        transport.write(self.name)  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:
        self.opened.discard(self)


@contextmanager
def accepting(listener: socket.socket, name: bytes) -> Iterator[set[object]]:
    """An acceptor on an event loop in a thread, as a worker has one in a process."""
    opened: set[object] = set()
    stop = threading.Event()

    async def serve() -> None:
        acceptor = Acceptor(listener, lambda: Connection(name, opened), opened, backlog=BACKLOG)
        while not stop.is_set():
            await asyncio.sleep(0.01)
        acceptor.close()
        acceptor.close()
        await acceptor.wait_closed()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield opened
    finally:
        stop.set()
        thread.join(10)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)) as made:
        yield made


def connect(stack: ExitStack, listener: socket.socket) -> socket.socket:
    return stack.enter_context(socket.create_connection(listener.getsockname(), 10))


def test_each_of_several_gets_its_share(listener: socket.socket) -> None:
    with accepting(listener, b"a"), accepting(listener, b"b"), ExitStack() as stack:
        connections = [connect(stack, listener) for _ in range(16)]
        owners = [connection.recv(1) for connection in connections]
    assert 4 <= owners.count(b"a") <= 12
    assert owners.count(b"a") + owners.count(b"b") == 16


def test_one_takes_all_if_it_is_alone(listener: socket.socket) -> None:
    with accepting(listener, b"a") as opened, ExitStack() as stack:
        connections = [connect(stack, listener) for _ in range(300)]
        assert {connection.recv(1) for connection in connections} == {b"a"}
        assert len(opened) == 300


def test_those_that_come_and_go_hardly_wait(listener: socket.socket) -> None:
    with accepting(listener, b"a"):
        began = time.monotonic()
        for _ in range(100):
            with ExitStack() as stack:
                assert connect(stack, listener).recv(1) == b"a"
    assert time.monotonic() - began < 5


def test_nothing_is_taken_once_it_is_closed(listener: socket.socket) -> None:
    with accepting(listener, b"a"), ExitStack() as stack:
        assert connect(stack, listener).recv(1) == b"a"
    with ExitStack() as stack:
        late = connect(stack, listener)
        late.settimeout(0.2)
        with pytest.raises(TimeoutError):
            late.recv(1)
