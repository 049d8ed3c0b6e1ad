"""All servers of a platform on a cluster, together: broker, store, database, and Spark."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from playhead.cluster.broker import Broker
from playhead.cluster.jars import has_jars, jars
from playhead.cluster.postgres import Postgres, postgres_program
from playhead.cluster.server import program
from playhead.cluster.spark import SparkCluster
from playhead.cluster.store import ObjectStore, store_program
from playhead.engines.spark import spark_home
from playhead.errors import PlayheadError, ServerError

__all__ = ["Servers", "check_installed"]

_BUCKET = "lake"
_SPARK_CORES, _SPARK_MEMORY_MB = 2, 2048
_SPARK_FILE = "applications.conf"
_SPARK_OPTIONS = """\
# Executors that fit the workers: two of them for each of the layers.
spark.cores.max 2
spark.executor.cores 1
spark.executor.memory 768m
spark.executor.memoryOverhead 384m
spark.sql.shuffle.partitions 4
"""
_CLIENTS = {
    "confluent_kafka": "playhead[kafka]",
    "psycopg": "playhead[postgres]",
}


class Servers:
    """A broker, an object store, PostgreSQL and, if wanted, Spark, each in a folder of its own.

    A context: all of them are stopped at its end, and whatever runs already when one of them does
    not start, or when the start is interrupted.

    Attributes:
        broker, store, database: the servers.
        spark: a master and two workers; None: none is wanted.

    Args:
        folder: theirs alone; made if it is not there.
        with_spark: whether Spark is wanted.
    """

    def __init__(self, folder: Path, *, with_spark: bool = False) -> None:
        self._folder, self._with_spark = folder.absolute(), with_spark
        self.broker = Broker(self._folder / "kafka")
        self.store = ObjectStore(self._folder / "store")
        self.database = Postgres(self._folder / "postgres")
        self.spark: SparkCluster | None = None
        self._warehouse = ""
        self._started = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, tell: Callable[[str, float], None] = lambda _, __: None) -> None:
        """Start all of them; each answers when this returns.

        Args:
            tell: told what is being started, and how much of all is done (0 to 1).

        Raises:
            ServerError: something is not installed, or does not start; nothing runs then.
        """
        check_installed(with_spark=self._with_spark)
        steps = list(self._steps())
        try:
            for number, (name, step) in enumerate(steps):
                tell(name, number / len(steps))
                step()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all that was started; may be called twice."""
        self._started.close()

    @property
    def environment(self) -> dict[str, str]:
        """What programs need to use them: keys and passwords, which no file of settings holds."""
        return {**self.store.environment, "PGPASSWORD": self.database.password}

    @property
    def settings(self) -> str:
        """The sections [log], [lake] and, with Spark, [spark] of a `playhead.toml`."""
        lines = [
            "[log]",
            f'brokers = "{self.broker.address}"',
            "",
            "[lake]",
            f'warehouse = "{self._warehouse}"',
            f'catalog = "{self.database.address}"',
            f'endpoint = "{self.store.endpoint}"',
        ]
        if self.spark is not None:
            options = self._spark_folder / _SPARK_FILE
            lines += ["", "[spark]", f'master = "{self.spark.master}"', 'memory = "1GB"']
            lines += [f'options_file = "{options}"']
        return "\n".join(lines) + "\n"

    @property
    def _spark_folder(self) -> Path:
        return self._folder / "spark"

    @property
    def addresses(self) -> dict[str, str]:
        """Where each of them listens, for people."""
        found = {
            "Kafka": self.broker.address,
            "object store": self.store.endpoint,
            "PostgreSQL": f"127.0.0.1:{self.database.port}",
        }
        if self.spark is not None:
            found |= {"Spark": self.spark.master, "Spark's page": self.spark.page}
        return found

    def _steps(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What there is to do, in its order, each with its name."""
        for name in ("kafka", "spark") if self._with_spark else ("kafka",):
            if not has_jars(name):
                yield f"jars of {name}, by Maven: once, some minutes", partial(jars, name)
        yield "Kafka: one broker, KRaft", self._start_broker
        yield "object store: SeaweedFS", self._start_store
        yield "PostgreSQL, for the catalog", self._start_database
        if self._with_spark:
            yield "Spark: a master and two workers", self._start_spark

    # Each is to be stopped from before it starts: a start may be interrupted.

    def _start_broker(self) -> None:
        self._started.callback(self.broker.stop)
        self.broker.start()

    def _start_store(self) -> None:
        self._started.callback(self.store.stop)
        self.store.start()
        self._warehouse = f"{self.store.make_bucket(_BUCKET)}/warehouse"

    def _start_database(self) -> None:
        self._started.callback(self.database.stop)
        self.database.start()

    def _start_spark(self) -> None:
        folder = self._spark_folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _SPARK_FILE).write_text(_SPARK_OPTIONS, encoding="utf-8")
        self.spark = SparkCluster(folder, cores=_SPARK_CORES, memory_mb=_SPARK_MEMORY_MB)
        self._started.callback(self.spark.stop)
        self.spark.start()


def check_installed(*, with_spark: bool) -> None:
    """See that everything is there that the servers are made of.

    Raises:
        ServerError: something is missing; its hint says how to get all of it.
    """
    missing = list(_missing(with_spark=with_spark))
    if missing:
        raise ServerError(
            "; ".join(error.message for error in missing),
            hint=" ".join(error.hint for error in missing if error.hint),
        )


def _missing(*, with_spark: bool) -> Iterator[PlayheadError]:
    checks: list[Callable[[], object]] = [
        lambda: program("java", "a Java runtime (Debian: apt-get install default-jre-headless)."),
        lambda: postgres_program("postgres"),
        store_program,
        *(partial(_check_client, name) for name in _CLIENTS),
    ]
    if with_spark:
        checks.append(spark_home)
    if not has_jars("kafka") or (with_spark and not has_jars("spark")):
        checks.append(lambda: program("mvn", "Maven (Debian: apt-get install maven)."))
    for check in checks:
        try:
            check()
        except PlayheadError as error:
            yield error


def _check_client(name: str) -> None:
    if find_spec(name) is None:
        raise ServerError(
            f"{name} is not installed", hint=f'Install it: pip install "{_CLIENTS[name]}".'
        )
