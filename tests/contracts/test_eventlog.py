"""What every event log does, whoever implements it."""

import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playhead.clock import Clock, ManualClock
from playhead.contracts import LOG_COLUMNS, TOPICS
from playhead.errors import (
    ContractError,
    EventLogError,
    OffsetOutOfRangeError,
    UnknownTopicError,
)
from playhead.eventlog import Appended, EventLog, Kept, partition_of

NOON = datetime(2025, 3, 1, 12)
HOUR = timedelta(hours=1)

SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("event_time", pa.timestamp("us"), nullable=False),
        pa.field("day", pa.date32()),
        pa.field("minutes", pa.decimal128(12, 2)),
        pa.field("rating", pa.int32()),
        pa.field("is_download", pa.bool_()),
        pa.field("title", pa.string()),
    ]
)

OpenLog = Callable[[Path, Clock], EventLog]


def events(ids: Sequence[str], users: Sequence[str], **columns: Any) -> pa.Table:
    rows = {"event_id": ids, "user_id": users, "event_time": [NOON] * len(ids)} | columns
    rows = {name: rows.get(name, [None] * len(ids)) for name in SCHEMA.names}
    return pa.table(rows, schema=SCHEMA)


def numbered(count: int, *, users: int = 10, start: int = 0) -> pa.Table:
    numbers = range(start, start + count)
    return events([f"e{i:06d}" for i in numbers], [f"u{i % users}" for i in numbers])


def read_all(log: EventLog, topic: str, partition: int, *, step: int = 65_536) -> pa.Table:
    offset = log.start_offsets(topic)[partition]
    parts = []
    while (table := log.read(topic, partition, offset, max_events=step)).num_rows:
        assert table.num_rows <= step
        parts.append(table)
        offset += table.num_rows
    parts.append(table)
    return pa.concat_tables(parts)


def ids_of(log: EventLog, topic: str = "playback") -> list[str]:
    return [
        event_id
        for partition in range(log.partitions(topic))
        for event_id in read_all(log, topic, partition).column("event_id").to_pylist()
    ]


@pytest.fixture
def topic(log: EventLog) -> str:
    log.create_topic("playback", SCHEMA)
    return "playback"


