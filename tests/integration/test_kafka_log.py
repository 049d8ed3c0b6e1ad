"""The event log on a real broker: others who write, faults, growth, and who uses it."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from playhead.cli import app
from playhead.clock import SystemClock
from playhead.cluster.broker import Broker
from playhead.errors import LogAwayError
from playhead.eventlog import next_offset, partition_of

confluent_kafka = pytest.importorskip("confluent_kafka", reason="missing: confluent-kafka")
from confluent_kafka import Producer  # noqa: E402

from gateway_events import watch  # noqa: E402
from playhead.assemble import Workspace  # noqa: E402
from playhead.contracts import TOPICS  # noqa: E402
from playhead.eventlog.kafka import Brokers, KafkaEventLog  # noqa: E402
from playhead.gateway import serving  # noqa: E402

pytestmark = pytest.mark.cluster

SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("rating", pa.int32()),
    ]
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture
def prefix() -> str:
    return f"{uuid.uuid4().hex[:12]}."


@pytest.fixture
def log(broker: Broker, prefix: str) -> Iterator[KafkaEventLog]:
    with opened(broker, prefix) as log:
        log.create_topic("clicks", SCHEMA, partitions=1)
        yield log


def opened(broker: Broker, prefix: str, patience_s: float = 10.0) -> KafkaEventLog:
    return KafkaEventLog(Brokers(broker.address, prefix, patience_s=patience_s))


def clicks(ids: list[str]) -> pa.Table:
    rows = {"event_id": ids, "user_id": [f"u{i}" for i in ids], "rating": [None] * len(ids)}
    return pa.table(rows, schema=SCHEMA)


def click(event_id: str) -> bytes:
    return json.dumps({"event_id": event_id, "user_id": "u", "rating": 4}).encode()


def read_ids(log: KafkaEventLog, topic: str = "clicks", step: int = 65_536) -> list[str]:
    found = []
    for partition, end in log.end_offsets(topic).items():
        offset = log.start_offsets(topic)[partition]
        while offset < end:
            table = log.read(topic, partition, offset, max_events=step)
            found += table.column("event_id").to_pylist()
            assert next_offset(table, offset) > offset
            offset = next_offset(table, offset)
        assert offset == end
    return found


class TestMessagesOfOthers:
    def test_without_headers_are_read_like_ours(
        self, broker: Broker, log: KafkaEventLog, prefix: str
    ) -> None:
        producer = Producer({"bootstrap.servers": broker.address})
        value = b'{\n  "user_id": "u", "event_id": "a\\u00e9"\n}'
        came = datetime(2025, 5, 1, 12)
        stamp = int(came.replace(tzinfo=UTC).timestamp() * 1000) + 7
        producer.produce(f"{prefix}clicks", value, b"\xff any key", 0, timestamp=stamp)
        producer.flush(10)
        log.append("clicks", clicks(["b"]))
        assert log.end_offsets("clicks") == {0: 2}
        (first, second) = log.read("clicks", 0, 0).to_pylist()
        assert (first["event_id"], first["rating"], first["offset"]) == ("aé", None, 0)
        assert first["ingest_time"] == came + timedelta(milliseconds=7)
        assert second["event_id"] == "b"

    def test_that_are_no_events_become_dead_letters_and_stop_nobody(
        self, broker: Broker, log: KafkaEventLog, prefix: str
    ) -> None:
        letters = TOPICS["dead_letters"].schema
        log.create_topic("dead_letters", letters, partitions=1)
        bad = [b"no JSON", b'{"event_id":"x"}', b"", b'{"event_id":"x","user_id":"u","other":1}']
        bad += [b'{"event_id":"x","user_id":"u","rating":3000000000}', b"\xff\xfe"]
        producer = Producer({"bootstrap.servers": broker.address})
        for value in [click("a"), *bad[:3], click("b"), *bad[3:]]:
            producer.produce(f"{prefix}clicks", value, None, 0)
        producer.produce(f"{prefix}clicks", None, b"a tombstone", 0)
        producer.flush(10)
        assert read_ids(log) == ["a", "b"]
        assert read_ids(log, step=1) == ["a", "b"]
        assert read_ids(log, step=2) == ["a", "b"]
        told = log.read("dead_letters", 0, 0).to_pylist()
        assert [row["body"] for row in told] == [*bad, b""]
        places = [1, 2, 3, 5, 6, 7, 8]
        assert [row["event_id"] for row in told] == [f"clicks-0-{place}" for place in places]
        assert all("offset" in row["reason"] and row["topic"] == "clicks" for row in told)

    def test_in_transactions_leave_gaps_that_reading_steps_over(
        self, broker: Broker, log: KafkaEventLog, prefix: str
    ) -> None:
        settings = {"bootstrap.servers": broker.address, "transactional.id": prefix}
        producer = Producer(settings)
        producer.init_transactions(20)
        for ids, is_kept in ((["a", "b"], True), (["x"], False), (["c"], True)):
            producer.begin_transaction()
            for event_id in ids:
                producer.produce(f"{prefix}clicks", click(event_id), None, 0)
            producer.flush(10)
            if is_kept:
                producer.commit_transaction(10)
            else:
                producer.abort_transaction(10)
        log.append("clicks", clicks(["d"]))
        assert read_ids(log) == ["a", "b", "c", "d"]
        assert read_ids(log, step=1) == ["a", "b", "c", "d"]


class TestOneMessage:
    def test_is_keyed_json_with_headers(
        self, broker: Broker, log: KafkaEventLog, prefix: str
    ) -> None:
        log.create_topic("rating", TOPICS["rating"].schema, partitions=3)
        schema = TOPICS["rating"].schema
        plain = {pa.string(): "u1", pa.int32(): 4, pa.timestamp("us"): datetime(2025, 3, 1, 12)}
        row = {f.name: plain[f.type] for f in schema if not f.nullable}
        table = pa.Table.from_pylist([row], schema=pa.schema([schema.field(n) for n in row]))
        log.append("rating", table)
        settings = {"bootstrap.servers": broker.address, "group.id": "g"}
        consumer = confluent_kafka.Consumer({**settings, "auto.offset.reset": "earliest"})
        (number,) = partition_of(pa.array(["u1"]), 3).tolist()
        consumer.assign([confluent_kafka.TopicPartition(f"{prefix}rating", number, 0)])
        message = consumer.poll(10)
        consumer.close()
        assert message.key() == b"u1"
        assert json.loads(message.value())["event_time"] == "2025-03-01T12:00:00.000000Z"
        headers = dict(message.headers())
        assert headers["contract_version"] == b"%d" % TOPICS["rating"].version
        assert int(headers["ingest"].split(b"/")[0]) // 1000 == message.timestamp()[1]


class TestGrowth:
    def test_of_partitions_is_followed(self, log: KafkaEventLog) -> None:
        log.append("clicks", clicks([f"a{i}" for i in range(50)]))
        log.catalog.add_partitions("clicks", 3)
        log.append("clicks", clicks([f"b{i}" for i in range(50)]))
        assert log.partitions("clicks") == 3
        assert set(log.end_offsets("clicks")) == {0, 1, 2}
        assert min(log.end_offsets("clicks").values()) > 0
        assert sorted(read_ids(log)) == sorted([f"{x}{i}" for x in "ab" for i in range(50)])

    def test_of_fields_by_another_process_is_noticed(
        self, broker: Broker, log: KafkaEventLog, prefix: str
    ) -> None:
        log.append("clicks", clicks(["a"]))
        grown = SCHEMA.append(pa.field("country", pa.string()))
        with opened(broker, prefix) as other:
            other.create_topic("clicks", grown, partitions=1)
            other.append("clicks", clicks(["b"]).append_column("country", [["NL"]]))
        assert read_ids(log) == ["a", "b"]


class TestBrokerAway:
    def test_nothing_acknowledged_is_lost_when_it_is_killed(
        self, tmp_path: Path, prefix: str
    ) -> None:
        broker = Broker(tmp_path / "broker")
        broker.start()
        acknowledged: list[str] = []
        failures: list[LogAwayError] = []
        stop = threading.Event()
        try:
            with opened(broker, prefix, patience_s=2.0) as log:
                log.create_topic("clicks", SCHEMA, partitions=3)
                log.commit("speed", "clicks", {0: 0})

                def send() -> None:
                    number = 0
                    while not stop.is_set():
                        ids = [f"e{number + i:08d}" for i in range(100)]
                        number += 100
                        try:
                            log.append("clicks", clicks(ids))
                            acknowledged.extend(ids)
                        except LogAwayError as error:
                            failures.append(error)

                sender = threading.Thread(target=send)
                sender.start()
                until(lambda: len(acknowledged) > 3_000)
                broker.kill()
                until(lambda: bool(failures))
                began = time.monotonic()
                with pytest.raises(LogAwayError, match=broker.address):
                    log.read("clicks", 0, 10**9)
                assert time.monotonic() - began < 10
                before = len(acknowledged)
                broker.start()
                until(lambda: len(acknowledged) > before + 2_000)
                stop.set()
                sender.join()
                found = read_ids(log)
                assert set(acknowledged) <= set(found)
                assert failures[0].retryable
                until(lambda: _commits(log))
                assert log.committed("speed", "clicks") == {0: 1}
        finally:
            stop.set()
            broker.stop()

    def test_the_gateway_says_503_and_the_speed_layer_waits(
        self, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker = Broker(tmp_path / "broker")
        broker.start()
        monkeypatch.setenv("PLAYHEAD_LOG_BROKERS", broker.address)
        monkeypatch.setenv("PLAYHEAD_LOG_TOPIC_PREFIX", prefix)
        waits: list[str] = []
        taken: list[int] = []
        stop = threading.Event()
        try:
            workspace = Workspace.create(tmp_path / "ws", clock=SystemClock())
            with (
                workspace,
                serving(tmp_path / "ws") as gateway,
                httpx.Client(base_url=gateway.url, timeout=60) as client,
            ):

                def on_step(step: object) -> None:
                    if why := getattr(step, "waiting", ""):
                        waits.append(why)
                    taken.append(getattr(step, "events", 0))

                layer = threading.Thread(
                    target=lambda: Workspace(tmp_path / "ws").speed(stop, on_step=on_step)
                )
                layer.start()
                accepted = [watch() for _ in range(20)]
                assert client.post("/v1/events", json=accepted).status_code == 202
                until(lambda: sum(taken) >= 20)
                broker.kill()
                answer = client.post("/v1/events", json=[watch()])
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) > 0
                until(lambda: bool(waits))
                broker.start()
                until(lambda: _sent(client))
                until(lambda: sum(taken) >= 21)
                stop.set()
                layer.join(60)
                assert not layer.is_alive()
                ids = [
                    event_id
                    for partition in range(workspace.log.partitions("playback"))
                    for event_id in workspace.log.read("playback", partition, 0)
                    .column("event_id")
                    .to_pylist()
                ]
                assert {event["event_id"] for event in accepted} <= set(ids)
        finally:
            stop.set()
            broker.stop()


def test_topics_are_made_listed_and_described(broker: Broker, prefix: str, tmp_path: Path) -> None:
    environment = {"PLAYHEAD_LOG_BROKERS": broker.address, "PLAYHEAD_LOG_TOPIC_PREFIX": prefix}

    def run(*words: str) -> str:
        told = CliRunner().invoke(
            app, ["-w", str(tmp_path / "ws"), *words], env=environment, catch_exceptions=False
        )
        assert told.exit_code == 0, told.output
        return told.stdout

    run("init")
    run("topics", "create", "--partitions", "4", "--retention-days", "3")
    listed = {row["topic"]: row for row in json.loads(run("topics", "list", "--json"))}
    assert set(TOPICS) <= set(listed)
    assert listed["playback"] == {
        "topic": "playback",
        "partitions": 4,
        "replication": 1,
        "retention": "3 days",
        "events": 0,
    }
    with opened(broker, prefix) as log:
        log.commit("speed", "playback", {0: 0})
    told = json.loads(run("topics", "describe", "playback", "--json"))
    assert [row["partition"] for row in told["partitions"]] == [0, 1, 2, 3]
    assert told["partitions"][0]["leader"] == broker.address
    assert told["partitions"][0]["lag of speed"] == 0


def _commits(log: KafkaEventLog) -> bool:
    try:
        log.commit("speed", "clicks", {0: 1})
    except LogAwayError:
        return False
    return True


def _sent(client: httpx.Client) -> bool:
    answer = client.post("/v1/events", json=[watch()])
    return answer.status_code == 202


def until(is_so: Callable[[], bool], seconds: float = 90.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_merged_answers_are_recomputations_on_brokers(
    broker: Broker, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_LOG_BROKERS", broker.address)
    monkeypatch.setenv("PLAYHEAD_LOG_TOPIC_PREFIX", prefix)
    events = [watch(user=f"u{i % 9}") for i in range(60)]
    with Workspace.create(tmp_path / "ws") as workspace, serving(tmp_path / "ws") as gateway:
        log = workspace.log
        assert isinstance(log, KafkaEventLog)
        producer = Producer({"bootstrap.servers": broker.address})
        for value in (b"no event", json.dumps({"event_id": "half"}).encode()):
            producer.produce(f"{prefix}playback", value, None, 1)
        producer.flush(10)
        assert httpx.post(f"{gateway.url}/v1/events", json=events[:30]).status_code == 202
        workspace.speed(drain=True)
        log.catalog.add_partitions("playback", 5)
        # Some come again, now in other partitions.
        assert httpx.post(f"{gateway.url}/v1/events", json=events[20:]).status_code == 202
        workspace.speed(drain=True)
        workspace.batch()
        ready = [status.view.name for status in workspace.statuses() if status.ready]
        played = [name for name in ready if "playback" in workspace.views[name].topics]
        assert played
        for name in played:
            merged, full = workspace.view(name).to_arrow(), workspace.full(name).to_arrow()
            assert merged.num_rows == full.num_rows
            assert sorted(map(str, merged.to_pylist())) == sorted(map(str, full.to_pylist()))
        (count,) = workspace.query("SELECT count(*) AS n FROM playback").to_arrow().to_pylist()
        assert count["n"] == 60
        (bad,) = workspace.query("SELECT count(*) AS n FROM dead_letters").to_arrow().to_pylist()
        assert bad["n"] == 2
