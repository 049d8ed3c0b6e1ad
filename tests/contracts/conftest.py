"""The implementations that the contract suites run against, and what they start from."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from lake_homes import FolderHome, Home, RestHome, SharedHome
from playhead.clock import Clock, ManualClock
from playhead.cluster.broker import Broker
from playhead.cluster.postgres import Postgres
from playhead.cluster.store import ObjectStore
from playhead.eventlog import EventLog, SqliteEventLog
from playhead.testing.eventlog import MemoryEventLog

NOON = datetime(2025, 3, 1, 12)

EVENT_LOGS: dict[str, Callable[[Path, Clock], EventLog]] = {
    "sqlite": lambda folder, clock: SqliteEventLog(folder / "eventlog.db", clock=clock),
    "memory": lambda _, clock: MemoryEventLog(clock=clock),
}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


_KAFKA = "kafka"


@pytest.fixture(params=[*sorted(EVENT_LOGS), pytest.param(_KAFKA, marks=pytest.mark.cluster)])
def open_log(request: pytest.FixtureRequest) -> Iterator[Callable[[Path, Clock], EventLog]]:
    """Opens an event log of one implementation in a folder of its own."""
    if request.param in EVENT_LOGS:
        yield EVENT_LOGS[request.param]
        return
    from playhead.eventlog.kafka import Brokers, KafkaEventLog

    broker: Broker = request.getfixturevalue("broker")

    def open_there(folder: Path, clock: Clock) -> EventLog:
        # The folder stands for the log: the same one, opened again, has the same topics.
        prefix = f"{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}."
        return KafkaEventLog(Brokers(broker.address, prefix), clock=clock)

    yield open_there
    drop_topics(broker)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real broker, started once."""
    pytest.importorskip("confluent_kafka", reason="missing: confluent-kafka")
    with Broker(tmp_path_factory.mktemp("broker")) as started:
        yield started


def drop_topics(broker: Broker) -> None:
    """Delete all topics, so that a broker does not end up with thousands."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": broker.address})
    names = [name for name in admin.list_topics(timeout=10).topics if not name.startswith("__")]
    for future in admin.delete_topics(names).values() if names else ():
        future.result(10)


@pytest.fixture
def log(
    open_log: Callable[[Path, Clock], EventLog], tmp_path: Path, clock: ManualClock
) -> Iterator[EventLog]:
    with open_log(tmp_path, clock) as opened:
        yield opened


_SHARED = [pytest.param(name, marks=pytest.mark.cluster) for name in ("shared", "rest")]


@pytest.fixture(params=["folder", *_SHARED])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A place for one lake."""
    if request.param == "folder":
        return FolderHome(tmp_path / "lake")
    store: ObjectStore = request.getfixturevalue("store")
    if request.param == "rest":
        return RestHome(tmp_path, store)
    database: Postgres = request.getfixturevalue("database")
    return SharedHome(tmp_path, database, store)
