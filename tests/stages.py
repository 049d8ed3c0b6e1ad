"""Stages of the layers as processes of their own, which stop at a chosen moment to be killed."""

import importlib
import inspect
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

from layers import Running, SmallWorkspace, send, watches, workspace
from playhead.batch.replay import AtOnce, ReplaySpec
from playhead.errors import PlayheadError

VIEWS = ("counts", "windows", "countries")

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["stages"])


def start_server() -> None:
    """Start the process that imports everything once, and of which each stage is a fork."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths))):
        forkserver.ensure_running()


@dataclass(frozen=True)
class Moment:
    """The `nth` call of a function, before it does its work or after it.

    `function` is written "package.module:Class.method", or "package.module:function" as the
    module calls it by that name.
    """

    function: str
    nth: int
    after: bool = True

    def __str__(self) -> str:
        when = "after" if self.after else "before"
        return f"{when} {self.function.split(':')[1]} {self.nth}"

    def wait_here(self, reached: Callable[[], None], *, stay: bool = True) -> None:
        """Make the function tell that the moment is there, and (to `stay`) go no further."""
        owner, name = self.place()
        inner, calls = getattr(owner, name), []

        def stop() -> None:
            reached()
            time.sleep(600 if stay else 0)

        @wraps(inner)
        def outer(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == self.nth and not self.after:
                stop()
            result = inner(*args, **kwargs)
            if len(calls) == self.nth and self.after:
                stop()
            return result

        static = isinstance(inspect.getattr_static(owner, name), staticmethod)
        setattr(owner, name, staticmethod(outer) if static else outer)

    def place(self) -> tuple[Any, str]:
        """The class or module that holds the function, and the function's name in it.

        Raises:
            AttributeError: there is no such function.
        """
        module, _, names = self.function.partition(":")
        class_name, _, name = names.rpartition(".")
        owner = importlib.import_module(module)
        owner = getattr(owner, class_name) if class_name else owner
        getattr(owner, name)
        return owner, name


def stage_load(opened: SmallWorkspace) -> None:
    opened.load(opened.path.parent / "files").check()


def stage_replay(opened: SmallWorkspace) -> None:
    opened.replay(
        opened.path.parent / "files", ReplaySpec(AtOnce(), topics=("playback",), block_events=20)
    )


def stage_speed(opened: SmallWorkspace) -> None:
    opened.speed(drain=True)


def stage_batch(opened: SmallWorkspace) -> None:
    opened.batch()


def stage_compaction(opened: SmallWorkspace) -> None:
    with Running(opened) as layer:
        layer.compact()


def stage_recover(opened: SmallWorkspace) -> None:
    opened.recover()


STAGES = {
    "load": stage_load,
    "replay": stage_replay,
    "speed": stage_speed,
    "seal": stage_speed,
    "batch": stage_batch,
    "compaction": stage_compaction,
    "recover": stage_recover,
}


def run_stage(pipe: Connection, path: Path, stage: str, moment: Moment) -> None:
    """Do a stage, up to the moment; in a process of its own."""
    moment.wait_here(lambda: pipe.send("there"))
    with workspace(path, *VIEWS) as opened:
        STAGES[stage](opened)
    pipe.send("ended")


def run_stopped(pipe: Connection, path: Path, stage: str, moment: Moment) -> None:
    """Do a stage as a command does it, stopped by SIGSTOP at the moment; tell how it ended."""

    def stop() -> None:
        pipe.send("there")
        os.kill(os.getpid(), signal.SIGSTOP)

    moment.wait_here(stop, stay=False)
    try:
        with workspace(path, *VIEWS) as opened:
            STAGES[stage](opened)
    except PlayheadError as error:
        pipe.send(f"{type(error).__name__}: {error}")
    else:
        pipe.send("ended")


@contextmanager
def stopped_at(path: Path, stage: str, moment: Moment) -> Iterator[Callable[[], str]]:
    """A stage in a process that stands still at the moment; the call lets it go on to its end."""
    start_server()
    ours, theirs = context.Pipe()
    process = context.Process(target=run_stopped, args=(theirs, path, stage, moment))
    process.start()
    theirs.close()

    def go_on() -> str:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGCONT)
        assert ours.poll(60), f"{stage} hangs after {moment}"
        return str(ours.recv())

    try:
        assert ours.recv() == "there", f"{stage} never came {moment}"
        yield go_on
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def kill_at(path: Path, stage: str, moment: Moment) -> None:
    """Do a stage in a process of its own, and `kill -9` it at the moment."""
    start_server()
    ours, theirs = context.Pipe()
    process = context.Process(target=run_stage, args=(theirs, path, stage, moment))
    process.start()
    theirs.close()
    try:
        assert ours.recv() == "there", f"{stage} never came {moment}"
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def run_speed(pipe: Connection, path: Path, trigger_ms: int, seal_ms: int) -> None:
    """The speed layer in a hurry, until SIGTERM; tells when it has started."""
    with workspace(path, *VIEWS) as opened:
        config = {
            "trigger": timedelta(milliseconds=trigger_ms),
            "seal_every": timedelta(milliseconds=seal_ms),
            "judge_every": timedelta(milliseconds=100),
            "max_events": 50,
        }
        stop = _stopped_by_sigterm()
        with opened._role("speed layer"):
            running = Running(opened, **config)
            with running as layer:
                pipe.send("started")
                layer.run(stop)
    pipe.send("ended")


def _stopped_by_sigterm() -> threading.Event:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop


@contextmanager
def speed_process(path: Path, *, trigger_ms: int = 20, seal_ms: int = 150) -> Iterator[Any]:
    """A speed layer in a process of its own; what is left of it is killed at the end."""
    start_server()
    ours, theirs = context.Pipe()
    process = context.Process(target=run_speed, args=(theirs, path, trigger_ms, seal_ms))
    process.start()
    theirs.close()
    try:
        assert ours.recv() == "started"
        yield process
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def append_watches(path: Path, start: int, count: int) -> None:
    """Append events of its own, a few at a time."""
    with workspace(path, *VIEWS) as opened:
        for first in range(start, start + count, 10):
            send(opened, watches(10, start=first, minute=(first % 100) / 2))


def appenders(path: Path, number: int, count: int) -> list[Any]:
    """Processes that append `count` events each, with ids of their own."""
    start_server()
    started = [
        context.Process(target=append_watches, args=(path, 10_000 * (i + 1), count))
        for i in range(number)
    ]
    for process in started:
        process.start()
    return started
