"""One Kafka broker on loopback, its own controller (KRaft): for trying out, tests and figures."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from playhead.cluster.jars import jars
from playhead.cluster.server import START_S, Server, await_port, free_port, program
from playhead.errors import ServerError

__all__ = ["Broker"]

_LOOPBACK = "127.0.0.1"
_CLUSTER_ID = "cGxheWhlYWQtYnJva2VyMQ"
_HEAP = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_FORMAT_TIMEOUT_S = 60


class Broker:
    """A broker that keeps its data in a folder, and its port over a restart.

    Nobody but this machine reaches it, and nothing is encrypted. It makes no topic by itself, and
    keeps consumer groups' offsets for ever.

    Args:
        folder: its data, settings and log; made if it is not there.
        port: of its clients; None: any that is free.
        settings: of Kafka's server properties, in place of those that are set here.
    """

    def __init__(
        self, folder: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder.resolve()
        self.port = port or free_port()
        self._settings = dict(settings or {})
        self._controller_port = free_port()
        self._server: Server | None = None

    def __enter__(self) -> "Broker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Host and port, as clients take them."""
        return f"{_LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the broker's process.

        Raises:
            ServerError: it does not run.
        """
        if self._server is None:
            raise ServerError("the broker does not run")
        return self._server.pid

    def properties(self) -> dict[str, str]:
        """The broker's settings, by Kafka's names of them."""
        data = self.folder / "data"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{_LOOPBACK}:{self._controller_port}",
            "listeners": f"PLAINTEXT://{self.address},"
            f"CONTROLLER://{_LOOPBACK}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(data),
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            # A group that was silent for long is not forgotten: retention waits for it.
            "offsets.retention.minutes": str(2**31 - 1),
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "log.index.size.max.bytes": "1048576",
            "num.network.threads": "2",
            "num.io.threads": "2",
            "log.cleaner.dedupe.buffer.size": "8388608",
        } | self._settings

    def start(self, *, seconds: float = START_S) -> None:
        """Start it, on the data that is there; returns once it takes clients.

        Raises:
            ServerError: Java or the jars are missing, or it ended, or was not ready in time.
        """
        if self._server is not None:
            raise ServerError("the broker runs already", hint="Stop it first.")
        java = program("java", "a Java runtime (Debian: apt-get install default-jre-headless)")
        command = [java, *_HEAP, "-cp", f"{jars('kafka')}/*"]
        settings = self._written()
        if not (self.folder / "data" / "meta.properties").is_file():
            _format(command, settings)
        self._server = Server(
            "the broker",
            [*command, "kafka.Kafka", str(settings)],
            log=self.folder / "broker.log",
            folder=self.folder,
        )
        try:
            self._server.start(await_port(self.port), seconds=seconds)
        except ServerError:
            self._server = None
            raise

    def stop(self) -> None:
        """Let it end in good order; may be called twice."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def kill(self) -> None:
        """End it at once, as `kill -9` does; `start` goes on with its data."""
        server, self._server = self._server, None
        if server is not None:
            server.kill()

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same data and port."""
        self.stop()
        self.start()

    def _written(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "server.properties"
        lines = [f"{name}={value}" for name, value in self.properties().items()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


def _format(command: list[str], settings: Path) -> None:
    """Make the data folder one of a new cluster."""
    told = subprocess.run(
        [*command, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(settings)],
        capture_output=True,
        text=True,
        timeout=_FORMAT_TIMEOUT_S,
        check=False,
    )
    if told.returncode:
        raise ServerError(
            f"the broker's folder cannot be made: {(told.stderr or told.stdout)[-500:]}",
            hint=f"See {settings}.",
        )
