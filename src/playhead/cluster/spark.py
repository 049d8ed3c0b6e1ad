"""A Spark cluster on loopback: a master and workers of their own processes, from pyspark itself."""

import json
import os
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from playhead.cluster.server import LOOPBACK, Server, free_port
from playhead.engines.spark import spark_home
from playhead.errors import ServerError

__all__ = ["SparkCluster"]

_ASK_S = 10.0


class SparkCluster:
    """A standalone master and its workers; started as a context, or by `start` and `stop`.

    Args:
        folder: gets logs, and what workers keep of applications; made if it is not there.
        workers: how many.
        cores: of each worker.
        memory_mb: of each worker, for the executors that it starts, in MiB.

    Raises:
        EngineError: pyspark or Java is not installed.
    """

    def __init__(
        self, folder: Path, *, workers: int = 2, cores: int = 1, memory_mb: int = 1024
    ) -> None:
        self._folder = folder
        self._home = spark_home()
        self._port, self._page = free_port(), free_port()
        self._master = self._server(
            "master",
            ["master.Master", "--port", str(self._port), "--webui-port", str(self._page)],
        )
        given = ["--cores", str(cores), "--memory", f"{memory_mb}m"]
        self._workers = [self._worker(number, given) for number in range(workers)]

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

    @property
    def master(self) -> str:
        """For `spark.master`."""
        return f"spark://{LOOPBACK}:{self._port}"

    @property
    def page(self) -> str:
        """Of the master, for people."""
        return f"http://{LOOPBACK}:{self._page}"

    @property
    def alive(self) -> int:
        """How many workers the master counts on; it takes a minute to give up a silent one.

        Raises:
            ServerError: the master does not answer.
        """
        return len(self._ids())

    def start(self) -> None:
        """Start the master, then all workers; returns once it knows them.

        Raises:
            ServerError: one of them does not start.
        """
        try:
            self._master.start(lambda: self._ask()["status"] == "ALIVE")
            for number in range(len(self._workers)):
                self.start_worker(number)
        except BaseException:
            self.stop()
            raise

    def start_worker(self, number: int) -> None:
        """Start one worker (again); returns once the master knows it.

        Args:
            number: from 0.

        Raises:
            ServerError: it does not start.
        """
        known = self._ids()
        self._workers[number].start(lambda: bool(self._ids() - known))

    def kill_worker(self, number: int) -> None:
        """End one worker at once, and the executors that it runs."""
        self._workers[number].kill()

    def stop(self) -> None:
        """Stop all that was started; may be called twice."""
        for server in (*self._workers, self._master):
            server.stop()

    def _ids(self) -> set[str]:
        try:
            return {w["id"] for w in self._ask()["workers"] if w["state"] == "ALIVE"}
        except OSError as error:
            raise ServerError(
                f"the Spark master does not answer: {error}", hint=f"See {self._master.log}."
            ) from error

    def _ask(self) -> dict[str, Any]:
        page = f"http://{LOOPBACK}:{self._page}/json/"
        with urllib.request.urlopen(page, timeout=_ASK_S) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def _worker(self, number: int, given: Sequence[str]) -> Server:
        name = f"worker-{number}"
        kept = ["--work-dir", str((self._folder / name).absolute()), "--webui-port", "0"]
        return self._server(name, ["worker.Worker", *given, *kept, self.master])

    def _server(self, name: str, program: Sequence[str]) -> Server:
        # The program's own options follow its address, and a worker's master comes last.
        command = [
            str(self._home / "bin" / "spark-class"),
            f"org.apache.spark.deploy.{program[0]}",
            "--host",
            LOOPBACK,
            *program[1:],
        ]
        environment = {
            "SPARK_HOME": str(self._home),
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_LOCAL_DIRS": str((self._folder / "scratch").absolute()),
            "SPARK_DAEMON_MEMORY": "256m",
            # Master and workers idle: what would make them faster costs more than it saves.
            "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
            # A setting for other Sparks of this machine is none for this one.
            "SPARK_CONF_DIR": str(self._folder.absolute()),
            "PATH": os.environ.get("PATH", os.defpath),
        }
        return Server(
            f"the Spark {name}",
            command,
            log=self._folder / f"{name}.log",
            folder=self._folder,
            environment=environment,
        )
