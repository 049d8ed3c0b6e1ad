"""Streaming queries whose micro-batches are worked on by another thread than Spark's own."""

import queue
import shutil
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from playhead.engines.spark.plans import told
from playhead.errors import EngineError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_LOOK_S = 0.2


@dataclass(frozen=True, eq=False)
class Batch:
    """Messages of one micro-batch, which Spark holds until `done` is called.

    Attributes:
        number: of the query's run, from 0 on.
        frame: columns of Spark's Kafka source; of the query's own session.
    """

    stream: "Stream"
    number: int
    frame: "DataFrame"

    def done(self) -> None:
        """Let Spark go on to the next micro-batch."""
        self.stream.finished.put(None)


class Stream:
    """One run of a query over a topic, from offsets that the caller knows.

    What was read up to now is the caller's to keep, with what it made of it. The query's own
    checkpoint lasts as long as the query: a driver that starts anew, on whatever machine, starts
    from the caller's offsets.

    Args:
        topic: for messages.
        options: of Spark's Kafka source; see `source_options`.
        trigger_ms: from the start of one micro-batch to the next.
        scratch: a folder on the driver, where the checkpoint is.
        ready: gets the query's micro-batches, one at a time.
    """

    def __init__(
        self,
        session: "SparkSession",
        topic: str,
        options: Mapping[str, str],
        *,
        trigger_ms: int,
        scratch: Path,
        ready: queue.Queue[Batch],
    ) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self.topic = topic
        self.finished: queue.Queue[None] = queue.Queue()
        self._ready = ready
        self._stopping = threading.Event()
        self._checkpoint = Path(tempfile.mkdtemp(prefix=f"stream-{topic}-", dir=scratch))
        with told(f"stream of {topic}"):
            rows = session.readStream.format("kafka").options(**options).load()
            self._query = (
                rows.writeStream.foreachBatch(self._hand_over)
                .queryName(f"playhead speed {topic}")
                .option("checkpointLocation", self._checkpoint.as_uri())
                .trigger(processingTime=f"{trigger_ms} milliseconds")
                .start()
            )

    @property
    def name(self) -> str:
        """Tells this run from all others: the topic, and Spark's id of the run."""
        return f"{self.topic}:{self._query.runId}"

    def check(self) -> None:
        """See that it runs.

        Raises:
            EngineError: it has failed.
        """
        failure = self._query.exception()
        if failure is not None:
            raise EngineError(f"the stream of {self.topic} has failed: {_reason(str(failure))}")
        if not self._query.isActive:
            raise EngineError(f"the stream of {self.topic} has ended")

    def stop(self) -> None:
        """End the query; what it has handed over goes unfinished. May be called twice."""
        from pyspark.errors import PySparkException

        self._stopping.set()
        # It may have failed before, which `check` has told.
        with suppress(PySparkException):
            self._query.stop()
        shutil.rmtree(self._checkpoint, ignore_errors=True)

    def _hand_over(self, frame: "DataFrame", number: int) -> None:
        """Called by Spark for each micro-batch; it goes on when this returns."""
        if not self._stopping.is_set():
            self._ready.put(Batch(self, number, frame))
        while not self._stopping.is_set():
            with suppress(queue.Empty):
                self.finished.get(timeout=_LOOK_S)
                break


def _reason(told: str) -> str:
    """The line that says why, of a Java exception's words."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith("Caused by:")]
    return (causes[-1].removeprefix("Caused by:").strip() if causes else lines[0])[:500]