class TestTopics:
    def test_a_new_log_has_none(self, log: EventLog) -> None:
        assert log.topics() == []

    def test_are_listed_in_order(self, log: EventLog) -> None:
        log.create_topic("search", SCHEMA)
        log.create_topic("playback", SCHEMA, partitions=5)
        assert log.topics() == ["playback", "search"]
        assert (log.partitions("playback"), log.partitions("search")) == (5, 3)

    def test_keep_the_schema_without_metadata(self, log: EventLog) -> None:
        log.create_topic("playback", SCHEMA.with_metadata({"made": "by a test"}))
        assert log.schema("playback").equals(SCHEMA, check_metadata=True)

    def test_every_contract_can_be_one(self, log: EventLog) -> None:
        for name, contract in TOPICS.items():
            log.create_topic(name, contract.schema)
            assert log.schema(name) == contract.schema

    def test_creating_twice_changes_nothing(self, log: EventLog, topic: str) -> None:
        log.append(topic, numbered(5))
        log.create_topic(topic, SCHEMA)
        assert sorted(ids_of(log)) == [f"e{i:06d}" for i in range(5)]

    def test_cannot_change_their_partitions(self, log: EventLog, topic: str) -> None:
        with pytest.raises(EventLogError, match="has 3 partitions, not 4"):
            log.create_topic(topic, SCHEMA, partitions=4)

    def test_gain_optional_fields_that_old_events_read_as_null(
        self, log: EventLog, topic: str
    ) -> None:
        log.append(topic, events(["e1"], ["u1"]))
        grown = SCHEMA.append(pa.field("country", pa.string()))
        log.create_topic(topic, grown)
        assert log.schema(topic) == grown
        log.append(topic, events(["e2"], ["u1"]).append_column("country", [["NL"]]))
        (partition,) = partition_of(pa.array(["u1"]), 3).tolist()
        table = log.read(topic, partition, 0)
        assert table.column("country").to_pylist() == [None, "NL"]
        assert log.read(topic, partition, 0, max_events=1, columns=["country"]).column(
            "country"
        ).to_pylist() == [None]

    def test_keep_fields_that_an_older_program_does_not_know(self, log: EventLog) -> None:
        grown = SCHEMA.append(pa.field("country", pa.string()))
        log.create_topic("playback", grown)
        log.create_topic("playback", SCHEMA)
        assert log.schema("playback") == grown
        log.append("playback", numbered(3))
        assert len(ids_of(log)) == 3

    @pytest.mark.parametrize(
        ("schema", "what"),
        [
            (SCHEMA.append(pa.field("country", pa.string(), nullable=False)), "is required"),
            (SCHEMA.set(5, pa.field("rating", pa.int64())), "cannot become int64"),
            (SCHEMA.set(5, pa.field("rating", pa.int32(), nullable=False)), "cannot become"),
            (SCHEMA.remove(0), "required field event_id is missing"),
        ],
    )
    def test_refuse_other_changes(
        self, log: EventLog, topic: str, schema: pa.Schema, what: str
    ) -> None:
        with pytest.raises(ContractError, match=what):
            log.create_topic(topic, schema)
        assert log.schema(topic) == SCHEMA

    @pytest.mark.parametrize(
        ("name", "schema", "partitions"),
        [
            ("", SCHEMA, 3),
            ("a b", SCHEMA, 3),
            ("x" * 201, SCHEMA, 3),
            ("t", SCHEMA, 0),
            ("t", pa.schema([]), 3),
            ("t", SCHEMA.append(LOG_COLUMNS.field("offset")), 3),
            ("t", SCHEMA.append(SCHEMA.field(0)), 3),
            ("t", pa.schema([("user_id", pa.dictionary(pa.int8(), pa.string()))]), 3),
        ],
    )
    def test_refuse_what_cannot_be_kept(
        self, log: EventLog, name: str, schema: pa.Schema, partitions: int
    ) -> None:
        with pytest.raises(ContractError):
            log.create_topic(name, schema, partitions=partitions)
        assert log.topics() == []

    def test_unknown_ones_are_named(self, log: EventLog, topic: str) -> None:
        calls: list[Callable[[str], object]] = [
            log.partitions,
            log.schema,
            log.start_offsets,
            log.end_offsets,
            log.groups,
            lambda name: log.append(name, numbered(1)),
            lambda name: log.read(name, 0, 0),
            lambda name: log.offset_at(name, NOON),
            lambda name: log.commit("g", name, {0: 0}),
            lambda name: log.committed("g", name),
            lambda name: log.forget("g", name),
        ]
        for call in calls:
            with pytest.raises(UnknownTopicError, match="nowhere") as caught:
                call("nowhere")
            assert topic in str(caught.value)


