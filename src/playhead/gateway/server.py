"""The gateway as a server: one worker on a listening socket, until it is told to stop."""

import asyncio
import gc
import logging
import os
import resource
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import uvicorn
import uvloop

from playhead import keys, samples
from playhead.config import Address, GatewaySettings, Settings, read_settings
from playhead.contracts import TOPICS
from playhead.errors import SettingError
from playhead.eventlog import EventLog, open_log
from playhead.gateway.accepting import Acceptor
from playhead.gateway.app import Gateway, Place
from playhead.gateway.metrics import Metrics, Sums
from playhead.gateway.protocol import KEEP_ALIVE_SECONDS, MAX_CONNECTIONS, BoundedProtocol, quiet
from playhead.keys import KeyRing
from playhead.samples import Samples

logger = logging.getLogger(__name__)

# Together they stay within the five seconds in which a part of the platform has to stop.
_DRAIN_S = 2
_CLOSE_S = 2.5

_TICKS_A_SECOND = 10
_RATE_OVER_S = 5
_SUMMARY_EVERY_S = 60.0
_SPARE_FILES = 256
_BACKLOG = 2_048


class Beat(Protocol):
    """What a server tells of itself every second: words, and figures by name."""

    def __call__(self, health: str, **figures: float) -> None: ...


def _unheard(health: str, **figures: float) -> None:
    """The beat of a server that nobody watches."""


def serve(
    workspace: Path,
    fd: int,
    *,
    number: int = 1,
    workers: int = 1,
    stop: threading.Event,
    beat: Beat = _unheard,
) -> None:
    """Serve until `stop` is set; then refuse what is new, finish what came, and return.

    Args:
        workspace: the folder with settings, keys and event log.
        fd: a listening socket, which stays open; other workers may share it.
        number, workers: which worker of how many this is.
        beat: called every second with events a second or, in words, why none can be taken in.

    Raises:
        SettingError: the address is reached from other machines, and no key may write.
        PlayheadError: settings, keys or event log cannot be used.
    """
    settings = read_settings(workspace)
    with closing(socket.socket(fileno=os.dup(fd))) as listener:
        address = Address(*listener.getsockname()[:2])
        ring = KeyRing(workspace / keys.FILE)
        place = Place(workspace, is_local=address.is_loopback, workers=workers)
        check_address(address, ring)
        with opened_log(workspace, settings) as log, Samples(workspace / samples.FILE) as gates:
            gateway = Gateway(place, settings.gateway, log, ring, metrics=Metrics(gates))
            _allow_files()
            gc.collect()
            gc.freeze()
            logger.info("gateway %d of %d listens on %s", number, workers, address)
            try:
                run(gateway, listener, settings.gateway, stop=stop, beat=beat)
            finally:
                gateway.close(_CLOSE_S)


def run(
    gateway: Gateway,
    listener: socket.socket,
    settings: GatewaySettings,
    *,
    stop: threading.Event,
    beat: Beat = _unheard,
) -> None:
    """Serve a gateway on a listening socket in this thread until `stop` is set.

    What came before is answered, as long as that takes no more than a few seconds.
    """
    tls: dict[str, Any] = {}
    if settings.tls_certificate:
        tls["ssl_certfile"] = gateway.place.folder / settings.tls_certificate
        tls["ssl_keyfile"] = gateway.place.folder / settings.tls_key
    config = uvicorn.Config(
        gateway,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_DRAIN_S,
        **tls,
    )
    server = _Server(config, gateway, stop, beat)
    with quiet(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[listener]))


