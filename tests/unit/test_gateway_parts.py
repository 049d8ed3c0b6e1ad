"""The gateway's parts: quotas, origins, dead letters, bodies decoded together, group commit."""

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import uvicorn

from gateway_events import body_of, rows, watch
from playhead.clock import ManualClock
from playhead.contracts import TOPICS, contract
from playhead.contracts.mixed import MixedDecoder, Refused
from playhead.errors import EventLogError, LogFullError, RequestRefusedError
from playhead.eventlog import Appended
from playhead.gateway.answers import Request
from playhead.gateway.decoding import Body, BodyDecoder, Outcome
from playhead.gateway.letters import letters, reason_class
from playhead.gateway.metrics import Metrics
from playhead.gateway.origins import Origins
from playhead.gateway.quota import Quotas
from playhead.gateway.server import _Server
from playhead.gateway.writer import Writer
from playhead.keys import Key
from playhead.testing.eventlog import MemoryEventLog

NOON = datetime(2025, 3, 1, 12)


def key(rate: int | None, key_id: str = "0a1b2c3d") -> Key:
    return Key(key_id, "app", frozenset({"write"}), "0" * 64, NOON, events_per_second=rate)


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def text_body(*events: dict[str, Any], of: Key | None = None) -> Body:
    return Body(body_of(*events), "array", now(), key=of)


def decoder(clock: ManualClock | None = None) -> BodyDecoder:
    return BodyDecoder(MixedDecoder(), Quotas(1, clock or ManualClock(NOON)), 1 << 20)


class TestQuotas:
    def test_fill_up_as_time_goes_by(self) -> None:
        clock = ManualClock(NOON)
        quotas = Quotas(1, clock)
        quotas.take(key(100), 200)
        with pytest.raises(RequestRefusedError, match="100 events a second") as refused:
            quotas.take(key(100), 150)
        assert (refused.value.status, refused.value.retry_after_s) == (429, 2)
        clock.advance(timedelta(seconds=1.5))
        quotas.take(key(100), 150)

    def test_a_body_larger_than_the_bucket_is_paid_for_afterwards(self) -> None:
        clock = ManualClock(NOON)
        quotas = Quotas(1, clock)
        quotas.take(key(100), 1_000)
        with pytest.raises(RequestRefusedError) as refused:
            quotas.check(key(100))
        assert refused.value.retry_after_s == 9
        clock.advance(timedelta(seconds=9))
        quotas.check(key(100))

    def test_are_apart_by_key_and_shared_by_workers(self) -> None:
        quotas = Quotas(4, ManualClock(NOON))
        quotas.take(key(100), 50)
        with pytest.raises(RequestRefusedError):
            quotas.check(key(100))
        quotas.check(key(100, "ffffffff"))
        quotas.take(None, 10**9)
        quotas.take(key(None), 10**9)


class TestOrigins:
    @staticmethod
    def request(origin: str, host: str = "127.0.0.1:8600") -> Request:
        async def nothing() -> dict[str, object]:
            return {"type": "http.disconnect"}

        headers = {b"origin": origin.encode(), b"host": host.encode()}
        return Request({"method": "POST", "path": "/v1/events"}, nothing, "r", headers)

    @pytest.mark.parametrize(
        ("listed", "origin", "host", "is_open", "allowed"),
        [
            ((), "", "127.0.0.1:8600", True, True),
            ((), "https://app.example", "127.0.0.1:8600", True, False),
            (("https://app.example",), "https://app.example", "127.0.0.1:8600", True, True),
            (("https://app.example/",), "https://APP.example", "127.0.0.1:8600", True, True),
            (("https://app.example",), "http://app.example", "127.0.0.1:8600", True, False),
            (("*",), "https://anywhere.example", "127.0.0.1:8600", True, True),
            ((), "null", "127.0.0.1:8600", True, False),
            ((), "http://127.0.0.1:8600", "127.0.0.1:8600", True, True),
            ((), "http://evil.example:8600", "evil.example:8600", True, False),
            ((), "https://own.example", "own.example", False, True),
            ((), "http://[", "127.0.0.1:8600", False, False),
        ],
    )
    def test_only_listed_and_own_pages_may_send(
        self, listed: tuple[str, ...], origin: str, host: str, is_open: bool, allowed: bool
    ) -> None:
        try:
            Origins(listed).check(self.request(origin, host), is_open=is_open)
        except RequestRefusedError:
            assert not allowed
        else:
            assert allowed


