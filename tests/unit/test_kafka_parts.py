"""What the event log on brokers is made of, without a broker; and readers that step over gaps."""

import sys
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from playhead.config import LogSettings, read_settings
from playhead.errors import ContractError, EventLogError, LogAwayError, SettingError
from playhead.eventlog import SqliteEventLog, event_offsets, next_offset, open_log
from playhead.eventlog.base import Appended, marked
from playhead.speed.read import read_new
from playhead.testing.eventlog import MemoryEventLog

SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
    ]
)


class HolesLog(MemoryEventLog):
    """Gives no row for events whose id is "hole", as a log on brokers does for bad messages."""

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        max_events: int = 65_536,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        table = super().read(topic, partition, offset, max_events=max_events)
        good = [i != "hole" for i in table.column("event_id").to_pylist()]
        kept = marked(table.filter(pa.array(good, pa.bool_())), offset, offset + table.num_rows)
        names = self.schema(topic).names if columns is None else columns
        return kept.select([*names, "partition", "offset", "ingest_time"])


def holes(ids: list[str]) -> HolesLog:
    log = HolesLog()
    log.create_topic("clicks", SCHEMA, partitions=1)
    log.append("clicks", pa.table({"event_id": ids, "user_id": ["u"] * len(ids)}, schema=SCHEMA))
    return log


class TestEventOffsets:
    def test_are_those_that_hold_an_event(self) -> None:
        log = holes(["a", "hole", "hole", "b", "hole", "c", "hole"])
        assert list(event_offsets(log, "clicks", 0, 0, 7)) == [0, 3, 5]
        assert list(event_offsets(log, "clicks", 0, 1, 5)) == [3]
        assert list(event_offsets(log, "clicks", 0, 1, 3)) == []
        assert list(event_offsets(log, "clicks", 0, 5, 99)) == [5]
        assert list(event_offsets(log, "clicks", 7, 0, 9)) == []


@pytest.mark.cluster
class TestOffsetsOfBrokersThatDie:
    """The client tells of an offset -1001, and of no error."""

    def asked(self, monkeypatch: pytest.MonkeyPatch, *told: int) -> dict[int, int]:
        kafka = pytest.importorskip("confluent_kafka", reason="missing: confluent-kafka")
        from playhead.eventlog.kafka import cluster

        answers = list(told)

        def list_offsets(*_: object, **__: object) -> object:
            future: Future[object] = Future()
            offset = answers.pop(0) if len(answers) > 1 else answers[0]
            future.set_result(SimpleNamespace(offset=offset))
            return {kafka.TopicPartition("clicks", 0): future}

        admin = cluster.Admin(cluster.Brokers("127.0.0.1:9", "", patience_s=0.3))
        monkeypatch.setattr(admin, "client", SimpleNamespace(list_offsets=list_offsets))
        return admin.ends("clicks", 1)

    def test_is_asked_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.asked(monkeypatch, -1001, -1001, 7) == {0: 7}

    def test_is_told_as_brokers_that_are_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(LogAwayError, match="nobody knows those of partition 0"):
            self.asked(monkeypatch, -1001)

    def test_of_a_time_that_has_no_message_is_no_such(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.asked(monkeypatch, -1) == {0: -1}


class TestNextOffset:
    def test_is_behind_the_rows_or_where_the_log_says(self) -> None:
        table = pa.table({"a": [1, 2]})
        assert next_offset(table, 5) == 7
        assert marked(table, 5, 7) is table
        assert next_offset(marked(table, 5, 9), 5) == 9
        assert marked(table, 5, 9).schema == table.schema


class TestReadNew:
    @pytest.mark.parametrize(
        "ids",
        [
            ["a", "hole", "b", "hole"],
            ["hole", "hole", "hole", "a", "b"],
            ["a", "b", "hole", "hole", "hole", "hole"],
            ["hole", "hole"],
        ],
    )
    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    def test_takes_every_event_once_and_ends_behind_the_last_offset(
        self, ids: list[str], limit: int
    ) -> None:
        log, position, taken = holes(ids), {0: 0}, []
        while position[0] < len(ids):
            before = position[0]
            events, after = read_new(log, "clicks", ["event_id"], position, limit=limit)
            taken += events.column("event_id").to_pylist()
            position |= after
            assert position[0] > before
        assert taken == [i for i in ids if i != "hole"]

    def test_leaves_a_partition_that_is_new_to_whoever_finds_it(self) -> None:
        log = holes(["a"])
        assert read_new(log, "clicks", ["event_id"], {}, limit=10)[1] == {}


class TestSettings:
    def test_name_brokers(self, tmp_path: Path) -> None:
        (tmp_path / "playhead.toml").write_text('[log]\nbrokers = "a:9092, b.c:9093"\n')
        assert read_settings(tmp_path).log.brokers == "a:9092,b.c:9093"

    @pytest.mark.parametrize("line", ['brokers = "a"', 'topic_prefix = "a/"', "replication = 0"])
    def test_refuse_what_cannot_be(self, tmp_path: Path, line: str) -> None:
        (tmp_path / "playhead.toml").write_text(f"[log]\n{line}\n")
        with pytest.raises(SettingError, match=line.split()[0]):
            read_settings(tmp_path)


class TestOpening:
    def test_is_of_the_workspaces_own_file_without_brokers(self, tmp_path: Path) -> None:
        with open_log(tmp_path, LogSettings()) as log:
            assert isinstance(log, SqliteEventLog)

    def test_says_what_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.startswith("playhead.eventlog.kafka")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "confluent_kafka", None)
        with pytest.raises(EventLogError, match=r"playhead\[kafka\]"):
            open_log(tmp_path, LogSettings(brokers="localhost:1"))


