"""States computed on Spark: its workers read, widen, group, merge and write, each what it holds.

States merge, so events need no exchange: each task runs the partial plans over some of the lake's
files by the engine in its own process, and Spark brings states of one bucket together. By Spark
SQL each of some thirty states would be a job with exchanges of its own.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

from playhead import errors
from playhead.batch.base import StateEngine
from playhead.batch.reading import Reading
from playhead.batch.shares import Share, SharedReading, SharedStates, shares
from playhead.engines.spark.plans import told
from playhead.errors import EngineError, PlayheadError
from playhead.lake import Draft, Snapshot
from playhead.views.leaf import Leaf

if TYPE_CHECKING:
    from pyspark import RDD, SparkContext
    from pyspark.sql import SparkSession

__all__ = ["SparkStates"]

logger = logging.getLogger(__name__)

_RAISED = re.compile(r"^(?:playhead\.errors\.)(\w+): (.+)$", re.MULTILINE)
_TASKS_A_CORE = 2


class SparkStates(StateEngine):
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

    def days(self, events: Snapshot, reading: Reading) -> dict[date, int]:
        what = f"days of {events.name}"
        source = SharedReading.of(events, reading)
        found: Counter[date] = Counter()
        with told_by_tasks(what):
            for days in self._divided(reading.of(events), what).map(source.days).collect():
                found.update(days)
        return dict(found)

    def compute(
        self,
        events: Snapshot,
        reading: Reading,
        days: Mapping[date, int],
        dimensions: Mapping[str, Snapshot],
        leaves: Sequence[tuple[Leaf, Draft]],
    ) -> None:
        what = f"states of {events.name}"
        with ExitStack() as stack:
            drafts = [stack.enter_context(draft.elsewhere()) for _, draft in leaves]
            writers = [
                (leaf, writer) for (leaf, _), (writer, _) in zip(leaves, drafts, strict=True)
            ]
            source = SharedReading.of(events, reading)
            work = SharedStates.of(source, days, dimensions, writers)
            with told_by_tasks(what):
                states = self._divided(reading.of(events), what).flatMap(work.partials)
                tasks = max(
                    _TASKS_A_CORE * self._context.defaultParallelism, states.getNumPartitions()
                )
                # Hashes of numbers are the same in every process.
                together = states.groupByKey(tasks, hash)
                for leaf, files in together.mapPartitions(work.merged).collect():
                    drafts[leaf][1].append(files)
        logger.debug("%s: %d states in %d tasks", what, len(leaves), tasks)

    def _divided(self, events: Snapshot, what: str) -> "RDD[Share]":
        """The files as tasks."""
        # The pages of Spark show it.
        self._context.setJobDescription(what)
        divided = shares(events, self._context.defaultParallelism)
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
