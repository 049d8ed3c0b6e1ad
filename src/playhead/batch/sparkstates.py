"""States computed on Spark: its workers read, widen, group, merge and write, each what it holds.

States merge, so events need no exchange: each task runs the partial plans over some of the lake's
files by the engine in its own process, and Spark brings states of one bucket together. By Spark
SQL each of some thirty states would be a job with exchanges of its own.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

from playhead import errors
from playhead.batch.shares import Share, SharedStateEngine, SharedStates
from playhead.engines.spark.plans import told
from playhead.errors import EngineError, PlayheadError

if TYPE_CHECKING:
    from pyspark import RDD, SparkContext
    from pyspark.sql import SparkSession

__all__ = ["SparkStates"]

_RAISED = re.compile(r"^(?:playhead\.errors\.)(\w+): (.+)$", re.MULTILINE)
_TASKS_A_CORE = 2


class SparkStates(SharedStateEngine):
    """Computes on Spark's executors; the driver sees plans, and what manifests have to know.

    Args:
        session: gives the session when there is something to compute; called once.
    """

    name = "spark"

    def __init__(self, session: "Callable[[], SparkSession]") -> None:
        self._open = session

    @cached_property
    def _context(self) -> "SparkContext":
        return self._open().sparkContext

    def processes(self) -> int:
        return int(self._context.defaultParallelism)

    def gather(
        self, work: Callable[[Share], dict[date, int]], divided: Sequence[Share], what: str
    ) -> Iterable[dict[date, int]]:
        with told_by_tasks(what):
            found: list[dict[date, int]] = self._tasks(divided, what).map(work).collect()
            return found

    def exchange(
        self, work: SharedStates, divided: Sequence[Share], what: str
    ) -> Iterable[tuple[int, bytes]]:
        tasks = max(_TASKS_A_CORE * self.processes(), len(divided))
        with told_by_tasks(what):
            states = self._tasks(divided, what).flatMap(work.partials)
            # Hashes of numbers are the same in every process.
            together = states.groupByKey(tasks, hash)
            written: list[tuple[int, bytes]] = together.mapPartitions(work.merged).collect()
            return written

    def _tasks(self, divided: Sequence[Share], what: str) -> "RDD[Share]":
        # The pages of Spark show it.
        self._context.setJobDescription(what)
        return self._context.parallelize(divided, max(len(divided), 1))


@contextmanager
def told_by_tasks(what: str) -> Iterator[None]:
    """As `told`, with what was raised in the Python of Spark's workers.

    Raises:
        PlayheadError: the very kind that a task raised, or EngineError.
    """
    try:
        with told(what):
            yield
    except EngineError as error:
        text = str(error.__cause__)
        if "No module named 'playhead" in text:
            raise EngineError(
                f"{what}: the Python of Spark's workers has no Playhead",
                hint="States are made where the events are: give the workers the same packages, "
                "or an environment that has them by spark.pyspark.python.",
            ) from error.__cause__
        if found := _RAISED.search(text):
            kind = getattr(errors, found[1], EngineError)
            raised = kind if issubclass(kind, PlayheadError) else EngineError
            raise raised(f"{what}: {found[2]}") from error.__cause__
        raise
