"""What one core, one event and one user cost: the figures that a capacity plan is made from.

Each says where it comes from. Those of `PEER` were measured, but on the engine or the library
alone; they stand for Playhead on top of it until that is measured, too.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["FIGURES", "Basis", "Measured"]

MIB, GIB = 2.0**20, 2.0**30
_BENCHMARKS = "docs/benchmarks.md"
_LOADED = "950,000 generated events, loaded and computed"


class Basis(StrEnum):
    """What a figure rests on."""

    MEASURED = "measured"
    PEER = "measured without Playhead"
    ASSUMED = "assumed"


@dataclass(frozen=True)
class Measured:
    """One figure.

    Attributes:
        value: in `unit`.
        source: which benchmark or run, or why it is assumed.
    """

    value: float
    unit: str
    source: str
    basis: Basis = Basis.MEASURED


GATEWAY = Measured(
    275_570,
    "events/s a core",
    f"{_BENCHMARKS}, gateway: 551,141 events/s by two workers on 2 cores, beside the generator",
)
PRODUCER = Measured(
    111_556,
    "events/s a core",
    f"{_BENCHMARKS}, kafka: appends of 50,000 events, acknowledged, beside the broker on 2 cores",
)
CONSUMER = Measured(
    101_666,
    "events/s a partition",
    f"{_BENCHMARKS}, kafka: reads of all columns, beside the broker on 2 cores",
)
BROKER = Measured(
    525_760,
    "events/s written a broker",
    f"{_BENCHMARKS}, kafka: librdkafka's bare producer, beside the broker on 2 cores",
    Basis.PEER,
)
BROKER_CORES = Measured(2, "cores a broker", "the cores on which that was measured", Basis.PEER)
BROKER_MEMORY = Measured(
    6 * GIB,
    "bytes a broker",
    "1 GiB of heap, 5 of page cache for readers at the end",
    Basis.ASSUMED,
)
COMPRESSION = Measured(
    6.1, "times smaller", "zstd level 3 over 100 generated playback events as JSON, random ids"
)
SPARK_SPEED = Measured(
    11_474,
    "events/s a core",
    f"{_BENCHMARKS}, stream: 11 views by one core, sealing and driver included; two took 19,798",
)
SPARK_DRIVER = Measured(
    555_885,
    "events/s a driver",
    f"{_BENCHMARKS}, stream: places, times and ids of 1.9 million events, 48 million remembered",
)
SPARK_BATCH = Measured(
    40_032,
    "events/s a core",
    f"{_BENCHMARKS}, spark: states of 11 views of 1 million events in 12.49 s, local on 2 cores",
)
SPARK_CLEANS = Measured(
    264_255,
    "events/s a core",
    f"{_BENCHMARKS}, cleaning: 10.2 million rows in 38.60 s, local on one core",
)
IDS = Measured(
    898_939,
    "ids of history/s a core",
    f"{_BENCHMARKS}, cleaning: 10 million in 11.12 s, local on one core",
)
EXECUTOR_CORES = Measured(4, "cores an executor", "of one machine of a usual size", Basis.ASSUMED)
TASK_MEMORY = Measured(4 * GIB, "bytes a core", "heap and overhead of one task", Basis.ASSUMED)
DRIVER_CORES = Measured(2, "cores a driver", "planning and commits", Basis.ASSUMED)
DRIVER_MEMORY = Measured(
    4 * GIB, "bytes a driver", "plans, and file lists of commits", Basis.ASSUMED
)
USER = Measured(254, "bytes a user", "coded and indexed by a worker, 1 million generated users")
LAKE_EVENT = Measured(
    40, "bytes an event and table", f"Parquet files of {_LOADED}: 23.5, and 16 for random ids"
)
STATE_EVENT = Measured(
    15.4, "bytes an event", f"batch states of 13 views of {_LOADED}: 2.8 rows an event"
)
GATEWAY_MEMORY = Measured(
    512 * MIB, "bytes a process", "bodies that wait (gateway.max_waiting_mb), and libraries",
    Basis.ASSUMED,
)  # fmt: skip
API_CORES = Measured(2, "cores a replica", "DuckDB's threads for one question", Basis.ASSUMED)
API_MEMORY = Measured(
    6e9, "bytes a replica", "the defaults of engine.memory_limit and api.query_memory"
)
ONE_MACHINE = Measured(
    199_378,
    "events/s",
    f"{_BENCHMARKS}, live: for five minutes over HTTP into answers, all on 2 cores",
)
ONE_MACHINE_CLEANS = Measured(
    483_250, "events/s", f"{_BENCHMARKS}, load and generate: load and clean of 12.1 million rows"
)
ONE_MACHINE_IDS = Measured(
    22_000_000,
    "ids of history/s",
    f"{_BENCHMARKS}, growth: a run's ids against all of history, on 2 cores",
)
ONE_MACHINE_DISK = Measured(16e12, "bytes", "a few disks of a server", Basis.ASSUMED)
BUSY = Measured(0.6, "of a core", "the rest is for what fails or is started anew", Basis.ASSUMED)
BATCH_BUSY = Measured(0.5, "of the time", "a run that fails can be done once more", Basis.ASSUMED)
DISK_FULL = Measured(0.8, "of a disk", "the rest is for brokers that take over", Basis.ASSUMED)
REPLICAS = Measured(2, "replicas", "one may be gone", Basis.ASSUMED)

FIGURES = {
    "gateway, validated and appended": GATEWAY,
    "producer to brokers": PRODUCER,
    "consumer of a partition": CONSUMER,
    "broker": BROKER,
    "broker's cores": BROKER_CORES,
    "broker's memory": BROKER_MEMORY,
    "compression": COMPRESSION,
    "speed layer on Spark": SPARK_SPEED,
    "speed layer's driver": SPARK_DRIVER,
    "batch layer on Spark": SPARK_BATCH,
    "cleaning on Spark": SPARK_CLEANS,
    "ids against history on Spark": IDS,
    "executor's cores": EXECUTOR_CORES,
    "executor's memory": TASK_MEMORY,
    "driver's cores": DRIVER_CORES,
    "driver's memory": DRIVER_MEMORY,
    "users held": USER,
    "event in a lake table": LAKE_EVENT,
    "event in batch states": STATE_EVENT,
    "gateway's memory": GATEWAY_MEMORY,
    "API's cores": API_CORES,
    "API's memory": API_MEMORY,
    "least replicas": REPLICAS,
    "one machine, events": ONE_MACHINE,
    "one machine, batch": ONE_MACHINE_CLEANS,
    "one machine, ids": ONE_MACHINE_IDS,
    "one machine, disk": ONE_MACHINE_DISK,
    "cores busy at the peak": BUSY,
    "batch runs, of their interval": BATCH_BUSY,
    "disks full": DISK_FULL,
}
"""All of them, by what they are of."""