class TestLetters:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"event_type": "dance"}, "event_type"),
            ({"event_time": "2999-01-01T00:00:00Z"}, "event_time"),
            ({"event_time": "1999-01-01T00:00:00Z"}, "event_time"),
            ({"event_time": "soon"}, "type"),
            ({"movie_id": "m" * 100_000}, "too_large"),
            ({"extra": 1}, "unknown_field"),
            ({"action": "dance"}, "value"),
            ({"user_rating": 1 << 40}, "value"),
            ({"movie_id": ""}, "value"),
            ({"movie_id": 7}, "type"),
        ],
    )
    def test_reasons_have_few_classes(self, fields: dict[str, Any], expected: str) -> None:
        decoded = MixedDecoder().array(body_of(watch(**fields)), received=now())
        assert [reason_class(one.reason) for one in decoded.rejected] == [expected]

    def test_a_missing_field_has_a_class_too(self) -> None:
        event = watch()
        del event["movie_id"]
        decoded = MixedDecoder().array(body_of(event), received=now())
        assert [reason_class(one.reason) for one in decoded.rejected] == ["missing_field"]
        assert reason_class("nobody knows") == "other"

    def test_are_rows_of_their_contract(self) -> None:
        refused = [
            Refused(3, b"{\xff", "bad"),
            Refused(4, b"{}", "worse", topic="search", version=1),
        ]
        table = letters(refused, NOON, "0a1b2c3d", NOON - timedelta(hours=1))
        assert table.schema == contract("dead_letters").schema
        first, second = table.to_pylist()
        assert (first["index"], first["body"], first["topic"]) == (3, b"{\xff", None)
        assert (second["topic"], second["contract_version"], second["key_id"]) == (
            "search",
            1,
            "0a1b2c3d",
        )
        assert first["sent_at"] == second["sent_at"] == NOON - timedelta(hours=1)
        assert first["event_id"] == first["letter_id"] != second["letter_id"]


