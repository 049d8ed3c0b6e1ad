"""What every part's process does around its work: signals, the supervisor's pipe, heartbeats."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from playhead import disk
from playhead.errors import PlayheadError, SettingError, WorkspaceBusyError, WorkspaceError
from playhead.platform.heartbeat import Heartbeat
from playhead.platform.sockets import address_of
from playhead.platform.watched import USELESS

logger = logging.getLogger(__name__)

ORPHAN_S = 3.0
"""A part whose supervisor is gone ends its work in so long, or without it."""

ENDED, FAILED = 0, 1


@dataclass(frozen=True)
class Work:
    """What a part's process was told when it was started.

    Attributes:
        name: of the part, such as "gateway-1".
        alive: the reading end of the supervisor's pipe; None: no supervisor.
        listen: a listening socket; None: none.
        workers: parts that share the socket.
    """

    name: str
    workspace: Path
    alive: int | None = None
    listen: int | None = None
    workers: int = 1

    @property
    def number(self) -> int:
        """1 for "gateway-1"; 0 for a part of which there is one."""
        _, _, number = self.name.rpartition("-")
        return int(number) if number.isdigit() else 0

    @property
    def address(self) -> str:
        """Where it listens, in words."""
        if self.listen is None:
            return ""
        with socket.socket(fileno=os.dup(self.listen)) as bound:
            return str(address_of(bound))


Do = Callable[[Work, threading.Event, Heartbeat], None]


def work(told: Work, do: Do | None = None) -> int:
    """Do a part's work until SIGTERM, or until the supervisor is gone; its exit status.

    Args:
        do: the work itself; by default that of the part of this name, of rooms above this one.
    """
    stop = threading.Event()
    with _stopping(stop), _logging(told.name):
        if told.alive is not None:
            watch = threading.Thread(
                target=_watch_supervisor, args=(told.alive, stop), name="alive", daemon=True
            )
            watch.start()
        try:
            (do or _do)(told, stop, Heartbeat(told.workspace, told.name, told.address))
        except PlayheadError as error:
            logger.error("%s", str(error).replace("\n ", ";"))
            return USELESS if _is_lasting(error) else FAILED
        except Exception:
            logger.exception("failed")
            return FAILED
        logger.info("stopped")
    return ENDED


def _do(told: Work, stop: threading.Event, beat: Heartbeat) -> None:
    # Each part imports its own room only: the others' libraries would cost it memory.
    match told.name.partition("-")[0], told.listen:
        case "gateway", int(fd):
            from playhead.gateway import server as gateway

            gateway.serve(
                told.workspace, fd, number=told.number, workers=told.workers, stop=stop, beat=beat
            )
        case "api", int(fd):
            from playhead.api import server as api

            api.serve(
                told.workspace, fd, number=told.number, workers=told.workers, stop=stop, beat=beat
            )
        case "speed", _:
            from playhead.platform.speed import run_speed

            run_speed(told.workspace, stop, beat)
        case "states", _:
            from playhead.platform.states import run_states

            run_states(told.workspace, stop, beat)
        case "batch", _:
            from playhead.platform.batch import run_batch

            run_batch(told.workspace, stop, beat)
        case _:
            raise SettingError(
                f"no part {told.name!r} that could work with --listen {told.listen}",
                hint="There are gateway-1, gateway-2, ..., speed, states, batch and api; "
                "`playhead up` starts them.",
            )


def _is_lasting(error: PlayheadError) -> bool:
    """Whether the next start would fail with the same; a disk that is full or fails may mend."""
    lasting = (SettingError, WorkspaceError)
    passes = isinstance(error, WorkspaceBusyError) or disk.advice(error) in (disk.FULL, disk.FAILS)
    return isinstance(error, lasting) and not passes


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """Within the block SIGTERM sets `stop`, and SIGINT is the supervisor's to hear."""

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, end),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch_supervisor(alive: int, stop: threading.Event) -> None:
    """Stop when the pipe closes, which it does with the supervisor, and end soon after."""
    os.read(alive, 1)
    logger.warning("the supervisor is gone: stopping")
    # Some servers take SIGTERM for themselves and would not see `stop` alone.
    os.kill(os.getpid(), signal.SIGTERM)
    stop.set()
    time.sleep(ORPHAN_S)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(FAILED)


@contextmanager
def _logging(name: str) -> Iterator[None]:
    """Log whole lines with time and part to stderr, which is the platform's log file."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    handler = logging.StreamHandler(sys.stderr)
    form = logging.Formatter(f"%(asctime)sZ {name} %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    root.handlers = [handler]
    logging.getLogger("playhead").setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers = before
        root.setLevel(level)
