"""What the driver of the speed layer on Spark decides, without a Spark."""

import pickle
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("confluent_kafka", reason="missing: confluent-kafka")

from playhead.engines import DuckDBEngine
from playhead.engines.packing import pack, unpack
from playhead.errors import SettingError
from playhead.eventlog.kafka.cluster import Brokers
from playhead.eventlog.keys import hash_pairs
from playhead.speed.spark.messages import FIRST, KNOWN, REFUSED, SECOND, Messages
from playhead.speed.spark.options import java_options, range_options, source_options
from playhead.speed.spark.partials import Carried, Partials, Sent, StatePlan, Worth, places
from playhead.speed.spark.source import _after, _ends
from playhead.views import View
from playhead.views.rows import Lookup

pytestmark = pytest.mark.cluster

SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("event_time", pa.timestamp("us"), nullable=False),
        pa.field("minutes", pa.decimal128(10, 2)),
    ]
)


def messages(*values: bytes | None) -> pa.RecordBatch:
    count = len(values)
    return pa.RecordBatch.from_pydict(
        {
            "partition": pa.array([2] * count, pa.int32()),
            "offset": pa.array(range(7, 7 + count), pa.int64()),
            "value": pa.array(values, pa.binary()),
            "ingest_us": pa.array([1_700_000_000_000_000 + n for n in range(count)], pa.int64()),
        }
    )


def decoded(*values: bytes | None) -> tuple[pa.Table, pa.Table]:
    """What is known of some messages, and their events, as a worker makes them."""
    reader = Messages("clicks", SCHEMA, ("event_time", "minutes"))
    (row,) = pa.Table.from_batches(list(reader._read(iter([messages(*values)])))).to_pylist()
    known, events = (unpack(pa.scalar(row[name], pa.binary())) for name in ("known", "events"))
    assert known.schema.equals(KNOWN)
    return known, events


GOOD = b'{"event_id": "e%d", "event_time": "2026-01-02T03:04:05.000006Z", "minutes": "1.25"}'


class TestMessages:
    def test_become_events_with_their_places_and_the_hashes_of_their_ids(self) -> None:
        known, events = decoded(GOOD % 1, GOOD % 2)
        assert events.column("offset").to_pylist() == known.column("offset").to_pylist() == [7, 8]
        assert known.column("partition").to_pylist() == [2, 2]
        assert [str(m) for m in events.column("minutes").to_pylist()] == ["1.25", "1.25"]
        assert known.column("event_time").equals(events.column("event_time"))
        wanted = hash_pairs(pa.array(["e1", "e2"]))
        for half, name in zip(wanted, (FIRST, SECOND), strict=True):
            assert np.array_equal(known.column(name).to_numpy(), half)

    def test_that_are_no_events_keep_their_places_alone(self) -> None:
        known, events = decoded(b"{", GOOD % 1, None)
        by_offset = {row["offset"]: row for row in known.to_pylist()}
        assert {o: row[REFUSED] for o, row in by_offset.items()} == {7: True, 8: False, 9: True}
        assert by_offset[7]["event_time"] is None
        assert events.column("offset").to_pylist() == [8]

    def test_may_all_be_no_events(self) -> None:
        known, events = decoded(None)
        assert (known.column(REFUSED).to_pylist(), events.num_rows) == ([True], 0)


VIEW = View.parse(
    "sums",
    "SELECT k, SUM(n) AS total, COUNT(DISTINCT u) AS users FROM clicks GROUP BY k",
    schema=pa.schema([("k", pa.string()), ("n", pa.int64()), ("u", pa.string())]),
)


class _Broadcast:
    """What a worker has of a broadcast, and how often it was read there."""

    def __init__(self, value: Carried) -> None:
        self.reads, self._value = 0, pickle.dumps(value)

    @property
    def value(self) -> Any:
        self.reads += 1
        return pickle.loads(self._value)


def sent(carried: Carried) -> Sent:
    return Sent("clicks", cast("Any", _Broadcast(carried)))


