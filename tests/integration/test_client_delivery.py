"""The producer against a server over real sockets: lost answers, outages, kills, refusals."""

import asyncio
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playhead.client import (
    AsyncProducer,
    EventError,
    FlushTimeoutError,
    Producer,
    ProducerClosedError,
    ProducerError,
    ProducerFullError,
    ProducerRefusedError,
    SpoolError,
    sending,
)
from recording_gateway import (
    RecordingGateway,
    cut_answer,
    hang_up,
    lose_answer,
    recording,
    status,
)


@pytest.fixture
def gateway() -> Iterator[RecordingGateway]:
    with recording() as started:
        yield started


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(sending, "_LONGEST_PAUSE_S", 0.2)


def _event(number: int) -> dict[str, Any]:
    return {"event_id": f"e{number}", "event_type": "click", "user_id": "u1", "n": number}


def _send(producer: Producer, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        producer.send(_event(number))


@pytest.mark.parametrize("compress", [True, False])
def test_events_arrive_once_in_order_and_in_batches(
    gateway: RecordingGateway, compress: bool
) -> None:
    options: Any = {"batch_events": 100, "compress": compress}
    with Producer(gateway.url, "ph_secret", **options) as producer:
        _send(producer, 1_000)
        producer.flush(10)
        stats = producer.stats()
    assert (stats.sent, stats.acknowledged, stats.waiting, stats.spooled) == (1_000, 1_000, 0, 0)
    assert gateway.came == [f"e{number}" for number in range(1_000)]
    assert 10 <= len(gateway.requests) < 30
    headers, path = gateway.requests[0]
    assert path == "/v1/events"
    assert headers["Authorization"] == "Bearer ph_secret"
    assert headers["Playhead-Sent-At"].endswith("Z")
    assert ("Content-Encoding" in headers) == compress
    assert headers["Content-Type"] == "application/json"


def test_one_event_goes_out_after_the_linger_time(gateway: RecordingGateway) -> None:
    with Producer(gateway.url, linger_ms=20) as producer:
        producer.send({"event_type": "click"})
        gateway.wait_for(1, 2)
        (event,) = gateway.kept.values()
        assert set(event) == {"event_id", "event_time", "event_type"}


def test_lost_and_cut_answers_are_asked_for_again_and_count_once(gateway: RecordingGateway) -> None:
    gateway.faults.extend([lose_answer, cut_answer, hang_up, status(500), status(408)] * 3)
    with Producer(gateway.url, batch_events=10) as producer:
        _send(producer, 200)
        producer.flush(20)
        assert producer.stats().acknowledged == 200
        assert producer.stats().retries >= 10
    assert list(gateway.kept) == [f"e{number}" for number in range(200)]
    assert len(gateway.came) > 200


def test_retry_after_is_waited_for(gateway: RecordingGateway) -> None:
    gateway.faults.extend([status(429, Retry_After="1"), status(503, Retry_After="1")])
    started = time.monotonic()
    with Producer(gateway.url) as producer:
        _send(producer, 3)
        producer.flush(10)
    assert time.monotonic() - started >= 2
    assert len(gateway.kept) == 3


@pytest.mark.parametrize("has_spool", [True, False])
def test_a_gateway_that_is_away_for_seconds_loses_nothing(
    gateway: RecordingGateway, tmp_path: Path, has_spool: bool
) -> None:
    spool = tmp_path / "spool" if has_spool else None
    with Producer(gateway.url, spool=spool, batch_events=50) as producer:
        _send(producer, 100)
        producer.flush(10)
        gateway.stop()
        longest = 0.0
        for number in range(100, 2_000):
            started = time.perf_counter()
            producer.send(_event(number))
            longest = max(longest, time.perf_counter() - started)
        time.sleep(1)
        stats = producer.stats()
        assert (stats.waiting, stats.spooled) == (1_900, 1_900 if has_spool else 0)
        assert longest < 0.5
        with pytest.raises(
            FlushTimeoutError, match=r"1,900 events wait after 0\.1 s; last: no answer"
        ):
            producer.flush(0.1)
        gateway.start()
        producer.flush(20)
    assert gateway.values("n") == list(range(2_000))


def test_an_idle_connection_that_was_closed_is_opened_again(gateway: RecordingGateway) -> None:
    with Producer(gateway.url) as producer:
        producer.send(_event(0))
        producer.flush(5)
        gateway.stop()
        gateway.start()
        producer.send(_event(1))
        producer.flush(5)
    assert list(gateway.kept) == ["e0", "e1"]


def test_a_batch_that_is_too_large_is_halved(gateway: RecordingGateway) -> None:
    def at_most_three(request: Any) -> bool:
        return len(request.events) > 3 and status(413)(request)

    gateway.always = at_most_three
    with Producer(gateway.url, batch_events=50) as producer:
        _send(producer, 50)
        producer.flush(10)
        assert producer.stats().acknowledged == 50
    assert gateway.came == [f"e{number}" for number in range(50)]


def test_an_event_that_alone_is_too_large_is_rejected(gateway: RecordingGateway) -> None:
    gateway.always = lambda r: any(e["n"] == 5 for e in r.events) and status(413)(r)
    told: list[tuple[str, str]] = []
    with Producer(
        gateway.url, on_rejected=lambda event, why: told.append((event["event_id"], why))
    ) as producer:
        _send(producer, 20)
        producer.flush(10)
        assert (producer.stats().acknowledged, producer.stats().rejected) == (19, 1)
    assert told == [("e5", "larger than the gateway takes")]


def test_rejected_events_are_told(
    gateway: RecordingGateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.reason = lambda event: "n: odd" if event["n"] % 2 else ""
    told: list[int] = []
    with Producer(gateway.url, on_rejected=lambda event, _: told.append(event["n"])) as producer:
        _send(producer, 10)
        producer.flush(5)
    assert told == [1, 3, 5, 7, 9]
    with Producer(gateway.url) as producer:
        _send(producer, 10, start=10)
        producer.flush(5)
        assert producer.stats().rejected == 5
    assert "5 events were rejected; the first: n: odd" in caplog.text


def test_a_callback_that_fails_stops_nothing(gateway: RecordingGateway) -> None:
    gateway.reason = lambda _: "no"
    with Producer(gateway.url, on_rejected=lambda *_: 1 / 0) as producer:
        _send(producer, 10)
        producer.flush(5)
        assert producer.stats().rejected == 10


@pytest.mark.parametrize("code", [400, 401, 403, 404, 415, 200, 301])
def test_a_refusal_is_not_repeated_blindly_and_keeps_the_events(
    gateway: RecordingGateway, tmp_path: Path, code: int
) -> None:
    gateway.always = status(code, "the reason")
    told: list[ProducerError] = []
    with Producer(gateway.url, spool=tmp_path, linger_ms=0, on_error=told.append) as producer:
        _send(producer, 10)
        with pytest.raises(ProducerRefusedError, match=f"status {code}: the reason") as refused:
            producer.flush(5)
        assert refused.value.status == code
        asked = len(gateway.requests)
        _send(producer, 10, start=10)
        time.sleep(0.3)
        assert len(gateway.requests) == asked
        assert producer.stats().spooled == 20
        gateway.always = None
        producer.flush(5)
    assert told
    assert len(gateway.kept) == 20


def test_after_a_refusal_it_tries_again_by_itself(
    gateway: RecordingGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playhead.client.producer._REFUSED_PAUSE_S", 0.3)
    gateway.faults.extend([status(401), status(404)])
    told: list[ProducerError] = []
    with Producer(gateway.url, linger_ms=0, on_error=told.append) as producer:
        producer.send(_event(0))
        started = time.monotonic()
        gateway.wait_for(1, 5)
        assert time.monotonic() - started > 0.4
        producer.send(_event(1))
        gateway.wait_for(2, 5)
        assert not producer.is_halted
    assert len(told) == 2


@pytest.mark.parametrize(
    "body", ["hello", {"accepted": 5}, {"accepted": 9, "rejected": []}, [], None]
)
def test_a_strange_answer_is_no_acknowledgement(gateway: RecordingGateway, body: object) -> None:
    def strange(request: Any) -> bool:
        request.reply(202, body)
        return True

    gateway.always = strange
    producer = Producer(gateway.url)
    _send(producer, 10)
    with pytest.raises(ProducerRefusedError, match="not one of a gateway"):
        producer.flush(5)
    gateway.always = None
    producer.close()
    assert len(gateway.kept) == 10


# -- bounds ------------------------------------------------------------------------------


def test_a_full_queue_tells_and_never_blocks(gateway: RecordingGateway) -> None:
    gateway.stop()
    producer = Producer(gateway.url, queue_events=100)
    _send(producer, 100)
    with pytest.raises(ProducerFullError, match="100 wait in memory"):
        producer.send(_event(100))
    assert producer.stats().sent == 100
    gateway.start()
    producer.send(_event(100), block=True)
    producer.close()
    assert gateway.values("n") == list(range(101))


def test_a_full_spool_tells(gateway: RecordingGateway, tmp_path: Path) -> None:
    gateway.stop()
    producer = Producer(gateway.url, spool=tmp_path, spool_mb=0.1)
    with pytest.raises(ProducerFullError, match=r"[\d,]+ wait on disk \([\d,]+ bytes\)"):
        _send(producer, 100_000)
    sent = producer.stats().sent
    gateway.start()
    producer.close(20)
    assert gateway.values("n") == list(range(sent))


@pytest.mark.parametrize("has_spool", [True, False])
def test_an_event_that_never_fits_is_refused_at_once(
    gateway: RecordingGateway, tmp_path: Path, has_spool: bool
) -> None:
    spool = tmp_path / "spool" if has_spool else None
    with Producer(gateway.url, spool=spool, spool_mb=0.01) as producer:
        with pytest.raises(EventError, match="more than may wait"):
            producer.send({"event_type": "x" * 20_000}, block=True)
        producer.send(_event(0))
        producer.flush(5)
    assert list(gateway.kept) == ["e0"]


def test_callbacks_may_send_and_cannot_wait(gateway: RecordingGateway) -> None:
    told: list[str] = []

    def on_rejected(event: dict[str, Any], _: str) -> None:
        for wait in (producer.flush, lambda: producer.send(event, block=True)):
            try:
                wait()
            except ProducerError as error:
                told.append(type(error).__name__)
        told.append("over")

    gateway.reason = lambda event: "no" if event["n"] == 0 else ""
    producer = Producer(gateway.url, queue_events=1, linger_ms=0, on_rejected=on_rejected)
    producer.send(_event(0))
    producer.flush(5)
    assert told == ["ProducerError", "ProducerFullError", "over"]
    producer.close()


def test_a_callback_may_close(gateway: RecordingGateway, tmp_path: Path) -> None:
    gateway.always = status(401)
    closed = threading.Event()

    def on_error(_: ProducerError) -> None:
        producer.close()
        closed.set()

    producer = Producer(gateway.url, spool=tmp_path, linger_ms=50, on_error=on_error)
    producer.send(_event(0))
    assert closed.wait(5)
    producer._thread.join(5)
    with Producer(gateway.url, spool=tmp_path, on_error=lambda _: None) as again:
        assert again.stats().spooled == 1


def test_a_key_from_a_file_may_end_with_a_line(gateway: RecordingGateway) -> None:
    with Producer(gateway.url, "ph_secret\n") as producer:
        producer.send(_event(0))
    assert gateway.requests[0][0]["Authorization"] == "Bearer ph_secret"


def test_closing_at_any_moment_is_quiet(
    gateway: RecordingGateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(60):
        producer = Producer(gateway.url, spool=tmp_path / str(number), batch_events=1, linger_ms=0)
        _send(producer, 20)
        time.sleep(number / 20_000)
        producer._stop()
        producer.close()
    assert "delivery failed" not in caplog.text


def test_who_blocks_is_let_go_by_refusal_and_close(gateway: RecordingGateway) -> None:
    gateway.always = status(401)
    producer = Producer(gateway.url, queue_events=1, linger_ms=0)
    producer.send(_event(0))
    with pytest.raises(ProducerFullError, match="status 401"):
        producer.send(_event(1), block=True)
    with pytest.raises(ProducerError, match="1 events were not delivered"):
        producer.close(0.2)
    with pytest.raises(ProducerClosedError):
        producer.send(_event(9), block=True)


def test_closing_without_a_spool_tells_what_is_lost(gateway: RecordingGateway) -> None:
    gateway.stop()
    producer = Producer(gateway.url)
    _send(producer, 7)
    with pytest.raises(ProducerError, match="7 events were not delivered, and are lost; last: no"):
        producer.close(0.2)
    producer.close()
    with pytest.raises(ProducerClosedError):
        producer.flush(1)


def test_closing_ends_a_request_that_hangs(gateway: RecordingGateway, tmp_path: Path) -> None:
    over = threading.Event()
    gateway.always = lambda _: over.wait(20)
    producer = Producer(gateway.url, spool=tmp_path, timeout_s=20)
    _send(producer, 3)
    started = time.monotonic()
    producer.close(0.3)
    assert time.monotonic() - started < 3
    over.set()
    assert producer.stats().spooled == 3


def test_an_error_in_the_block_is_not_hidden(
    gateway: RecordingGateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.always = status(401)
    producer = Producer(gateway.url)
    producer.send(_event(0))
    with pytest.raises(ZeroDivisionError), producer:
        raise ZeroDivisionError
    assert "1 events were not delivered" in caplog.text


def test_many_threads_send_at_once(gateway: RecordingGateway) -> None:
    with Producer(gateway.url) as producer:
        threads = [
            threading.Thread(target=_send, args=(producer, 500, start))
            for start in range(0, 4_000, 500)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        producer.flush(10)
    assert sorted(gateway.values("n")) == list(range(4_000))
    assert len(gateway.came) == 4_000


# -- processes ---------------------------------------------------------------------------

_PROGRAM = """
import sys
from pathlib import Path
from playhead.client import Producer
url, spool, start = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
producer = Producer(url, spool=spool, batch_events=20, linger_ms=1)
for number in range(start, start + 1_000_000):
    producer.send({"event_id": f"e{number}", "event_type": "click", "n": number}, block=True)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_kill_9_loses_nothing_that_was_sent(gateway: RecordingGateway, tmp_path: Path) -> None:
    sent = -1
    for run in range(6):
        if run % 2:
            gateway.stop()
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, gateway.url, tmp_path, str(sent + 1)],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.13 * (run + 1) / 3)
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split(b"\n")
        process.wait()
        process.stdout.close()
        sent = max([sent + 1, *(int(line) for line in lines[:-1])])
        if run % 2:
            gateway.start()
    with Producer(gateway.url, spool=tmp_path) as producer:
        producer.flush(30)
    came = gateway.values("n")
    # The event after the last one that was told may have been taken as well.
    assert set(range(sent + 1)) <= set(came) <= set(range(sent + 2))
    assert came == sorted(came)


def test_the_end_of_the_program_delivers_what_waits(gateway: RecordingGateway) -> None:
    program = (
        "import sys; from playhead.client import Producer; p = Producer(sys.argv[1]);"
        "[p.send({'event_id': f'e{n}', 'n': n}) for n in range(1000)]"
    )
    subprocess.run([sys.executable, "-c", program, gateway.url], check=True, timeout=30)
    assert len(gateway.kept) == 1_000


def test_a_spool_is_of_one_producer_at_a_time(gateway: RecordingGateway, tmp_path: Path) -> None:
    with Producer(gateway.url, spool=tmp_path), pytest.raises(SpoolError, match="another producer"):
        Producer(gateway.url, spool=tmp_path)


def _child(producer: Producer, told: Any) -> None:
    for use in (lambda: producer.send(_event(1)), producer.flush, producer.stats):
        try:
            use()
        except ProducerClosedError as error:
            told.send(error.message)


def test_a_fork_does_not_share_the_producer(gateway: RecordingGateway) -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    with Producer(gateway.url) as producer:
        process = context.Process(target=_child, args=(producer, theirs))
        # A lock that another thread holds at the fork is held for ever in the child.
        with producer._changed:
            process.start()
        for _ in range(3):
            assert ours.poll(10)
            assert f"made by process {os.getpid()}" in ours.recv()
        process.join(10)
        producer.send(_event(0))
    assert list(gateway.kept) == ["e0"]


# -- asyncio -----------------------------------------------------------------------------


def test_the_async_producer(gateway: RecordingGateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def main() -> None:
        async with AsyncProducer(gateway.url, queue_events=50) as producer:
            for number in range(300):
                await producer.send(_event(number), block=True)
            await producer.flush(10)
            assert producer.stats().acknowledged == 300
            gateway.stop()
            await producer.send(_event(300))
            with pytest.raises(FlushTimeoutError):
                await producer.flush(0.1)
            await producer.send(_event(301))
            for number in range(302, 350):
                await producer.send(_event(number))
            with pytest.raises(ProducerFullError):
                await producer.send(_event(350))
            gateway.start()
            gateway.faults.append(status(401))
            with pytest.raises(ProducerRefusedError):
                await producer.flush(10)
            await producer.flush(10)

    asyncio.run(main())
    assert gateway.values("n") == list(range(350))


def test_an_async_flush_can_be_cancelled(gateway: RecordingGateway) -> None:
    gateway.stop()

    async def main() -> None:
        producer = AsyncProducer(gateway.url)
        await producer.send(_event(0))
        flushing = asyncio.create_task(producer.flush())
        await asyncio.sleep(0.05)
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing
        gateway.start()
        await producer.close()

    asyncio.run(main())
    assert list(gateway.kept) == ["e0"]


def test_an_async_send_does_not_wait_for_who_refuses(gateway: RecordingGateway) -> None:
    gateway.always = status(401)

    async def main() -> None:
        producer = AsyncProducer(gateway.url, queue_events=1, linger_ms=0)
        await producer.send(_event(0))
        with pytest.raises(ProducerFullError, match="status 401"):
            await asyncio.wait_for(producer.send(_event(1), block=True), 10)
        gateway.always = None
        await producer.close()

    asyncio.run(main())
    assert list(gateway.kept) == ["e0"]
