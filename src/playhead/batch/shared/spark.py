"""Spark's executors as the processes that a batch run's work is divided among.

Each task works in DuckDB, in the Python process beside its executor, on the files that it is given;
Spark spreads the tasks, does lost ones again, and brings together what has one key. By Spark SQL
each of some thirty states would be a job with exchanges of events.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from playhead import errors
from playhead.batch.shared.processes import Exchange, Given, Key, Made, Processes
from playhead.engines.spark.plans import told
from playhead.errors import EngineError, PlayheadError

if TYPE_CHECKING:
    from pyspark import RDD, SparkContext
    from pyspark.sql import SparkSession

__all__ = ["SparkProcesses", "told_by_tasks"]

_RAISED = re.compile(r"^(?:playhead\.errors\.)(\w+): (.+)$", re.MULTILINE)
_TASKS_A_CORE = 2


class SparkProcesses(Processes):
    """The cores of Spark's executors.

    Args:
        session: gives the session when there is something to do; called once.
    """

    name = "spark"

    def __init__(self, session: "Callable[[], SparkSession]") -> None:
        self._open = session

    @cached_property
    def _context(self) -> "SparkContext":
        return self._open().sparkContext

    def count(self) -> int:
        return int(self._context.defaultParallelism)

    def map(
        self, work: Callable[[Given], Made], given: Sequence[Given], what: str
    ) -> Iterable[Made]:
        with told_by_tasks(what):
            made: list[Made] = self._tasks(given, what).map(work).collect()
            return made

    def exchange(
        self, work: Exchange[Given, Key, Made], given: Sequence[Given], what: str
    ) -> Iterable[Made]:
        tasks = max(_TASKS_A_CORE * self.count(), len(given))
        with told_by_tasks(what):
            values = self._tasks(given, what).flatMap(work.partials)
            # Hashes of numbers are the same in every process.
            together = values.groupByKey(tasks, hash)
            made: list[Made] = together.mapPartitions(work.merged).collect()
            return made

    def _tasks(self, given: Sequence[Given], what: str) -> "RDD[Given]":
        # The pages of Spark show it.
        self._context.setJobDescription(what)
        return self._context.parallelize(given, max(len(given), 1))


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