class TestAppend:
    def test_every_value_comes_back(self, log: EventLog, topic: str) -> None:
        given_events = events(
            ["e1", "e2", "", "é語😀"],
            ["u1", "u1", "u1", "u1"],
            day=[date(2024, 2, 29), None, date(1970, 1, 1), date(2199, 12, 31)],
            minutes=[Decimal("0.01"), Decimal("-9999999999.99"), None, Decimal("572.10")],
            rating=[None, 5, -(2**31), 2**31 - 1],
            is_download=[True, None, False, True],
            title=["", None, "x" * 100_000, "naïve"],
        )
        log.append(topic, given_events)
        (partition,) = partition_of(pa.array(["u1"]), 3).tolist()
        table = log.read(topic, partition, 0)
        assert table.schema == pa.schema([*SCHEMA, *LOG_COLUMNS])
        assert table.select(SCHEMA.names).to_pylist() == given_events.to_pylist()
        assert table.column("partition").to_pylist() == [partition] * 4
        assert table.column("offset").to_pylist() == [0, 1, 2, 3]
        assert table.column("ingest_time").to_pylist() == [NOON] * 4

    def test_says_where_the_events_went(self, log: EventLog, topic: str) -> None:
        owner = partition_of(numbered(100).column("user_id"), 3)
        counts = {p: int((owner == p).sum()) for p in range(3)}
        first = log.append(topic, numbered(100))
        assert first == [Appended(p, 0, counts[p]) for p in range(3)]
        second = log.append(topic, numbered(100))
        assert second == [Appended(p, counts[p], counts[p]) for p in range(3)]
        assert [part.end_offset for part in second] == [2 * counts[p] for p in range(3)]

    def test_offsets_are_contiguous_and_a_users_events_in_order(
        self, log: EventLog, topic: str
    ) -> None:
        for start in range(0, 300, 60):
            log.append(topic, numbered(60, start=start))
        seen: dict[str, list[str]] = defaultdict(list)
        homes: dict[str, set[int]] = defaultdict(set)
        for partition in range(3):
            table = read_all(log, topic, partition, step=7)
            assert table.column("offset").to_pylist() == list(range(table.num_rows))
            for row in table.select(["user_id", "event_id"]).to_pylist():
                seen[row["user_id"]].append(row["event_id"])
                homes[row["user_id"]].add(partition)
        assert {user: sorted(ids) for user, ids in seen.items()} == seen
        assert sum(map(len, seen.values())) == 300
        for user, partitions in homes.items():
            assert partitions == set(partition_of(pa.array([user]), 3).tolist())

    def test_of_nothing_is_nothing(self, log: EventLog, topic: str) -> None:
        assert log.append(topic, SCHEMA.empty_table()) == []
        assert log.end_offsets(topic) == {0: 0, 1: 0, 2: 0}

    def test_takes_a_record_batch(self, log: EventLog, topic: str) -> None:
        log.append(topic, numbered(10).combine_chunks().to_batches()[0])
        assert len(ids_of(log)) == 10

    def test_takes_slices_and_many_chunks(self, log: EventLog, topic: str) -> None:
        chunks = pa.concat_tables([numbered(7, start=i * 7) for i in range(30)])
        log.append(topic, chunks.slice(3, 200))
        assert sorted(ids_of(log)) == [f"e{i:06d}" for i in range(3, 203)]

    def test_takes_other_widths_encodings_and_column_orders(
        self, log: EventLog, topic: str
    ) -> None:
        table = pa.table(
            {
                "rating": pa.array([3], pa.int64()),
                "user_id": pa.array(["u1"]).dictionary_encode(),
                "event_id": pa.array(["e1"], pa.large_string()),
                "event_time": pa.array([NOON], pa.timestamp("ms")),
                "minutes": pa.array([Decimal("1.5")], pa.decimal128(5, 1)),
                "title": pa.nulls(1),
            }
        )
        (where,) = log.append(topic, table)
        (row,) = log.read(topic, where.partition, 0).to_pylist()
        assert row["rating"] == 3
        assert row["minutes"] == Decimal("1.50")
        assert row["day"] is None

    @pytest.mark.parametrize(
        "bad",
        [
            numbered(3).drop_columns(["event_id"]),
            numbered(3).append_column("extra", [[1, 2, 3]]),
            numbered(3).append_column("title", [["x", "y", "z"]]),
            numbered(3).append_column(LOG_COLUMNS.field("offset"), [[1, 2, 3]]),
            numbered(3).set_column(0, "event_id", pa.array(["e1", None, "e3"])),
            numbered(3).set_column(0, "event_id", pa.array([1, 2, 3])),
            numbered(3).set_column(5, "rating", pa.array([1, 2**40, 3])),
            numbered(3).set_column(4, "minutes", pa.array([0.1, 0.2, 0.3])),
            numbered(3).set_column(3, "day", pa.array(["2025-01-01"] * 3)),
            numbered(3).set_column(
                2, "event_time", pa.array([NOON] * 3, pa.timestamp("us", tz="UTC"))
            ),
        ],
        ids=[
            "missing",
            "unknown",
            "twice",
            "reserved",
            "null",
            "type",
            "overflow",
            "float",
            "text",
            "zone",
        ],
    )
    def test_keeps_nothing_of_bad_events(self, log: EventLog, topic: str, bad: pa.Table) -> None:
        log.append(topic, numbered(2))
        before = log.end_offsets(topic)
        with pytest.raises(ContractError, match="playback"):
            log.append(topic, bad)
        assert log.end_offsets(topic) == before
        assert len(ids_of(log)) == 2

    @pytest.mark.parametrize("key", ["nobody", "rating"])
    def test_refuses_a_key_that_is_no_string_field(
        self, log: EventLog, topic: str, key: str
    ) -> None:
        with pytest.raises(EventLogError, match=key):
            log.append(topic, numbered(3), key=key)

    def test_goes_by_another_key_and_null_keys_to_the_first_partition(
        self, log: EventLog, topic: str
    ) -> None:
        table = events(["e1", "e2"], ["u1", "u2"], title=["abc", None])
        log.append(topic, table, key="title")
        (home,) = partition_of(pa.array(["abc"]), 3).tolist()
        found = {row["event_id"]: p for p in range(3) for row in log.read(topic, p, 0).to_pylist()}
        assert found == {"e1": home, "e2": 0}

    def test_of_many_events_keeps_all(self, log: EventLog, topic: str) -> None:
        log.append(topic, numbered(250_000, users=1))
        (partition,) = partition_of(pa.array(["u0"]), 3).tolist()
        assert log.end_offsets(topic)[partition] == 250_000
        table = read_all(log, topic, partition)
        assert table.column("event_id").to_pylist() == [f"e{i:06d}" for i in range(250_000)]

    def test_of_wide_events_keeps_all(self, log: EventLog) -> None:
        log.create_topic("wide", SCHEMA, partitions=1)
        titles = [f"{i:04d}" * 16_384 for i in range(900)]
        wide = events([f"e{i}" for i in range(900)], ["u"] * 900, title=titles)
        assert log.append("wide", wide) == [Appended(0, 0, 900)]
        assert read_all(log, "wide", 0).column("title").to_pylist() == titles

    def test_by_many_threads_loses_nothing(self, log: EventLog, topic: str) -> None:
        def run(start: int) -> None:
            for i in range(10):
                log.append(topic, numbered(20, start=start + 20 * i))

        threads = [threading.Thread(target=run, args=(1_000 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = [f"e{1_000 * n + i:06d}" for n in range(4) for i in range(200)]
        assert sorted(ids_of(log)) == expected


class TestAppendAll:
    def test_keeps_every_topic_and_says_where(self, log: EventLog, topic: str) -> None:
        log.create_topic("other", SCHEMA, partitions=1)
        log.create_topic("third", SCHEMA)
        added = log.append_all(
            {topic: numbered(20), "other": numbered(5), "third": numbered(0)},
            keys={"other": "event_id"},
        )
        assert list(added) == [topic, "other", "third"]
        assert sum(part.count for part in added[topic]) == 20
        assert added["other"] == [Appended(0, 0, 5)]
        assert added["third"] == []
        assert (len(ids_of(log)), len(ids_of(log, "other"))) == (20, 5)

    def test_goes_by_the_key_of_each_topic(self, log: EventLog, topic: str) -> None:
        log.create_topic("other", SCHEMA)
        table = events(["e1", "e2"], ["u1", "u2"], title=["abc", None])
        log.append_all({topic: table, "other": table}, keys={"other": "title"})
        (home,) = partition_of(pa.array(["abc"]), 3).tolist()
        read = {p: log.read("other", p, 0).column("event_id").to_pylist() for p in range(3)}
        assert "e1" in read[home]
        assert "e2" in read[0]

    def test_keeps_nothing_if_one_topic_refuses(self, log: EventLog, topic: str) -> None:
        log.create_topic("other", SCHEMA)
        bad = numbered(3).drop_columns(["user_id"])
        with pytest.raises(ContractError, match="other"):
            log.append_all({topic: numbered(3), "other": bad})
        with pytest.raises(UnknownTopicError, match="nothing"):
            log.append_all({topic: numbered(3), "nothing": numbered(3)})
        assert set(log.end_offsets(topic).values()) == {0}

    def test_of_nothing_is_nothing(self, log: EventLog) -> None:
        assert log.append_all({}) == {}


class TestIngestTime:
    def test_never_goes_back(self, log: EventLog, topic: str, clock: ManualClock) -> None:
        for step in (HOUR, -3 * HOUR, HOUR, 3 * HOUR):
            log.append(topic, events(["e"], ["u1"]))
            clock.advance(step)
        (partition,) = partition_of(pa.array(["u1"]), 3).tolist()
        times = log.read(topic, partition, 0).column("ingest_time").to_pylist()
        assert times == [NOON, NOON + HOUR, NOON + HOUR, NOON + HOUR]

    def test_is_one_for_each_append(self, log: EventLog, topic: str, clock: ManualClock) -> None:
        log.append(topic, numbered(50))
        clock.advance(timedelta(microseconds=1))
        log.append(topic, numbered(50))
        for partition in range(3):
            table = log.read(topic, partition, 0)
            half = table.num_rows // 2
            later = NOON + timedelta(microseconds=1)
            assert table.column("ingest_time").to_pylist() == [NOON] * half + [later] * half

    def test_finds_offsets(self, log: EventLog, topic: str, clock: ManualClock) -> None:
        for count in (1, 2, 3):
            log.append(topic, events(["e"] * count, ["u1"] * count))
            clock.advance(HOUR)
        (partition,) = partition_of(pa.array(["u1"]), 3).tolist()
        asked = [NOON - HOUR, NOON, NOON + HOUR / 2, NOON + HOUR, NOON + 2 * HOUR, NOON + 3 * HOUR]
        found = [log.offset_at(topic, time)[partition] for time in asked]
        assert found == [0, 0, 1, 1, 3, 6]
        assert log.offset_at(topic, (NOON + HOUR).replace(tzinfo=UTC))[partition] == 1
        assert len(log.offset_at(topic, NOON)) == 3


class TestRead:
    @pytest.fixture
    def one(self, log: EventLog) -> str:
        """A topic with one partition of 30 events, from three appends."""
        log.create_topic("one", SCHEMA, partitions=1)
        for start in (0, 10, 20):
            log.append("one", numbered(10, start=start))
        return "one"

    @pytest.mark.parametrize("offset", [0, 1, 9, 10, 15, 29])
    @pytest.mark.parametrize("max_events", [1, 5, 12, 100])
    def test_starts_and_stops_anywhere(
        self, log: EventLog, one: str, offset: int, max_events: int
    ) -> None:
        table = log.read(one, 0, offset, max_events=max_events)
        expected = list(range(offset, min(offset + max_events, 30)))[: table.num_rows]
        assert table.num_rows >= 1
        assert table.column("offset").to_pylist() == expected
        assert table.column("event_id").to_pylist() == [f"e{i:06d}" for i in expected]

    def test_at_the_end_is_empty_and_typed(self, log: EventLog, one: str) -> None:
        table = log.read(one, 0, 30)
        assert table.num_rows == 0
        assert table.schema == pa.schema([*SCHEMA, *LOG_COLUMNS])

    @pytest.mark.parametrize(
        "columns", [["event_id"], ["title", "event_id"], [], ["minutes", "day"], SCHEMA.names]
    )
    def test_takes_only_some_columns(self, log: EventLog, one: str, columns: list[str]) -> None:
        table = log.read(one, 0, 4, max_events=20, columns=columns)
        assert table.column_names == [*columns, *LOG_COLUMNS.names]
        assert table.column("offset").to_pylist() == list(range(4, 4 + table.num_rows))
        whole = log.read(one, 0, 4, max_events=table.num_rows)
        assert table.equals(whole.select(table.column_names))
        assert log.read(one, 0, 30, columns=columns).column_names == table.column_names

    @pytest.mark.parametrize("offset", [-1, 31])
    def test_refuses_offsets_that_are_not_there(self, log: EventLog, one: str, offset: int) -> None:
        with pytest.raises(OffsetOutOfRangeError, match=f"offset {offset} "):
            log.read(one, 0, offset)

    def test_refuses_what_is_not_there(self, log: EventLog, one: str) -> None:
        with pytest.raises(EventLogError, match="no partition 1"):
            log.read(one, 1, 0)
        with pytest.raises(EventLogError, match="no field nothing"):
            log.read(one, 0, 0, columns=["nothing"])
        with pytest.raises(EventLogError, match="max_events"):
            log.read(one, 0, 0, max_events=0)

    def test_topics_and_partitions_are_apart(self, log: EventLog, one: str) -> None:
        log.create_topic("two", SCHEMA, partitions=2)
        log.append("two", numbered(5, start=100))
        assert sorted(ids_of(log, "two")) == [f"e{i:06d}" for i in range(100, 105)]
        assert log.end_offsets(one) == {0: 30}


class TestGroups:
    def test_keep_what_they_committed(self, log: EventLog, topic: str) -> None:
        log.append(topic, numbered(100))
        assert log.committed("speed", topic) == {}
        log.commit("speed", topic, {0: 5, 1: 0})
        log.commit("speed", topic, {0: 7})
        log.commit("archive", topic, {2: 1})
        assert log.committed("speed", topic) == {0: 7, 1: 0}
        assert log.groups(topic) == ["archive", "speed"]
        log.commit("speed", topic, {0: 2})
        assert log.committed("speed", topic) == {0: 2, 1: 0}

    def test_committing_nothing_registers_nobody(self, log: EventLog, topic: str) -> None:
        log.commit("speed", topic, {})
        assert log.groups(topic) == []

    @pytest.mark.parametrize("offsets", [{0: 0, 1: 1}, {0: 0, 1: -1}])
    def test_cannot_commit_what_is_not_written(
        self, log: EventLog, topic: str, offsets: dict[int, int]
    ) -> None:
        with pytest.raises(OffsetOutOfRangeError, match="speed"):
            log.commit("speed", topic, offsets)
        assert log.groups(topic) == []

    def test_refuse_unknown_partitions_and_no_name(self, log: EventLog, topic: str) -> None:
        with pytest.raises(EventLogError, match="no partition 3"):
            log.commit("speed", topic, {0: 0, 3: 0})
        with pytest.raises(EventLogError, match="name"):
            log.commit("", topic, {0: 0})
        assert log.groups(topic) == []

    def test_can_be_forgotten(self, log: EventLog, topic: str) -> None:
        log.commit("speed", topic, {0: 0})
        log.forget("speed", topic)
        log.forget("nobody", topic)
        assert log.groups(topic) == []
        assert log.committed("speed", topic) == {}


class TestRetention:
    @pytest.fixture
    def aged(self, log: EventLog, clock: ManualClock) -> str:
        """One partition: ten events each at noon, 13:00 and 14:00, where the clock stands."""
        log.create_topic("aged", SCHEMA, partitions=1)
        for start in (0, 10, 20):
            log.append("aged", numbered(10, start=start))
            clock.advance(HOUR)
        clock.advance(-HOUR)
        return "aged"

    def test_deletes_what_is_older_than_the_age(self, log: EventLog, aged: str) -> None:
        retention = log.retain(HOUR)
        assert (retention.deleted_events, retention.kept) == (10, ())
        assert retention.cutoff == NOON + HOUR
        assert log.start_offsets(aged) == {0: 10}
        assert log.end_offsets(aged) == {0: 30}
        assert ids_of(log, aged) == [f"e{i:06d}" for i in range(10, 30)]
        assert log.offset_at(aged, NOON) == {0: 10}
        with pytest.raises(OffsetOutOfRangeError, match="deleted by retention"):
            log.read(aged, 0, 9)

    def test_deletes_nothing_twice_or_too_early(self, log: EventLog, aged: str) -> None:
        assert log.retain(2 * HOUR).deleted_events == 0
        assert log.retain(HOUR / 2).deleted_events == 20
        assert log.retain(HOUR / 2).deleted_events == 0

    def test_never_uses_an_offset_again(self, log: EventLog, aged: str, clock: ManualClock) -> None:
        clock.advance(HOUR)
        assert log.retain(timedelta(0)).deleted_events == 30
        assert log.start_offsets(aged) == log.end_offsets(aged) == {0: 30}
        assert log.read(aged, 0, 30).num_rows == 0
        assert log.append(aged, numbered(1)) == [Appended(0, 30, 1)]

    def test_waits_for_a_group_and_says_so(self, log: EventLog, aged: str) -> None:
        log.commit("speed", aged, {0: 10})
        log.commit("archive", aged, {0: 30})
        retention = log.retain(timedelta(minutes=30))
        assert retention.deleted_events == 10
        assert retention.kept == (Kept(aged, 0, "speed", 10),)
        assert log.start_offsets(aged) == {0: 10}
        log.commit("speed", aged, {0: 20})
        assert log.retain(timedelta(minutes=30)).kept == ()
        assert log.start_offsets(aged) == {0: 20}

    def test_keeps_what_a_group_has_read_in_part(self, log: EventLog, aged: str) -> None:
        log.commit("speed", aged, {0: 13})
        retention = log.retain(timedelta(minutes=30))
        assert retention.kept == (Kept(aged, 0, "speed", 7),)
        start = log.start_offsets(aged)[0]
        assert 10 <= start <= 13
        assert log.read(aged, 0, 13).column("event_id").to_pylist()[0] == "e000013"

    def test_waits_for_a_group_that_has_read_nothing(self, log: EventLog, aged: str) -> None:
        log.commit("speed", aged, {0: 0})
        assert log.retain(timedelta(minutes=30)).kept == (Kept(aged, 0, "speed", 20),)
        assert log.start_offsets(aged) == {0: 0}
        log.forget("speed", aged)
        assert log.retain(timedelta(minutes=30)).deleted_events == 20

    def test_waits_in_partitions_that_the_group_never_committed(
        self, log: EventLog, topic: str, clock: ManualClock
    ) -> None:
        log.append(topic, numbered(90))
        ends = log.end_offsets(topic)
        log.commit("speed", topic, {0: ends[0]})
        clock.advance(HOUR)
        retention = log.retain(timedelta(minutes=1))
        assert retention.deleted_events == ends[0]
        assert retention.kept == tuple(Kept(topic, p, "speed", ends[p]) for p in (1, 2))

    def test_of_an_empty_log_does_nothing(self, log: EventLog, topic: str) -> None:
        assert log.retain(timedelta(0)).deleted_events == 0
        assert log.start_offsets(topic) == {0: 0, 1: 0, 2: 0}


class TestClose:
    def test_may_be_called_twice_and_ends_all(self, log: EventLog, topic: str) -> None:
        log.close()
        log.close()
        for call in (log.topics, lambda: log.append(topic, numbered(1)), lambda: log.retain(HOUR)):
            with pytest.raises(EventLogError, match="closed"):
                call()


USERS = st.sampled_from([f"u{i}" for i in range(6)])
APPEND = st.tuples(st.just("append"), st.lists(USERS, max_size=40))
COMMIT = st.tuples(
    st.just("commit"), st.sampled_from(["speed", "archive"]), st.integers(0, 2), st.floats(0, 1)
)
ADVANCE = st.tuples(st.just("advance"), st.integers(0, 5))
RETAIN = st.tuples(st.just("retain"), st.integers(0, 5))
READ = st.tuples(st.just("read"), st.integers(0, 2), st.floats(0, 1), st.integers(1, 30))


class Model:
    """An event log of plain lists: per partition (id, user, ingest time), the deleted ones too."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.rows: list[list[tuple[str, str, datetime]]] = [[], [], []]
        self.append_ends: list[set[int]] = [set(), set(), set()]
        self.starts = [0, 0, 0]
        self.commits: dict[str, dict[int, int]] = defaultdict(dict)
        self.count = 0

    def append(self, users: list[str]) -> pa.Table:
        ids = [f"e{self.count + i}" for i in range(len(users))]
        self.count += len(users)
        homes = partition_of(pa.array(users, pa.string()), 3).tolist()
        for event_id, user, home in zip(ids, users, homes, strict=True):
            self.rows[home].append((event_id, user, self.clock.now()))
        for partition, rows in enumerate(self.rows):
            self.append_ends[partition].add(len(rows))
        return events(ids, users)

    def retain(self, age: timedelta) -> int:
        """Delete as far as allowed, but only where appends end; how many events went."""
        before = sum(self.starts)
        for partition, rows in enumerate(self.rows):
            aged = sum(time < self.clock.now() - age for _, _, time in rows)
            limit = min([aged, *(at.get(partition, 0) for at in self.commits.values())])
            ends = [end for end in self.append_ends[partition] if end <= limit]
            self.starts[partition] = max([self.starts[partition], *ends])
        return sum(self.starts) - before


def step(log: EventLog, model: Model, operation: tuple[Any, ...]) -> None:
    match operation:
        case ("append", users):
            log.append("playback", model.append(users))
        case ("commit", group, partition, share):
            offset = int(share * len(model.rows[partition]))
            model.commits[group][partition] = offset
            log.commit(group, "playback", {partition: offset})
        case ("advance", hours):
            model.clock.advance(hours * HOUR)
        case ("retain", hours):
            assert log.retain(hours * HOUR).deleted_events == model.retain(hours * HOUR)
        case ("read", partition, share, count):
            start, rows = model.starts[partition], model.rows[partition]
            offset = start + int(share * (len(rows) - start))
            table = log.read("playback", partition, offset, max_events=count)
            assert table.num_rows <= count
            assert bool(table.num_rows) == (offset < len(rows))
            check_rows(table, rows[offset : offset + table.num_rows], partition, offset)


def check_rows(
    table: pa.Table, rows: list[tuple[str, str, datetime]], partition: int, offset: int
) -> None:
    names = ["event_id", "user_id", "ingest_time", "partition", "offset"]
    found = list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
    assert found == [(*row, partition, offset + i) for i, row in enumerate(rows)]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations=st.lists(st.one_of(APPEND, APPEND, COMMIT, ADVANCE, RETAIN, READ), max_size=25))
def test_any_sequence_does_what_plain_lists_do(
    open_log: OpenLog, operations: list[tuple[Any, ...]]
) -> None:
    clock = ManualClock(NOON)
    model = Model(clock)
    with tempfile.TemporaryDirectory() as folder, open_log(Path(folder), clock) as log:
        log.create_topic("playback", SCHEMA)
        for operation in operations:
            step(log, model, operation)
        assert list(log.start_offsets("playback").values()) == model.starts
        assert list(log.end_offsets("playback").values()) == [len(rows) for rows in model.rows]
        for partition, rows in enumerate(model.rows):
            start = model.starts[partition]
            table = read_all(log, "playback", partition, step=11)
            check_rows(table, rows[start:], partition, start)
        for group, offsets in model.commits.items():
            assert log.committed(group, "playback") == offsets