class TestTogether:
    def test_small_bodies_give_what_each_gives_alone(self) -> None:
        bad = [{"event_type": "dance"}, watch(action="dance")]
        bodies = [
            text_body(watch("a")),
            text_body(watch("b"), bad[0], watch("c")),
            Body(b"[{", "array", now()),
            text_body(),
            text_body(bad[1]),
            Body(body_of(watch("d"))[1:-1], "lines", now()),
            Body(body_of(watch("e"))[1:-1] + b",", "array", now()),
            Body(b'[{"event_id": "', "array", now()),
            Body(b'", "x": 1}]', "array", now()),
        ]
        batch = decoder().batch(bodies)
        alone = [decoder().batch([body]).outcomes[0] for body in bodies]
        told = [_told(outcome) for outcome in batch.outcomes]
        assert told == [_told(outcome) for outcome in alone]
        assert told[:6] == [(1, []), (3, [1]), 400, (0, []), (1, [0]), (1, [])]
        assert told[6:] == [400, 400, 400]
        assert batch.tables["playback"].column("user_id").to_pylist() == ["a", "b", "c", "d"]
        assert batch.tables["dead_letters"].column("index").to_pylist() == [1, 0]
        assert dict(batch.reasons) == {"event_type": 1, "value": 1}

    def test_each_is_counted_against_its_own_key(self) -> None:
        poor = key(1)
        bodies = [text_body(watch(), watch(), of=poor), text_body(watch(), of=poor)]
        bodies += [text_body(watch("c"))]
        outcomes = [_told(outcome) for outcome in decoder().batch(bodies).outcomes]
        assert outcomes == [(2, []), 429, (1, [])]

    def test_more_events_than_a_body_may_hold_are_cut_into_several(self) -> None:
        few = MixedDecoder()
        most = few.limits.max_events
        bodies = [text_body(*[{}] * (most // 2)) for _ in range(5)]
        outcomes = decoder().batch(bodies).outcomes
        assert [_told(outcome) for outcome in outcomes] == [(most // 2, list(range(most // 2)))] * 5


def _told(outcome: Outcome | RequestRefusedError) -> object:
    if isinstance(outcome, RequestRefusedError):
        return outcome.status
    return outcome.count, [one.index for one in outcome.rejected]


class FaultyLog(MemoryEventLog):
    """Fails as it is told, before it keeps anything."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: Exception | None = None
        self.poison: str | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.appends = 0
        for name, form in TOPICS.items():
            self.create_topic(name, form.schema)

    def append_all(
        self,
        events: Mapping[str, pa.Table | pa.RecordBatch],
        *,
        keys: Mapping[str, str] | None = None,
    ) -> dict[str, list[Appended]]:
        self.gate.wait(10)
        self.appends += 1
        if self.fault is not None:
            raise self.fault
        table = events.get("playback")
        if table is not None and self.poison in table.column("user_id").to_pylist():
            raise pa.ArrowInvalid("poison")
        return super().append_all(events, keys=keys)


class TestWriter:
    @staticmethod
    def run(log: FaultyLog, *users: str) -> list[object]:
        """What each of several requests that wait at once is told."""

        async def submit() -> list[object]:
            writer = Writer(log, decoder(), {})
            log.gate.clear()
            first = writer.submit(text_body(watch("first")))
            await asyncio.sleep(0.05)
            futures = [writer.submit(text_body(watch(user))) for user in users]
            log.gate.set()
            told = await asyncio.gather(first, *futures, return_exceptions=True)
            assert writer.close(5)
            with pytest.raises(RequestRefusedError, match="stops"):
                writer.submit(text_body(watch()))
            return [t.status if isinstance(t, RequestRefusedError) else t.count for t in told[1:]]  # type: ignore[union-attr]

        return asyncio.run(submit())

    def test_appends_once_what_waits_and_in_order(self) -> None:
        log = FaultyLog()
        assert self.run(log, "u", "u", "u") == [1, 1, 1]
        assert log.appends == 2
        numbers = [int(r["event_id"].split("-")[1]) for r in rows(log, "playback")]
        mine = [
            n for n, r in zip(numbers, rows(log, "playback"), strict=True) if r["user_id"] == "u"
        ]
        assert mine == sorted(mine)

    def test_one_requests_fault_is_its_own(self) -> None:
        log = FaultyLog()
        log.poison = "b"
        assert self.run(log, "a", "b", "c") == [1, 500, 1]
        assert sorted(r["user_id"] for r in rows(log, "playback")) == ["a", "c", "first"]

    @pytest.mark.parametrize(
        "fault", [LogFullError("/secret/log.db is full"), EventLogError("x"), OSError(5, "eio")]
    )
    def test_a_failing_log_is_told_to_all_and_then_forgotten(self, fault: Exception) -> None:
        log = FaultyLog()

        async def submit() -> None:
            writer = Writer(log, decoder(), {})
            assert writer.trouble() == ""
            log.fault = fault
            with pytest.raises(RequestRefusedError) as refused:
                await writer.submit(text_body(watch()))
            assert refused.value.status == 503
            assert refused.value.retry_after_s
            assert "secret" not in str(refused.value)
            assert writer.trouble()
            log.fault = None
            await writer.submit(text_body(watch()))
            assert writer.trouble() == ""
            assert writer.close(5)
            assert writer.trouble()

        asyncio.run(submit())
        assert len(rows(log, "playback")) == 1

    def test_closing_waits_no_longer_than_it_may(self) -> None:
        log = FaultyLog()

        async def submit() -> None:
            writer = Writer(log, decoder(), {})
            log.gate.clear()
            told = writer.submit(text_body(watch()))
            assert not writer.close(0.05)
            log.gate.set()
            assert (await told).count == 1

        asyncio.run(submit())


class TestWhatAWorkerTells:
    def server(self, told: list[tuple[str, float]], trouble: str = "") -> _Server:
        gateway: Any = SimpleNamespace(metrics=Metrics(), trouble=lambda: trouble)

        def beat(health: str, **figures: float) -> None:
            told.append((health, figures["accepted_per_s"]))

        return _Server(uvicorn.Config(gateway), gateway, threading.Event(), beat)

    def test_events_a_second_or_why_there_are_none(self) -> None:
        told: list[tuple[str, float]] = []
        server = self.server(told)
        for _ in range(3):
            server._tell()
            server._gateway.metrics.accepted({"playback": 1_000, "search": 500})
        self.server(told, "the disk is full")._tell()
        assert told == [
            ("0 events/s", 0),
            ("1,500 events/s", 1_500),
            ("1,500 events/s", 1_500),
            ("the disk is full", 0),
        ]

    def test_a_line_a_minute_if_anything_came(self, caplog: pytest.LogCaptureFixture) -> None:
        server = self.server([])
        metrics = server._gateway.metrics
        with caplog.at_level("INFO", "playhead.gateway"):
            server._sum_up()
            metrics.accepted({"playback": 1_000})
            metrics.rejected(Counter(user_id=2))
            for status in (202, 400, 503):
                metrics.answered("/v1/events", status, 10)
            server._sum_up()
            server._sum_up()
        (line,) = caplog.messages
        assert line.startswith("1,000 events accepted, 2 rejected, 3 requests (2 refused) in ")