class TestPartials:
    EVENTS = pa.table(
        {
            "event_time": pa.array([datetime(2026, 1, 1)] * 6, pa.timestamp("us")),
            "k": ["a", "a", "b", "b", "a", "b"],
            "n": [1, 2, 4, 8, 16, 32],
            "u": ["x", "y", "x", "x", "x", "z"],
            "partition": pa.array([0, 0, 0, 1, 1, 1], pa.int32()),
            "offset": pa.array([3, 4, 5, 7, 8, 9], pa.int64()),
        }
    )

    def made(
        self, position: dict[int, int], repeats: list[tuple[int, int]], *, cut: int = 3
    ) -> list[dict[str, Any]]:
        (leaf,) = VIEW.leaves
        carried = Carried((StatePlan.of("s", leaf),), (), (), {})
        at = [np.array(x) for x in zip(*repeats, strict=True)] or [np.empty(0, np.int64)] * 2
        work = Partials(sent(carried), position, places(at[0], at[1]))
        bodies = [pack(self.EVENTS.slice(0, cut)), pack(self.EVENTS.slice(cut))]
        rows = pa.RecordBatch.from_pydict({"events": pa.array(bodies, pa.binary())})
        return pa.Table.from_batches(list(work.make(iter([rows])))).to_pylist()

    def totals(self, position: dict[int, int], repeats: list[tuple[int, int]]) -> dict[str, int]:
        (leaf,) = VIEW.leaves
        pieces = self.made(position, repeats)
        assert {(piece["kind"], piece["name"]) for piece in pieces} == {("states", "s")}
        engine = DuckDBEngine()
        bodies = [unpack(pa.scalar(piece["body"], pa.binary())) for piece in pieces]
        merged = engine.merge(leaf, bodies)
        rows = engine.final(VIEW, {leaf.name: merged}, {}).to_pylist()
        return {row["k"]: row["total"] for row in rows}

    def test_are_of_all_events_that_workers_hold(self) -> None:
        assert self.totals({0: 0, 1: 0}, []) == {"a": 19, "b": 44}

    def test_leave_out_what_came_earlier_and_what_repeats(self) -> None:
        assert self.totals({0: 4, 1: 0}, [(1, 8)]) == {"a": 2, "b": 44}

    def test_leave_out_partitions_without_a_position(self) -> None:
        assert self.totals({1: 0}, []) == {"a": 16, "b": 40}

    def test_of_a_view_that_fails_are_its_events(self) -> None:
        most = [*self.EVENTS.column("n").to_pylist()[:-1], 2**62]
        events = self.EVENTS.set_column(2, "n", pa.array(most))
        (leaf,) = VIEW.leaves
        carried = Carried(
            (StatePlan("bad", "SELECT CAST(n * n AS TINYINT) AS x FROM events", ("n",)),
             StatePlan.of("s", leaf)), (), (), {},
        )  # fmt: skip
        work = Partials(sent(carried), {0: 0, 1: 0}, np.empty(0, np.int64))
        rows = pa.RecordBatch.from_pydict({"events": pa.array([pack(events)], pa.binary())})
        pieces = pa.Table.from_batches(list(work.make(iter([rows])))).to_pylist()
        assert [(p["kind"], p["name"]) for p in pieces] == [("states", "s"), ("events", "bad")]
        kept = unpack(pa.scalar(pieces[1]["body"], pa.binary()))
        assert kept.select(["n"]).equals(events.select(["n"]))


class TestSent:
    USERS = pa.table({"user_id": ["u", "v"], "country": ["DE", "FR"]})

    def carried(self) -> Carried:
        lookup = Lookup("users", (("u", "user_id"),), ("country",))
        return Carried((), (lookup,), (), {"users": self.USERS})

    def test_is_prepared_once_however_often_tasks_name_it(self) -> None:
        one = sent(self.carried())
        prepared = one.prepared()
        again = replace(one)
        assert again.prepared() is prepared
        assert cast("_Broadcast", one.broadcast).reads == 1
        assert prepared.enricher.widen(TestPartials.EVENTS).num_columns == 8

    def test_is_prepared_anew_when_another_is_sent(self) -> None:
        one, other = sent(self.carried()), sent(self.carried())
        assert one.prepared() is not other.prepared()
        assert other.prepared() is other.prepared()

    def test_of_each_topic_is_kept(self) -> None:
        one = sent(self.carried())
        prepared = one.prepared()
        Sent("searches", one.broadcast).prepared()
        assert one.prepared() is prepared


