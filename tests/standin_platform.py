"""A platform of small stand-in parts, run as a program: `up W` supervises, `part W NAME` works.

What goes on between supervisor and parts is the real thing; only the work is not.
"""

import argparse
import os
import signal
import socket
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from playhead.config import Address
from playhead.errors import PlayheadError, SettingError
from playhead.platform.heartbeat import Heartbeat
from playhead.platform.parts import Part, Role
from playhead.platform.supervisor import Supervisor
from playhead.platform.watched import Pauses
from playhead.platform.working import Work, work

ROLES = {
    "gateway": Role.TAKES_IN,
    "speed": Role.MAKES_ANSWERS,
    "batch": Role.WORKS_BESIDE,
    "api": Role.ANSWERS,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["up", "part"])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--alive", type=int)
    parser.add_argument("--listen", type=int)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--silence", type=float, default=60.0)
    told = parser.parse_args()
    if told.verb == "part":
        sys.exit(work(Work(told.names[0], told.workspace, told.alive, told.listen), _do))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        _supervisor(told).run(stop)
    except PlayheadError as error:
        sys.exit(f"error: {error}")


def _supervisor(told: argparse.Namespace) -> Supervisor:
    addresses = {
        "gateway": Address("127.0.0.1", told.port),
        "api": Address("127.0.0.1", 0),
    }
    pauses = Pauses(first=timedelta(seconds=0.2), longest=timedelta(seconds=1))
    parts = [_part(told.workspace, name, told.silence) for name in told.names]
    return Supervisor(told.workspace, parts, addresses, pauses=pauses)


def _part(workspace: Path, name: str, silence: float) -> Part:
    kind = name.partition("-")[0]
    return Part(
        name,
        (sys.executable, __file__, "part", str(workspace), name),
        ROLES.get(kind, Role.MAKES_ANSWERS),
        kind if kind in ("gateway", "api") else None,
        silence=timedelta(seconds=silence),
    )


def _do(told: Work, stop: threading.Event, beat: Heartbeat) -> None:
    match told.name:
        case "useless":
            raise SettingError("gateway.address needs a key", hint="Make one.")
        case "crashing":
            beat("about to crash")
            raise RuntimeError("crashed")
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                beat("stubborn")
                time.sleep(0.1)
    if told.listen is None:
        while not stop.wait(0.1):
            beat("works", lag=3, events_per_s=10, behind_s=0.2)
    else:
        _serve(told.listen, stop, beat)
    with (told.workspace / "order").open("a") as file:
        file.write(f"{told.name}\n")


def _serve(fd: int, stop: threading.Event, beat: Heartbeat) -> None:
    """Answer everything with this process's id."""
    with socket.socket(fileno=os.dup(fd)) as bound:
        bound.settimeout(0.1)
        while not stop.is_set():
            beat("serves")
            try:
                accepted, _ = bound.accept()
            except TimeoutError:
                continue
            with accepted:
                accepted.settimeout(5)
                accepted.recv(4096)
                body = str(os.getpid()).encode()
                head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                accepted.sendall(head % len(body) + body)


if __name__ == "__main__":
    main()