class _Server(uvicorn.Server):
    """Stops when an event is set, and leaves signals to whoever started it."""

    def __init__(
        self,
        config: uvicorn.Config,
        gateway: Gateway,
        stop: threading.Event,
        beat: Beat,
    ) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._stop = stop
        self._beat = beat
        self._recent: deque[int] = deque(maxlen=_RATE_OVER_S + 1)
        self._summed_at = time.monotonic()
        self._summed = Sums()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the given sockets, as one of several processes."""
        make = partial(BoundedProtocol, self.config, self.server_state, {})
        connections = self.server_state.connections
        tls, backlog = self.config.ssl, self.config.backlog
        self.servers = [
            Acceptor(listener, make, connections, tls=tls, backlog=backlog)  # type: ignore[misc]
            for listener in sockets or ()
        ]
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """Look after the stop event ten times a second, and beat once."""
        if counter % _TICKS_A_SECOND == 0:
            open_connections = len(self.server_state.connections)
            self._gateway.metrics.measure(self._gateway.budget.used_bytes, open_connections)
            self._tell()
        if self._stop.is_set():
            self._gateway.is_stopping = True
            return True
        return await super().on_tick(counter)

    def _tell(self) -> None:
        self._recent.append(self._gateway.metrics.sums.accepted)
        rate = (self._recent[-1] - self._recent[0]) / max(1, len(self._recent) - 1)
        self._beat(self._gateway.trouble() or f"{rate:,.0f} events/s", accepted_per_s=rate)
        if time.monotonic() - self._summed_at >= _SUMMARY_EVERY_S:
            self._sum_up()

    def _sum_up(self) -> None:
        """Log what came since the last time, if anything did."""
        now, whole = time.monotonic(), self._gateway.metrics.sums
        news, seconds = whole - self._summed, now - self._summed_at
        self._summed, self._summed_at = replace(whole), now
        if news.requests:
            logger.info(
                "%s events accepted, %s rejected, %s requests (%s refused) in %.0f s",
                f"{news.accepted:,}",
                f"{news.rejected:,}",
                f"{news.requests:,}",
                f"{news.refused:,}",
                seconds,
            )


@contextmanager
def opened_log(workspace: Path, settings: Settings) -> Iterator[EventLog]:
    """The event log of a workspace, with the topics of all contracts."""
    with open_log(workspace, settings.log) as log:
        for name, contract in TOPICS.items():
            log.create_topic(name, contract.schema, partitions=settings.log.partitions)
        yield log


def check_address(address: Address, ring: KeyRing) -> None:
    """Refuse to serve other machines without keys.

    Raises:
        SettingError: no active key has the scope to write.
    """
    if address.is_loopback or ring.has("write"):
        return
    raise SettingError(
        f"gateway.address = {str(address)!r} is reached from other machines, and no key may write:"
        " anybody could send events",
        hint="Run `playhead keys create NAME --scope write` first, or listen on 127.0.0.1.",
    )


@dataclass(frozen=True)
class Serving:
    """A running gateway.

    Attributes:
        address: where it listens.
        gateway: the application itself.
    """

    address: Address
    gateway: Gateway

    @property
    def url(self) -> str:
        """Such as "http://127.0.0.1:34567"."""
        return f"http://{self.address}"


@contextmanager
def serving(
    workspace: Path,
    *,
    settings: GatewaySettings | None = None,
    log: EventLog | None = None,
) -> Iterator[Serving]:
    """A real gateway on a free port of this machine, in a thread, for the `with` block.

    Args:
        workspace: a folder; the event log is made in it if it is not there.
        settings: None: those of the workspace. The address is not used.
        log: None: the workspace's own; another one stays open.
    """
    whole = read_settings(workspace)
    chosen = settings or whole.gateway
    stop = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)) as listener:
        address = Address(*listener.getsockname()[:2])
        with nullcontext(log) if log is not None else opened_log(workspace, whole) as opened:
            gateway = Gateway(Place(workspace), chosen, opened, KeyRing(workspace / keys.FILE))
            thread = threading.Thread(
                target=run, args=(gateway, listener, chosen), kwargs={"stop": stop}, daemon=True
            )
            thread.start()
            try:
                yield Serving(address, gateway)
            finally:
                stop.set()
                thread.join()
                gateway.close(_CLOSE_S)


def _allow_files() -> None:
    """Let the process have as many open files as connections, if the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS * 2 + _SPARE_FILES
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