class TestWorth:
    def test_states_that_are_not_fewer_than_events_are_left_and_tried_again(self) -> None:
        worth = Worth()
        worth.note("many", 90, 100)
        worth.note("few", 10, 100)
        left = 0
        while worth.whole:
            assert worth.whole == {"many"}
            worth.passed()
            left += 1
        assert left > 1
        worth.note("many", 10, 100)
        assert not worth.whole

    def test_events_that_are_left_are_one_piece_for_all_their_states(self) -> None:
        (leaf,) = VIEW.leaves
        plans = tuple(StatePlan.of(name, leaf) for name in ("s", "t", "u"))
        carried = sent(Carried(plans, (), (), {}))
        work = Partials(carried, {0: 0, 1: 0}, np.empty(0, np.int64), frozenset({"s", "u"}))
        rows = pa.RecordBatch.from_pydict(
            {"events": pa.array([pack(TestPartials.EVENTS)], pa.binary())}
        )
        pieces = pa.Table.from_batches(list(work.make(iter([rows])))).to_pylist()
        assert [(p["kind"], p["name"]) for p in pieces] == [("states", "t"), ("events", "s u")]
        kept = unpack(pa.scalar(pieces[1]["body"], pa.binary()))
        assert set(kept.column_names) == {"event_time", "k", "n", "u"}


class TestOffsets:
    ROWS = pa.table({"partition": [0, 0, 0, 1, 2], "offset": [4, 5, 6, 9, 1]})

    def test_before_those_that_are_taken_in_are_left_out(self) -> None:
        new = _after(self.ROWS, {0: 5, 1: 10})
        assert new.to_pylist() == [{"partition": 0, "offset": o} for o in (5, 6)]
        assert _ends(new) == {0: 7}

    def test_of_a_partition_that_has_no_position_wait(self) -> None:
        assert 2 not in _ends(_after(self.ROWS, {0: 0, 1: 0}))


class TestOptions:
    def test_start_where_the_state_stands(self) -> None:
        options = source_options(Brokers("a:1,b:2"), "p.clicks", {0: 5, 1: 0}, limit=7)
        assert options["startingOffsets"] == '{"p.clicks": {"0": 5, "1": 0}}'
        assert options["kafka.bootstrap.servers"] == "a:1,b:2"
        assert options["maxOffsetsPerTrigger"] == "7"
        assert options["failOnDataLoss"] == "true"

    def test_of_a_range_name_partitions_that_hold_something(self) -> None:
        options = range_options(Brokers("a:1"), "p.clicks", {0: 5, 1: 3, 2: 0}, {0: 9, 1: 3, 2: 1})
        assert options["assign"] == '{"p.clicks": [0, 2]}'
        assert options["startingOffsets"] == '{"p.clicks": {"0": 5, "2": 0}}'
        assert options["endingOffsets"] == '{"p.clicks": {"0": 9, "2": 1}}'

    def test_of_a_login_are_those_of_the_java_client(self) -> None:
        given = {
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": "me",
            "sasl.password": 'pass"word\\',
            "ssl.ca.location": "/etc/ca.pem",
            "linger.ms": "5",
        }
        assert java_options(given) == {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required "
            'username="me" password="pass\\"word\\\\";',
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "/etc/ca.pem",
        }

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"ssl.key.location": "k.pem"}, "ssl.key.location"),
            ({"sasl.mechanisms": "OAUTHBEARER", "sasl.username": "me"}, "OAUTHBEARER"),
        ],
    )
    def test_about_security_without_a_counterpart_are_refused(
        self, options: dict[str, str], named: str
    ) -> None:
        with pytest.raises(SettingError, match=named):
            java_options(options)
