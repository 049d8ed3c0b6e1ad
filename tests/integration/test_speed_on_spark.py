"""The speed layer on Spark, from a real broker: every view equals recomputation and DuckDB's."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

pytest.importorskip("pyspark", reason="missing: pyspark")
pytest.importorskip("confluent_kafka", reason="missing: confluent-kafka")

from layers import SQL
from playhead.assemble import Workspace
from playhead.batch.pace import AtOnce
from playhead.batch.replay import ReplaySpec
from playhead.cluster.broker import Broker
from playhead.engines import DuckDBEngine
from playhead.eventlog.kafka import KafkaEventLog
from playhead.speed.journal import TABLE
from playhead.testing.generate import GenerateSpec, generate

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

SEED = 20261122
CUT, LATER = date(2024, 2, 1), date(2024, 2, 15)
SPEC = GenerateSpec(users=60, movies=30, sessions=3_000, days=60, seed=3)
PATIENCE_S = 150.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "set"
    generate(folder, SPEC)
    return folder


@pytest.fixture
def settings(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYHEAD_LOG_BROKERS", broker.address)
    monkeypatch.setenv("PLAYHEAD_LOG_TOPIC_PREFIX", f"{uuid.uuid4().hex[:12]}.")
    monkeypatch.setenv("PLAYHEAD_SPARK_MASTER", "local[2]")
    monkeypatch.setenv("PLAYHEAD_SPARK_MEMORY", "1GB")
    monkeypatch.setenv("PLAYHEAD_SPEED_SEAL_SECONDS", "5")


def made(path: Path, data: Path) -> Workspace:
    """A workspace with views of every kind and the older half of the data in its batch layer."""
    Workspace.create(path).close()
    for name, sql in SQL.items():
        (path / "views" / f"{name}.sql").write_text(sql)
    workspace = Workspace(path)
    workspace.load(data, until=CUT)
    workspace.batch()
    return workspace


def driver(workspace: Workspace, *options: str, engine: str = "spark") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "playhead", "-w", str(workspace.path), "speed", *options]
    return subprocess.Popen(command, env={**os.environ, "PLAYHEAD_SPEED_ENGINE": engine})


def drained(workspace: Workspace, engine: str = "spark") -> None:
    with driver(workspace, "--drain", engine=engine) as process:
        assert process.wait(PATIENCE_S) == 0
    assert workspace.lag() == 0


def taken_in(workspace: Workspace) -> int:
    """Events that count by now, without repeats."""
    return sum(seen.events for seen in workspace.state.progress().values())


def answers(workspace: Workspace, *, full: bool = False) -> dict[str, list[str]]:
    sort = DuckDBEngine().sort
    ask = workspace.full if full else workspace.view
    return {n: list(map(repr, sort(ask(n).to_arrow()).to_pylist())) for n in workspace.views}


def test_a_driver_that_is_killed_counts_every_event_once(
    settings: None, data: Path, tmp_path: Path
) -> None:
    r = random.Random(SEED)
    workspace, embedded = (made(tmp_path / name, data) for name in ("spark", "embedded"))
    with workspace:
        first = workspace.replay(data, ReplaySpec(AtOnce(), since=CUT, until=LATER))
        with driver(workspace) as process:
            until = time.monotonic() + PATIENCE_S
            while not taken_in(workspace):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.2)
            # Some again, and more than before, while it works: it dies in the middle of them.
            workspace.replay(data, ReplaySpec(AtOnce(), since=CUT, until=LATER))
            time.sleep(r.uniform(0, 4))
            process.send_signal(signal.SIGKILL)
        log = workspace.log
        assert isinstance(log, KafkaEventLog)
        log.catalog.add_partitions("playback", 5)
        second = workspace.replay(data, ReplaySpec(AtOnce(), since=LATER))
        drained(workspace)
        assert workspace.lake.properties(TABLE)["playhead.batch"]
        assert taken_in(workspace) <= first.sent + second.sent
        merged = answers(workspace)
        assert merged == answers(workspace, full=True)
        workspace.batch()
        assert answers(workspace) == answers(workspace, full=True)
    with embedded:
        drained(embedded, "duckdb")
        assert answers(embedded) == merged
        assert taken_in(embedded) == taken_in(workspace)


HAND_FED = """
import json, queue, sys
from pathlib import Path
from layers import send, watches, workspace
from playhead.cluster import jars
from playhead.engines.spark.lakes import lake_session
from playhead.errors import StateError
from playhead.speed.layer import SpeedLayer
from playhead.speed.spark.source import SparkSource, _Reading
from playhead.speed.spark.stream import Batch

class Stream:
    name = "by hand"
    def __init__(self, topic):
        self.topic, self.finished = topic, queue.Queue()
    def check(self): pass
    def stop(self): pass

class HandFed(SparkSource):
    def _start(self, topic):
        self._readings[topic.name] = _Reading(Stream(topic.name), frozenset(topic.next))
    def feed(self, frame):
        self._ready.put(Batch(self._readings["playback"].stream, 0, frame))

with workspace(Path(sys.argv[1]), "counts", "windows", "sessions", "latest") as opened:
    told = opened.settings
    session = lake_session(
        told.spark, told.lake, opened.path, lambda: jars("spark"), streams=True
    )
    source = HandFed(opened.log, lambda: session, trigger_ms=100, limit=100, scratch=opened.path)
    send(opened, watches(20))
    place = opened.log.catalog.topic("playback").place
    def slice(first, after):
        ends = {"startingOffsets": first, "endingOffsets": after}
        return session.read.format("kafka").options(
            **{"kafka.bootstrap.servers": told.log.brokers, "subscribe": place,
               "includeHeaders": "true"},
            **{name: json.dumps({place: {"0": at}}) for name, at in ends.items()},
        ).load()
    with opened._connect() as connection:
        layer = SpeedLayer(opened.log, opened.state, opened.lake, opened.views, connection,
                           opened.clock, judge=opened._judge, source=source)
        layer.start()
        layer.step()
        found = []
        for first, after in [(0, 6), (0, 6), (3, 10), (12, 15), (10, 15), (0, 20)]:
            try:
                layer.step()
                source.feed(slice(first, after))
                found.append(layer.step().events)
            except StateError as error:
                found.append(error.message)
        seen = opened.state.progress()["playback"]
        equal = all(
            opened.view(n).to_arrow().sort_by([(c, "ascending") for c in opened.views[n].columns
                                               if c != "sitting"])
            .equals(opened.full(n).to_arrow().sort_by([(c, "ascending")
                    for c in opened.views[n].columns if c != "sitting"]))
            for n in opened.views
        )
        print(json.dumps([found, seen.events, seen.duplicates, equal]))
"""


def test_micro_batches_that_come_again_or_out_of_order(
    settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_LOG_PARTITIONS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    said = subprocess.run(
        [sys.executable, "-c", HAND_FED, str(tmp_path / "w")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    found, events, duplicates, equal = json.loads(said.stdout.splitlines()[-1])
    refused = found.pop(3)
    assert "goes on at offset 12, and the events from 10 on are not taken in" in refused
    assert found == [6, 0, 4, 5, 5]
    assert (events, duplicates, equal) == (20, 0, True)
