"""Serving the read API on a socket that is bound already."""

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import uvloop

from playhead.api.app import create_app
from playhead.api.service import Service
from playhead.assemble import Workspace
from playhead.config import Address, ApiSettings
from playhead.errors import PlayheadError, SettingError
from playhead.gateway.protocol import KEEP_ALIVE_SECONDS, BoundedProtocol, quiet
from playhead.keys import KeyRing

__all__ = ["Server", "check_doors", "send_at_once", "serve", "serving"]

logger = logging.getLogger(__name__)

_READY_S = 60.0
_TICKS_A_SECOND = 10
_GRACE_S = 0.7
_END_S = 2


def serve(
    workspace: Path,
    fd: int,
    *,
    number: int = 1,
    workers: int = 1,
    stop: threading.Event,
    beat: Callable[[str], None],
) -> None:
    """Serve until `stop`.

    Args:
        fd: of a bound socket that listens; closed at the end.
        number, workers: which of how many processes on this socket it is.
        beat: told by the event loop every second how it is, once it serves.

    Raises:
        SettingError: the address is beyond loopback and no key may read.
    """
    logger.debug("read API %d of %d", number, workers)
    with socket.socket(fileno=fd) as listening, Workspace(workspace) as opened:
        check_doors(opened, listening, "api")
        send_at_once(listening)
        _run(_server(opened, workers, stop, beat), listening)


class _Protocol(BoundedProtocol):
    """A connection with the gateway's bounds."""

    most_connections = 500


class Server(uvicorn.Server):
    """Serves until an event is set, and leaves signals to whoever started it.

    Args:
        beat: told about every second that it serves.
        on_stop: called when it begins to stop: streams have to end at once.
        on_end: called a moment later: what is still being answered has to end.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        stop: threading.Event,
        beat: Callable[[str], None],
        *,
        on_stop: Callable[[], None],
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._stop, self._beat = stop, beat
        self._on_stop, self._on_end = on_stop, on_end

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        """Look after the stop event ten times a second, and beat once."""
        if counter % _TICKS_A_SECOND == 0:
            self._beat("serving")
        return self._stop.is_set() or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End streams at once, and after a moment what is still being answered."""
        self._on_stop()
        asyncio.get_running_loop().call_later(_GRACE_S, self._on_end)
        # Requests that are cut off at the stop are no errors worth a line.
        with quiet(logging.CRITICAL):
            await super().shutdown(sockets)


def _run(server: Server, listening: socket.socket) -> None:
    with quiet(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[listening]))


def _server(
    opened: Workspace, workers: int, stop: threading.Event, beat: Callable[[str], None]
) -> Server:
    settings = opened.settings.api
    cells = min(4, max(1, (os.cpu_count() or 1) // workers))
    service = Service(opened, cells=cells)
    # Derives the plans of all views and reads the lake, for which the first client would wait.
    service.exposition.text()
    config = uvicorn.Config(
        create_app(service),
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_END_S,
        ssl_certfile=_file(opened.path, settings.tls_certificate),
        ssl_keyfile=_file(opened.path, settings.tls_key),
    )
    on_stop, on_end = service.stopping.set, service.end
    return Server(config, stop, beat, on_stop=on_stop, on_end=on_end)


def _file(workspace: Path, name: str) -> str | None:
    return str(workspace / name) if name else None


def send_at_once(listening: socket.socket) -> None:
    """Connections take this from their socket: else a small answer waits 40 ms for its rest."""
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def check_doors(opened: Workspace, listening: socket.socket, section: str) -> None:
    """Refuse to listen to other machines as long as nobody would have to show a key.

    Args:
        section: of the settings, which has the address.

    Raises:
        SettingError: the address is beyond loopback and no key may read.
    """
    host = listening.getsockname()[0]
    if Address(host, 0).is_loopback or KeyRing(opened.path / "keys.json").has("read"):
        return
    raise SettingError(
        f"{section}.address: {host} is open to other machines, and no key may read",
        hint="Make one: playhead keys create NAME --scope read. Or listen on 127.0.0.1.",
    )


@contextmanager
def serving(workspace: Path) -> Iterator[str]:
    """A running API of a workspace on a free loopback port, in a thread; its base URL.

    Raises:
        PlayheadError: it did not start.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    send_at_once(listening)
    port = listening.getsockname()[1]
    with Workspace(workspace) as opened:
        stop = threading.Event()
        server = _server(opened, 1, stop, lambda _: None)
        thread = threading.Thread(target=_run, args=(server, listening), name="api")
        thread.start()
        try:
            until = time.monotonic() + _READY_S
            while not server.started:
                if not thread.is_alive() or time.monotonic() > until:
                    raise PlayheadError(f"the API on port {port} did not start")
                time.sleep(0.01)
            scheme = "https" if _is_encrypted(opened.settings.api) else "http"
            yield f"{scheme}://127.0.0.1:{port}"
        finally:
            stop.set()
            thread.join()
            listening.close()


def _is_encrypted(settings: ApiSettings) -> bool:
    return bool(settings.tls_certificate)