class TestParts:
    @pytest.fixture(autouse=True)
    def _client(self) -> None:
        pytest.importorskip("confluent_kafka", reason="missing: confluent-kafka")

    def test_options_are_read_from_a_file(self, tmp_path: Path) -> None:
        from playhead.eventlog.kafka import read_options

        path = tmp_path / "kafka.properties"
        path.write_text("# who we are\n\nsecurity.protocol = SASL_SSL\nsasl.password=a=b\n")
        assert read_options(path) == {"security.protocol": "SASL_SSL", "sasl.password": "a=b"}
        path.write_text("one\n")
        with pytest.raises(SettingError, match="line 1"):
            read_options(path)
        with pytest.raises(SettingError, match="cannot be read"):
            read_options(tmp_path / "nothing")

    def test_options_that_no_client_has_are_refused(self) -> None:
        from playhead.eventlog.kafka import Brokers, KafkaEventLog

        with pytest.raises(SettingError, match="options_file"):
            KafkaEventLog(Brokers("localhost:1", options={"no.such.option": "1"}))

    def test_types_that_json_would_change_are_refused(self) -> None:
        from playhead.eventlog.kafka.codec import check_types

        with pytest.raises(ContractError, match="field a"):
            check_types("t", pa.schema([("a", pa.float64())]))

    def test_offsets_that_others_broke_up_are_several_runs(self) -> None:
        from playhead.eventlog.kafka.writing import runs

        assert runs(1, [4, 5, 6]) == [Appended(1, 4, 3)]
        assert runs(1, [4, 6, 7, 9]) == [Appended(1, 4, 1), Appended(1, 6, 2), Appended(1, 9, 1)]

    def test_a_letter_is_made_once_a_place(self) -> None:
        from playhead.contracts.validate import Rejected
        from playhead.eventlog.kafka.letters import Letters

        letters, bad = Letters(), [Rejected(1, b"x", "no JSON")]
        made = letters.of("playback", 2, bad, [7, 8], [0, 1])
        assert made is not None
        (row,) = made.to_pylist()
        assert (row["event_id"], row["body"]) == ("playback-2-8", b"x")
        assert row["event_time"] == datetime(1970, 1, 1, 0, 0, 0, 1)
        assert "partition 2, offset 8: no JSON" in row["reason"]
        letters.note("playback", 2, 8)
        assert letters.of("playback", 2, bad, [7, 8], [0, 1]) is None

    def test_a_broker_that_nobody_is_answers_in_bounded_time(self) -> None:
        from playhead.errors import LogAwayError
        from playhead.eventlog.kafka import Brokers, KafkaEventLog

        with (
            KafkaEventLog(Brokers("127.0.0.1:1", patience_s=0.3)) as log,
            pytest.raises(LogAwayError, match=r"127\.0\.0\.1:1") as caught,
        ):
            log.topics()
        assert caught.value.retryable
        assert caught.value.hint
