"""The gateway over real sockets: every status, every form of a body, and clients that misbehave."""

import gzip
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import zstandard

from gateway_events import Raw, body_of, ids, log_of, page_view, post_head, rows, watch
from playhead.config import GatewaySettings
from playhead.contracts.mixed import MixedDecoder
from playhead.gateway import Serving, protocol, serving
from playhead.keys import KeyRing

Start = Callable[..., Serving]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway on the test's folder with other settings than the usual."""
    with ExitStack() as running:
        yield lambda **fields: running.enter_context(
            serving(tmp_path, settings=GatewaySettings(**fields))
        )


@pytest.fixture
def gateway(start: Start) -> Serving:
    return start()


@pytest.fixture
def client(gateway: Serving) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url) as client:
        yield client


def problem(response: httpx.Response, status: int, text: str = "") -> dict[str, Any]:
    """The problem document of an answer, checked."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert document["title"]
    assert text in document["detail"]
    return document


class TestEvents:
    def test_are_durable_in_their_topics_once_they_are_accepted(
        self, client: httpx.Client, tmp_path: Path
    ) -> None:
        events = [watch("a"), page_view("b"), watch("a")]
        answer = client.post("/v1/events", json=events)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 3, "rejected": []})
        assert ids(tmp_path) == [events[0]["event_id"], events[2]["event_id"]]
        assert ids(tmp_path, "interaction") == [events[1]["event_id"]]

    def test_that_are_bad_become_dead_letters_and_their_neighbours_stay(
        self, client: httpx.Client, tmp_path: Path
    ) -> None:
        bad = [watch(action="dance"), {"event_type": "dance"}]
        answer = client.post("/v1/events", json=[watch(), *bad, watch()])
        rejected = answer.json()["rejected"]
        assert answer.json()["accepted"] == 2
        assert [one["index"] for one in rejected] == [1, 2]
        assert "started" in rejected[0]["reason"]
        with log_of(tmp_path) as log:
            found = sorted(rows(log, "dead_letters"), key=lambda row: row["index"])
        assert [json.loads(row["body"]) for row in found] == bad
        assert [row["topic"] for row in found] == ["playback", None]
        assert [row["reason"] for row in found] == [one["reason"] for one in rejected]
        assert len(ids(tmp_path)) == 2

    @pytest.mark.parametrize(
        ("content_type", "content"),
        [
            ("", lambda e: json.dumps(e)),
            ("application/json", lambda e: json.dumps(e)),
            ("application/json", lambda e: json.dumps([e])),
            ("application/x-ndjson", lambda e: json.dumps(e) + "\n\n"),
            ("text/plain;charset=UTF-8", lambda e: json.dumps([e])),
            ("text/plain;charset=UTF-8", lambda e: json.dumps(e)),
        ],
    )
    @pytest.mark.parametrize("encoding", ["", "identity", "gzip", "zstd"])
    def test_come_in_several_forms(
        self, client: httpx.Client, tmp_path: Path, content_type: str, content: Any, encoding: str
    ) -> None:
        event = watch()
        pack: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress}
        pack["zstd"] = zstandard.compress
        packed = pack.get(encoding, bytes)(content(event).encode())
        headers = {"content-type": content_type, "content-encoding": encoding}
        given = {name: value for name, value in headers.items() if value}
        answer = client.post("/v1/events", content=packed, headers=given)
        assert answer.json() == {"accepted": 1, "rejected": []}
        assert ids(tmp_path) == [event["event_id"]]

    def test_come_as_an_arrow_stream(self, client: httpx.Client, tmp_path: Path) -> None:
        table = MixedDecoder().array(
            body_of(watch(), watch()), received=datetime.now(UTC).replace(tzinfo=None)
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.tables["playback"].schema) as stream:
            stream.write_table(table.tables["playback"])
        headers = {"content-type": "application/vnd.apache.arrow.stream"}
        answer = client.post("/v1/events", content=sink.getvalue().to_pybytes(), headers=headers)
        assert answer.json() == {"accepted": 2, "rejected": []}
        assert len(ids(tmp_path)) == 2

    def test_come_in_chunks(self, client: httpx.Client, tmp_path: Path) -> None:
        body = body_of(watch(), watch())
        parts = (body[i : i + 50] for i in range(0, len(body), 50))
        assert client.post("/v1/events", content=parts).json()["accepted"] == 2
        assert len(ids(tmp_path)) == 2

    def test_of_a_clock_that_is_off_are_put_right(
        self, client: httpx.Client, tmp_path: Path
    ) -> None:
        ahead = datetime.now(UTC) + timedelta(hours=3)
        event = watch(event_time=(ahead - timedelta(seconds=10)).isoformat())
        headers = {"playhead-sent-at": ahead.isoformat()}
        answer = client.post("/v1/events", json=[event], headers=headers)
        assert answer.json()["accepted"] == 1
        with log_of(tmp_path) as log:
            (row,) = rows(log, "playback")
        age = datetime.now(UTC).replace(tzinfo=None) - row["event_time"]
        assert timedelta(seconds=9) < age < timedelta(seconds=30)

    def test_large_bodies_are_decoded_beside_small_ones(
        self, client: httpx.Client, tmp_path: Path
    ) -> None:
        large = body_of(*[watch() for _ in range(5_000)])
        assert len(large) > 1 << 20
        answer = client.post(
            "/v1/events", content=gzip.compress(large), headers={"content-encoding": "gzip"}
        )
        assert answer.json()["accepted"] == 5_000
        assert len(ids(tmp_path)) == 5_000

    def test_of_one_user_stay_in_order_over_requests(
        self, client: httpx.Client, tmp_path: Path
    ) -> None:
        sent = []
        for _ in range(20):
            events = [watch("u") for _ in range(5)]
            sent += [event["event_id"] for event in events]
            client.post("/v1/events", json=events).raise_for_status()
        assert ids(tmp_path) == sent

    def test_an_empty_array_is_nothing(self, client: httpx.Client) -> None:
        assert client.post("/v1/events", json=[]).json() == {"accepted": 0, "rejected": []}


class TestRefusals:
    @pytest.mark.parametrize("body", [b"[{", b"nonsense", b"", b"\xff\xfe", b"[1,2", b"[" * 50_000])
    def test_an_unreadable_body_is_400(self, client: httpx.Client, body: bytes) -> None:
        problem(client.post("/v1/events", content=body), 400)

    def test_unknown_paths_and_methods(self, client: httpx.Client) -> None:
        problem(client.get("/v1/nothing"), 404, "/v1/events")
        assert client.get("/v1/events").headers["allow"] == "POST, OPTIONS"
        problem(client.get("/v1/events"), 405)
        problem(client.post("/healthz", content=b"x"), 405)

    def test_other_media_types_and_encodings_are_415(self, client: httpx.Client) -> None:
        html = {"content-type": "text/html"}
        problem(client.post("/v1/events", content=b"x", headers=html), 415, "application/x-ndjson")
        brotli = {"content-encoding": "br"}
        problem(client.post("/v1/events", content=b"x", headers=brotli), 415, "zstd")

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
    def test_a_body_that_is_not_so_compressed_is_400(
        self, client: httpx.Client, encoding: str
    ) -> None:
        headers = {"content-encoding": encoding}
        problem(client.post("/v1/events", content=b"[{}]", headers=headers), 400, encoding)

    def test_a_zip_bomb_is_413(self, client: httpx.Client) -> None:
        bomb = gzip.compress(b" " * 200_000_000)
        headers = {"content-encoding": "gzip"}
        problem(client.post("/v1/events", content=bomb, headers=headers), 413)

    def test_too_many_bytes_or_events_are_413(self, start: Start) -> None:
        gateway = start(max_body_mb=1, max_events=10)
        with httpx.Client(base_url=gateway.url) as client:
            problem(client.post("/v1/events", content=b" " * (2 << 20)), 413)
            chunks = (b" " * 65_536 for _ in range(40))
            problem(client.post("/v1/events", content=chunks), 413)
            problem(client.post("/v1/events", json=[{}] * 11), 413)
            assert client.post("/v1/events", json=[watch()]).status_code == 202

    def test_no_length_is_411(self, gateway: Serving) -> None:
        with Raw(gateway.address.port) as raw:
            raw.send(post_head(None))
            status, headers, _ = raw.answer()
        assert (status, headers["content-type"]) == (411, "application/problem+json")

    def test_no_memory_is_503_before_the_body_comes(self, start: Start) -> None:
        gateway = start(max_waiting_mb=1)
        half = b"[" + b" " * 900_000
        with Raw(gateway.address.port) as first, Raw(gateway.address.port) as second:
            first.send(post_head(1_000_000) + half)
            _wait(lambda: gateway.gateway.budget.used_bytes > len(half) // 2)
            second.send(post_head(600_000))
            status, headers, _ = second.answer()
            assert (status, headers["retry-after"]) == (503, "1")
            first.send(b" " * (1_000_000 - len(half) - 1) + b"]")
            assert first.answer()[0] == 202
        _wait(lambda: gateway.gateway.budget.used_bytes == 0)

    def test_a_low_disk_is_503(self, start: Start) -> None:
        gateway = start(min_free_mb=1 << 40)
        with httpx.Client(base_url=gateway.url) as client:
            answer = client.post("/v1/events", json=[watch()])
            problem(answer, 503, "disk")
            assert int(answer.headers["retry-after"]) > 0
            problem(client.get("/readyz"), 503, "disk")
            assert client.get("/healthz").status_code == 200


class TestKeys:
    def test_are_needed_as_soon_as_there_is_one(self, client: httpx.Client, tmp_path: Path) -> None:
        assert client.post("/v1/events", json=[watch()]).status_code == 202
        ring = KeyRing(tmp_path / "keys.json")
        _, write = ring.create("app", ["write"])
        _, read = ring.create("board", ["read"])
        _wait(lambda: client.post("/v1/events", json=[watch()]).status_code == 401)
        answer = client.post("/v1/events", json=[watch()])
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        for given in ({"authorization": f"Bearer {write}"}, {"x-playhead-key": write}):
            assert client.post("/v1/events", json=[watch()], headers=given).status_code == 202
        assert client.post(f"/v1/events?key={write}", json=[watch()]).status_code == 202
        wrong = {"authorization": f"Bearer {read}"}
        problem(client.post("/v1/events", json=[watch()], headers=wrong), 403)
        problem(client.get("/metrics"), 401)
        problem(client.get(f"/metrics?key={read}"), 401)
        assert client.get("/metrics", headers=wrong).status_code == 200
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200

    def test_dead_letters_tell_the_keys_id(self, start: Start, tmp_path: Path) -> None:
        key, secret = KeyRing(tmp_path / "keys.json").create("app", ["write"])
        gateway = start()
        headers = {"authorization": f"Bearer {secret}"}
        httpx.post(f"{gateway.url}/v1/events", json=[{}], headers=headers).raise_for_status()
        with log_of(tmp_path) as log:
            assert [row["key_id"] for row in rows(log, "dead_letters")] == [key.id]

    def test_a_quota_is_429_and_nothing_is_accepted(self, start: Start, tmp_path: Path) -> None:
        ring = KeyRing(tmp_path / "keys.json")
        _, secret = ring.create("app", ["write"], events_per_second=5)
        headers = {"authorization": f"Bearer {secret}"}
        with httpx.Client(base_url=start().url, headers=headers) as client:
            assert client.post("/v1/events", json=[watch() for _ in range(10)]).status_code == 202
            answer = client.post("/v1/events", json=[watch() for _ in range(10)])
            problem(answer, 429, "5 events a second")
            assert int(answer.headers["retry-after"]) > 0
        assert len(ids(tmp_path)) == 10


class TestOrigins:
    def test_a_listed_page_may_send_and_read_the_answer(self, start: Start) -> None:
        page = "https://app.example"
        with httpx.Client(base_url=start(cors_origins=(page,)).url) as client:
            asks = {"origin": page, "access-control-request-method": "POST"}
            preflight = client.options("/v1/events", headers=asks)
            assert preflight.status_code == 204
            assert preflight.headers["access-control-allow-origin"] == page
            assert "x-playhead-key" in preflight.headers["access-control-allow-headers"]
            answer = client.post("/v1/events", json=[watch()], headers={"origin": page})
            assert answer.headers["access-control-allow-origin"] == page
            refused = client.post("/v1/events", content=b"x", headers={"origin": page})
            assert refused.headers["access-control-allow-origin"] == page

    def test_another_page_may_not(self, client: httpx.Client, tmp_path: Path) -> None:
        page = {"origin": "https://evil.example"}
        problem(client.options("/v1/events", headers=page), 403, "cors_origins")
        answer = client.post("/v1/events", json=[watch()], headers=page)
        problem(answer, 403)
        assert "access-control-allow-origin" not in answer.headers
        assert ids(tmp_path) == []


class TestConnections:
    def test_are_kept_alive_and_pipelined(self, gateway: Serving, tmp_path: Path) -> None:
        bodies = [body_of(watch("u")) for _ in range(10)]
        with Raw(gateway.address.port) as raw:
            raw.send(b"".join(post_head(len(body)) + body for body in bodies))
            assert [raw.answer()[0] for _ in bodies] == [202] * 10
            raw.send(post_head(len(bodies[0])) + bodies[0])
            assert raw.answer()[0] == 202
        assert ids(tmp_path)[:10] == [json.loads(body)[0]["event_id"] for body in bodies]

    def test_slow_headers_are_ended(
        self, gateway: Serving, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.5)
        with Raw(gateway.address.port) as silent, Raw(gateway.address.port) as slow:
            began = time.monotonic()
            for byte in b"POST /v1":
                slow.send(bytes([byte]))
                time.sleep(0.02)
            assert slow.answer()[0] == 408
            assert slow.is_closed()
            assert silent.answer()[0] == 408
            assert time.monotonic() - began < 5

    def test_a_second_request_of_slow_headers_is_ended(
        self, gateway: Serving, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.5)
        with Raw(gateway.address.port) as raw:
            raw.send(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
            assert raw.answer()[0] == 200
            time.sleep(0.7)
            raw.send(b"\r\n\r\nGET /h")
            assert raw.answer()[0] == 408

    def test_slow_bodies_are_408(self, start: Start) -> None:
        gateway = start(body_seconds=1)
        with Raw(gateway.address.port) as raw:
            raw.send(post_head(1_000_000) + b"[")
            status, headers, _ = raw.answer()
            assert (status, headers["connection"]) == (408, "close")
            raw.socket.settimeout(10)
            assert raw.is_closed()

    def test_huge_headers_are_431(self, gateway: Serving) -> None:
        for head in (b"X-Pad: " + b"x" * 100_000, b"X: 1\r\n" * 200):
            with Raw(gateway.address.port) as raw:
                raw.send(b"POST /v1/events HTTP/1.1\r\nHost: test\r\n" + head + b"\r\n\r\n")
                assert raw.answer()[0] == 431

    @pytest.mark.parametrize(
        "junk", [b"nonsense\r\n\r\n", b"POST /v1/events HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00"]
    )
    def test_what_is_no_http_is_400(self, gateway: Serving, junk: bytes) -> None:
        with Raw(gateway.address.port) as raw:
            raw.send(junk)
            status, headers, _ = raw.answer()
            assert (status, headers["content-type"]) == (400, "application/problem+json")
            assert raw.is_closed()

    def test_too_many_are_503(self, gateway: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(protocol.BoundedProtocol, "most_connections", 1)
        with Raw(gateway.address.port) as first, Raw(gateway.address.port) as second:
            for raw, expected in ((first, 200), (second, 503), (first, 200)):
                raw.send(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
                assert raw.answer()[0] == expected

    def test_a_body_that_ends_early_leaves_nothing(self, gateway: Serving, tmp_path: Path) -> None:
        with Raw(gateway.address.port) as raw:
            raw.send(post_head(10_000) + body_of(watch()))
        _wait(lambda: "499" in httpx.get(f"{gateway.url}/metrics").text)
        assert gateway.gateway.budget.used_bytes == 0
        assert ids(tmp_path) == []

    def test_an_early_refusal_is_read_by_a_client_that_is_still_sending(
        self, gateway: Serving
    ) -> None:
        with Raw(gateway.address.port) as raw:
            raw.send(post_head(20_000_000) + b" " * 5_000_000)
            assert raw.answer()[0] == 413

    def test_expecting_clients_are_told_to_go_on_or_not(self, gateway: Serving) -> None:
        body = body_of(watch())
        with Raw(gateway.address.port) as raw:
            raw.send(post_head(len(body), "Expect: 100-continue"))
            assert raw.answer()[0] == 100
            raw.send(body)
            assert raw.answer()[0] == 202
        with Raw(gateway.address.port) as raw:
            raw.send(post_head(1 << 40, "Expect: 100-continue"))
            assert raw.answer()[0] == 413

    def test_a_hundred_clients_at_once_lose_nothing(self, gateway: Serving, tmp_path: Path) -> None:
        def send(number: int) -> list[str]:
            sent = []
            with httpx.Client(base_url=gateway.url, timeout=60) as client:
                for _ in range(5):
                    event = watch(f"user-{number}")
                    assert client.post("/v1/events", json=[event]).json()["accepted"] == 1
                    sent.append(event["event_id"])
            return sent

        with ThreadPoolExecutor(100) as pool:
            sent = list(pool.map(send, range(100)))
        with log_of(tmp_path) as log:
            found = rows(log, "playback")
        for number, theirs in enumerate(sent):
            mine = [row["event_id"] for row in found if row["user_id"] == f"user-{number}"]
            assert mine == theirs
        text = httpx.get(f"{gateway.url}/metrics").text
        (groups,) = [line for line in text.splitlines() if "group_requests_count" in line]
        assert float(groups.split()[1]) < 500


class TestWhatIsTold:
    def test_metrics_count_what_happened(self, client: httpx.Client) -> None:
        client.post("/v1/events", json=[watch(), watch(action="dance")])
        text = client.get("/metrics").text
        assert 'playhead_gateway_events_accepted_total{topic="playback"} 1.0' in text
        assert 'playhead_gateway_events_rejected_total{reason="value"} 1.0' in text
        assert 'requests_total{route="/v1/events",status="202"} 1.0' in text

    def test_request_ids_are_kept_or_given(self, client: httpx.Client) -> None:
        given = client.get("/healthz", headers={"x-request-id": "mine-1"})
        assert given.headers["x-request-id"] == "mine-1"
        odd = client.get("/healthz", headers={"x-request-id": "a b"})
        assert odd.headers["x-request-id"] not in ("", "a b")

    def test_the_access_log_holds_no_secret_and_no_person(
        self, start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        key, secret = KeyRing(tmp_path / "keys.json").create("app", ["write"])
        gateway = start()
        with caplog.at_level(logging.DEBUG, "playhead.gateway"):
            url = f"{gateway.url}/v1/events?key={secret}"
            httpx.post(url, json=[watch("jane@example.org"), {"event_type": "jane"}])
            httpx.get(f"{gateway.url}/secret-path")
            _wait(lambda: "other 404" in caplog.text)
        assert "POST /v1/events 202 bytes=" in caplog.text
        assert key.id in caplog.text
        for private in (secret, "jane", "127.0.0.1", "secret-path"):
            assert private not in caplog.text

    def test_the_tracker_is_cached_by_browsers(self, client: httpx.Client) -> None:
        first = client.get("/playhead.js")
        assert first.headers["content-type"].startswith("text/javascript")
        assert "max-age" in first.headers["cache-control"]
        again = client.get("/playhead.js", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

    def test_head_has_no_body(self, client: httpx.Client) -> None:
        assert client.head("/healthz").content == b""
        problem_free = client.head("/playhead.js")
        assert problem_free.status_code == 200


def test_stopping_answers_what_was_accepted(tmp_path: Path) -> None:
    answers: list[int] = []
    with serving(tmp_path) as gateway:

        def send() -> None:
            with httpx.Client(base_url=gateway.url, timeout=20) as client:
                while True:
                    try:
                        answers.append(client.post("/v1/events", json=[watch()]).status_code)
                    except httpx.TransportError:
                        return

        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        _wait(lambda: len(answers) > 50)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    for thread in threads:
        thread.join()
    assert set(answers) <= {202, 503}
    assert len(ids(tmp_path)) >= answers.count(202)


def _wait(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
