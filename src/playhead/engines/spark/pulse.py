"""Whether Spark gets on with what it was given, while whoever has asked for it waits."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark import StatusTracker
    from pyspark.sql import SparkSession

__all__ = ["pulse"]

LOOK_S = 1.0


@contextmanager
def pulse(
    session: "Callable[[], SparkSession | None]", on_work: Callable[[], None]
) -> Iterator[None]:
    """Call something, from a thread, whenever a task has begun or ended since the last look.

    Args:
        session: gives the session, once there is one; never starts it.
    """
    ended = threading.Event()

    def look() -> None:
        # Raised by the gateway to a Java process that is gone; it has no types of its own.
        gone: type[Exception] | None = None
        seen: object = None
        while not ended.wait(LOOK_S):
            found = session()
            if found is None:
                continue
            gone = gone or import_module("py4j.protocol").Py4JError
            with suppress(gone, OSError):
                now = _tasks(found.sparkContext.statusTracker())
                if now and now != seen:
                    on_work()
                seen = now

    thread = threading.Thread(target=look, name="Spark's pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tasks(tracker: "StatusTracker") -> list[tuple[int, int, int, int]]:
    """Of each stage that runs: its number, and its tasks that are active, done and failed."""
    stages = (tracker.getStageInfo(stage) for stage in sorted(tracker.getActiveStageIds()))
    return [
        (one.stageId, one.numActiveTasks, one.numCompletedTasks, one.numFailedTasks)
        for one in stages
        if one is not None
    ]
