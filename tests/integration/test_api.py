"""The read API over real sockets: every route, every refusal, and what ends a query."""

import csv
import io
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode

from gateway_events import Raw
from layers import SQL, T0, Running, load, load_dimensions, send, watches
from playhead import samples
from playhead.api import arriving, server, serving
from playhead.api.arriving import MAX_BODY_BYTES
from playhead.api.exposition import GATEWAY_FOLDER
from playhead.api.server import check_doors
from playhead.assemble import Workspace
from playhead.errors import SettingError
from playhead.gateway import protocol
from playhead.keys import KeyRing
from playhead.platform.records import RunFolder
from playhead.samples import Samples
from playhead.serving.jail import MAX_QUERY_CHARACTERS
from playhead.speed.alerts import Alerter
from playhead.speed.records import Alert
from tls import self_signed

VIEW = "/v1/views/windows"
STREAM = "/v1/alerts/stream"
ENDLESS = "SELECT COUNT(*) FROM range(1000000000000) AS t(i) WHERE i % 7 = 8"
"""It takes time, and no memory."""
MODELS = """
-- Minutes watched, by title.
-- owner: analytics
-- column minutes: minutes watched
SELECT movie_id, SUM(watch_duration_minutes) AS minutes, AVG(watch_duration_minutes) AS mean
FROM playback GROUP BY movie_id
"""


def make(path: Path) -> Path:
    """A workspace with events of both layers."""
    with Workspace.create(path) as opened:
        text = f"-- Events by window.\n-- column events: how many\n{SQL['windows'].strip()}"
        (path / "views" / "windows.sql").write_text(text, encoding="utf-8")
        (path / "views" / "titles.sql").write_text(MODELS.strip(), encoding="utf-8")
        load_dimensions(opened)
        load(opened, watches(5))
        opened.batch()
        with Running(opened) as layer:
            send(opened, watches(40, start=5, minute=5))
            while layer.step().events:
                pass
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("api") / "w")


@pytest.fixture(scope="module")
def url(path: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PLAYHEAD_API_QUERY_SECONDS", "3")
        patched.setenv("PLAYHEAD_API_QUERY_ROWS", "5000")
        patched.setenv("PLAYHEAD_API_CORS_ORIGINS", "https://tv.example")
        with serving(path) as served:
            yield served


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as made:
        yield made


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of an answer."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = response.json()
    assert told["status"] == status
    assert {"type", "title", "detail"} <= set(told)
    return told


def ask(client: httpx.Client, sql: str, **more: Any) -> httpx.Response:
    return client.post("/v1/query", json={"sql": sql, **more})


def still_works(client: httpx.Client) -> None:
    """A query is answered; a busy machine may need more than one query's time to start anew."""
    until = time.monotonic() + 30
    while (response := ask(client, "SELECT 1 AS one")).status_code == 504:
        assert time.monotonic() < until, response.text
    assert response.status_code == 200, response.text
    assert response.json()["rows"] == [{"one": 1}]


# -- views ---------------------------------------------------------------------------------


def test_views_are_listed(client: httpx.Client) -> None:
    views = {view["name"]: view for view in client.get("/v1/views").json()["views"]}
    assert {"windows", "titles", "engagement_health"} <= set(views)
    told = views["windows"]
    assert told["description"] == "Events by window."
    assert told["window"] == {"column": "window_start", "width": 300, "unit": "second"}
    assert told["keys"] == ["window_start", "device_type"]
    assert told["topics"] == ["playback"]
    assert told["ready"]
    columns = {column["name"]: column for column in told["columns"]}
    assert columns["events"]["type"] == "BIGINT"
    assert columns["events"]["description"] == "how many"


def test_a_view_answers_as_the_workspace_does(client: httpx.Client, path: Path) -> None:
    told = client.get(VIEW).json()
    with Workspace(path) as opened:
        answer = opened.view("windows")
    assert told["count"] == told["total"] == len(answer) == len(told["rows"])
    assert sum(row["events"] for row in told["rows"]) == 45
    assert answer.watermark is not None
    assert told["watermark"] == f"{answer.watermark.isoformat()}Z"
    assert told["coverage"][0]["loads"] == 1
    assert told["coverage"][0]["speed_epochs"] == [1]
    starts = [row["window_start"] for row in told["rows"]]
    assert starts == sorted(starts, reverse=True)
    assert [w["is_final"] for w in told["windows"]].count(False) >= 1
    assert not told["truncated"]


def test_filters_times_and_pages(client: httpx.Client) -> None:
    everything = client.get(VIEW).json()["rows"]
    chosen = client.get(VIEW, params={"device_type": ["Mobile", "Laptop"]}).json()
    assert chosen["rows"] == [r for r in everything if r["device_type"] != "Desktop"]
    start = "2025-04-01T00:00:00"
    since = client.get(VIEW, params={"since": f"{start}Z", "device_type": "Mobile"}).json()
    kept = [r for r in everything if r["window_start"] >= start and r["device_type"] == "Mobile"]
    assert since["rows"] == kept
    east = client.get(VIEW, params={"since": "2025-04-01T05:00:00+05:00"}).json()
    assert east["total"] == len([r for r in everything if r["window_start"] >= start])
    page = client.get(VIEW, params={"limit": 2, "offset": 1}).json()
    assert page["rows"] == everything[1:3]
    assert page["truncated"]
    assert client.get(VIEW, params={"limit": 0}).json()["rows"] == []
    one = client.get(VIEW, params={"window_start": everything[0]["window_start"]}).json()
    assert one["rows"] == [
        r for r in everything if r["window_start"] == one["rows"][0]["window_start"]
    ]


@pytest.mark.parametrize(
    ("params", "status", "said"),
    [
        ({"nothing": "1"}, 400, "no column 'nothing'"),
        ({"events": "many"}, 400, "events is int64"),
        ({"since": "2025-04-02", "until": "2025-04-01"}, 400, "is not after since"),
        ({"since": "0001-01-01T00:00:00+14:00"}, 400, "years 1 to 9999"),
        ({"since": "yesterday"}, 422, "query.since"),
        ({"limit": "-1"}, 422, "query.limit"),
        ({"offset": "x"}, 422, "query.offset"),
        ({"format": "xml"}, 422, "query.format"),
    ],
)
def test_what_a_view_is_not_asked(
    client: httpx.Client, params: dict[str, str], status: int, said: str
) -> None:
    assert said in problem(client.get(VIEW, params=params), status)["detail"]


def test_views_without_a_window_take_no_times(client: httpx.Client) -> None:
    told = problem(client.get("/v1/views/titles", params={"since": "2025-01-01"}), 400)
    assert "no window" in told["detail"]
    told = problem(client.get("/v1/views/titles", params={"mean": "1"}), 400)
    assert "no filter" in told["detail"]


def test_unknown_places_and_methods(client: httpx.Client) -> None:
    assert client.head("/healthz").status_code == client.head("/readyz").status_code == 200
    assert client.head(VIEW).headers["allow"] == "GET"
    assert problem(client.get("/v1/views/window"), 404)["hint"] == "Did you mean windows?"
    problem(client.get("/nowhere"), 404)
    problem(client.delete("/v1/views"), 405)
    problem(client.get("/v1/query"), 405)


def test_formats_hold_the_same_rows(client: httpx.Client) -> None:
    rows = client.get("/v1/views/titles").json()["rows"]
    text = client.get("/v1/views/titles", headers={"Accept": "text/csv;q=0.9, image/png"})
    assert text.headers["content-type"].startswith("text/csv")
    assert text.headers["playhead-watermark"].endswith("Z")
    assert json.loads(text.headers["playhead-coverage"])[0]["topic"] == "playback"
    assert [row["movie_id"] for row in csv.DictReader(io.StringIO(text.text))] == [
        row["movie_id"] for row in rows
    ]
    arrow = client.get("/v1/views/titles", params={"format": "arrow"})
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert table.column("movie_id").to_pylist() == [row["movie_id"] for row in rows]
    problem(client.get("/v1/views/titles", headers={"Accept": "image/png"}), 406)
    assert client.get("/v1/views/titles", headers={"Accept": "*/*;q=0.1"}).status_code == 200


def test_numbers_keep_their_digits(client: httpx.Client) -> None:
    sql = "SELECT 9007199254740993::BIGINT AS n, 0.1234567890123456789::DECIMAL(20,19) AS d"
    exact = json.loads(ask(client, sql).text, parse_float=Decimal)["rows"]
    assert exact == [{"n": 9007199254740993, "d": Decimal("0.1234567890123456789")}]
    texts = ask(client, sql, text_numbers=True).json()["rows"]
    assert texts == [{"n": "9007199254740993", "d": "0.1234567890123456789"}]
    shown = client.get("/v1/views/titles", params={"text_numbers": "true"}).json()["rows"]
    assert all(isinstance(row["minutes"], str) for row in shown)


def test_an_answer_that_is_known_is_not_sent_again(client: httpx.Client, path: Path) -> None:
    first = client.get(VIEW)
    etag = first.headers["etag"]
    again = client.get(VIEW, headers={"If-None-Match": etag})
    assert again.status_code == 304
    assert not again.content
    other = client.get(VIEW, params={"limit": 1}, headers={"If-None-Match": etag})
    assert other.status_code == 200


def test_a_view_that_is_new_is_found(client: httpx.Client, path: Path) -> None:
    text = "SELECT quality, COUNT(*) AS n FROM playback GROUP BY quality"
    (path / "views" / "fresh.sql").write_text(text, encoding="utf-8")
    time.sleep(1.1)
    told = problem(client.get("/v1/views/fresh"), 409)
    assert "not built yet" in told["detail"]
    assert "playhead batch" in told["hint"]
    (path / "views" / "fresh.sql").unlink()


def test_coverage(client: httpx.Client) -> None:
    found = {each["view"]: each for each in client.get("/v1/coverage").json()["views"]}
    assert found["windows"]["ready"]
    assert found["windows"]["watermark"].endswith("Z")
    assert found["windows"]["coverage"][0]["batch_epoch"] == 0


# -- queries -------------------------------------------------------------------------------


def test_a_query_answers_in_every_format(client: httpx.Client) -> None:
    sql = "SELECT device_type, SUM(events) AS n FROM windows GROUP BY 1 ORDER BY 1"
    told = ask(client, sql).json()
    assert [row["device_type"] for row in told["rows"]] == ["Desktop", "Laptop", "Mobile"]
    assert told["columns"][0] == {"name": "device_type", "type": "string"}
    text = client.post("/v1/query", json={"sql": sql}, headers={"Accept": "text/csv"})
    assert text.text.splitlines()[0] == "device_type,n"
    arrow = client.post("/v1/query", params={"format": "arrow"}, json={"sql": sql})
    assert pa.ipc.open_stream(arrow.content).read_all().num_rows == 3
    empty = ask(client, "SELECT 1 AS one WHERE FALSE").json()
    assert empty["rows"] == []


def test_columns_of_one_name_are_told_apart(client: httpx.Client) -> None:
    told = ask(client, "SELECT 1 AS a, 2 AS a").json()
    assert told["rows"] == [{"a": 1, "a_1": 2}]
    assert [column["name"] for column in told["columns"]] == ["a", "a_1"]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT " + "abs(" * 900 + "1" + ")" * 900, "nested too deeply"),
        ("SELECT 1" + "+1" * 900, "nested too deeply"),
        ("SELECT 1::VARIANT AS v", "cannot be written"),
    ],
)
def test_what_no_process_has_to_die_of(
    client: httpx.Client, capfd: pytest.CaptureFixture[str], sql: str, said: str
) -> None:
    assert said in problem(ask(client, sql), 400)["detail"]
    assert "Traceback" not in capfd.readouterr().err


def test_rows_beyond_the_limit_are_told(client: httpx.Client) -> None:
    told = ask(client, "SELECT i FROM range(100000) AS t(i)").json()
    assert (told["count"], told["truncated"], len(told["rows"])) == (5000, True, 5000)
    told = ask(client, "SELECT i FROM range(10) AS t(i)", limit=10).json()
    assert (told["count"], told["truncated"]) == (10, False)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"sql": 1}', 422),
        (b'{"sql": "SELECT 1", "limit": -1}', 422),
        (b'{"sql": "SELECT 1", "more": 1}', 422),
        (b'{"sql": "\\ud800"}', 422),
        (b"\xff\xfe", 422),
        (b'{"sql": "SELECT nothing FROM windows"}', 400),
        (b'{"sql": "FROM nowhere"}', 400),
        (b'{"sql": "FROM read_text(\'/etc/passwd\')"}', 400),
        (b'{"sql": "ATTACH \'x.db\'"}', 400),
        (b'{"sql": ""}', 400),
    ],
)
def test_what_is_no_query(client: httpx.Client, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    problem(client.post("/v1/query", content=body, headers=headers), status)


def test_a_slow_query_is_ended(client: httpx.Client) -> None:
    assert ask(client, "SELECT 1").status_code == 200
    begun = time.monotonic()
    told = problem(ask(client, ENDLESS), 504)
    assert "longer than 3 s" in told["detail"]
    assert time.monotonic() - begun < 15
    still_works(client)


def test_a_query_that_cannot_be_interrupted_ends_with_its_process(client: httpx.Client) -> None:
    sql = (
        "SELECT SUM(levenshtein(repeat('a', 200000), repeat('b' || i, 100000))) FROM range(1) t(i)"
    )
    begun = time.monotonic()
    problem(ask(client, sql), 504)
    assert time.monotonic() - begun < 20
    for _ in range(4):
        still_works(client)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT LEN(LIST(i)) FROM range(1000000000) AS t(i)",
        "SELECT LENGTH(repeat('x', 4000000000))",
        "SELECT LEN(range(1000000000))",
        "WITH RECURSIVE t AS (SELECT 'x' AS s UNION ALL SELECT s || s FROM t) "
        "SELECT MAX(LENGTH(s)) FROM t",
    ],
)
def test_a_greedy_query_ends_alone(client: httpx.Client, sql: str) -> None:
    response = ask(client, sql)
    assert response.status_code in (400, 504, 507), response.text
    problem(response, response.status_code)
    still_works(client)
    assert client.get("/healthz").status_code == 200


def test_others_are_answered_while_queries_run_and_too_many_are_told(
    url: str, client: httpx.Client
) -> None:
    statuses: list[int] = []

    def one() -> None:
        statuses.append(
            httpx.post(f"{url}/v1/query", json={"sql": ENDLESS}, timeout=60).status_code
        )

    askers = [threading.Thread(target=one) for _ in range(24)]
    for asker in askers:
        asker.start()
    time.sleep(1)
    begun = time.monotonic()
    assert client.get("/healthz").status_code == 200
    assert client.get(VIEW).status_code == 200
    assert time.monotonic() - begun < 2
    for asker in askers:
        asker.join()
    assert set(statuses) == {503, 504}
    assert ask(client, "SELECT 1 AS one").status_code == 200


def test_a_client_that_goes_away_ends_its_query(url: str, client: httpx.Client) -> None:
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/query", json={"sql": ENDLESS}, timeout=0.3)
    begun = time.monotonic()
    assert ask(client, "SELECT 1 AS one").status_code == 200
    assert time.monotonic() - begun < 2


def test_a_client_may_leave_in_the_middle_of_its_answer(url: str, client: httpx.Client) -> None:
    sql = "SELECT repeat('x', 10000) AS x FROM range(5000)"
    for _ in range(4):
        with httpx.stream("POST", f"{url}/v1/query", json={"sql": sql}, timeout=60) as answer:
            assert answer.status_code == 200
            assert next(answer.iter_bytes())
    still_works(client)
    whole = ask(client, sql)
    assert len(whole.json()["rows"]) == 5000


def test_a_query_that_spills_leaves_nothing_behind(client: httpx.Client, path: Path) -> None:
    wide = "SELECT repeat('x', 200) || i AS s, hash(i) AS h FROM range(50000000) AS t(i)"
    response = ask(client, f"SELECT * FROM ({wide}) ORDER BY h LIMIT 1 OFFSET 49999999")
    assert response.status_code in (504, 507), response.text
    until = time.monotonic() + 20
    while any((path / "tmp").glob("duckdb-*/*")) and time.monotonic() < until:
        time.sleep(0.1)
    assert not list((path / "tmp").glob("duckdb-*/*"))


def _command(process: psutil.Process) -> str:
    """What a process runs; nothing of one that has just ended."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def test_the_processes_of_queries_end_with_the_api(path: Path) -> None:
    with serving(path) as served:
        assert httpx.get(f"{served}/readyz").status_code == 200
        one = httpx.post(f"{served}/v1/query", json={"sql": "SELECT 1"}, timeout=60)
        assert one.status_code == 200
        mine = [c for c in psutil.Process().children() if "playhead.api.cell" in _command(c)]
        assert mine
    psutil.wait_procs(mine, timeout=5)
    still = [c for c in mine if c.is_running() and c.status() != psutil.STATUS_ZOMBIE]
    assert len(still) <= len(mine) // 2  # those of the module's own server go on


# -- alerts --------------------------------------------------------------------------------


def raise_alert(
    path: Path, number: int, level: str = "HIGH", detail: str = '{"events": 3}'
) -> None:
    """Raise and publish an alert as the speed layer would."""
    alert = Alert(
        alert_id=f"alert-{number}",
        revision=0,
        view="windows",
        window_start=T0,
        window_end=T0,
        level=level,
        keys='{"device_type": "Mobile"}',
        detail=detail,
        raised_at=datetime(2025, 4, 1, 12, 0, number),
    )
    with Workspace(path) as opened:
        opened.state.own()
        opened.state.raise_alerts("windows", [], [alert])
        Alerter(opened.log, opened.state, opened._judge).start()


def events(response: httpx.Response, count: int) -> list[dict[str, str]]:
    """So many server-sent events."""
    found: list[dict[str, str]] = []
    event: dict[str, str] = {}
    for line in response.iter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value
        elif "data" in event:
            found.append(event)
            event = {}
            if len(found) == count:
                break
        else:
            event = {}
    return found


def test_alerts_are_listed_and_streamed_without_loss_or_repeat(
    client: httpx.Client, url: str, path: Path
) -> None:
    for number in range(3):
        raise_alert(path, number, "HIGH" if number else "MEDIUM")
    listed = client.get("/v1/alerts").json()["alerts"]
    assert [a["alert_id"] for a in listed] == ["alert-2", "alert-1", "alert-0"]
    assert listed[0]["keys"] == {"device_type": "Mobile"}
    assert listed[0]["raised_at"] == "2025-04-01T12:00:02Z"
    for params, count in (
        ({"level": "MEDIUM"}, 1),
        ({"view": "nothing"}, 0),
        ({"since": "2025-04-01T12:00:01Z"}, 2),
        ({"limit": 2}, 2),
    ):
        assert len(client.get("/v1/alerts", params=params).json()["alerts"]) == count
    stream = f"{url}/v1/alerts/stream"
    with httpx.stream("GET", stream, params={"since": "2020-01-01"}, timeout=10) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        first = events(response, 2)
    assert [json.loads(e["data"])["alert_id"] for e in first] == ["alert-0", "alert-1"]
    raise_alert(path, 3)
    again = {"Last-Event-ID": first[-1]["id"], "Accept": "text/event-stream"}
    with httpx.stream("GET", f"{url}/v1/alerts", headers=again, timeout=10) as response:
        rest = events(response, 2)
    assert [json.loads(e["data"])["alert_id"] for e in rest] == ["alert-2", "alert-3"]
    with httpx.stream("GET", stream, params={"level": "HIGH"}, timeout=10) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("retry:")
        raise_alert(path, 4)
        data = next(line for line in lines if line.startswith("data:"))
    assert json.loads(data[6:])["alert_id"] == "alert-4"
    problem(client.get("/v1/alerts/stream", headers={"Last-Event-ID": "x"}), 400)


def place(response: httpx.Response) -> str:
    """The id that a stream begins with."""
    return next(line for line in response.iter_lines() if line.startswith("id: "))[4:]


def test_who_saw_no_alert_yet_comes_again_to_the_same_place(
    client: httpx.Client, url: str, path: Path
) -> None:
    stream = f"{url}{STREAM}"
    with httpx.stream("GET", stream, timeout=10) as response:
        at = place(response)
    raise_alert(path, 30)
    with httpx.stream("GET", stream, headers={"Last-Event-ID": at}, timeout=10) as response:
        assert json.loads(events(response, 1)[0]["data"])["alert_id"] == "alert-30"
    # All that is filtered out moves the place on.
    params = {"since": "2020-01-01", "level": "nothing"}
    with httpx.stream("GET", stream, params=params, timeout=10) as response:
        lines = (line[4:] for line in response.iter_lines() if line.startswith("id: "))
        assert (next(lines), next(lines)) == ("-1", str(int(at) + 1))
    # An id of a log that is there no more: from now on.
    with httpx.stream("GET", stream, headers={"Last-Event-ID": "9" * 18}, timeout=10) as response:
        assert place(response) == str(int(at) + 1)


def test_numbers_of_an_alert_that_are_none_are_null(
    client: httpx.Client, url: str, path: Path
) -> None:
    raise_alert(path, 40, detail='{"rate": Infinity, "mean": NaN, "n": 12345678901234567}')
    exact = {"rate": None, "mean": None, "n": 12345678901234567}
    assert client.get("/v1/alerts").json()["alerts"][0]["detail"] == exact
    with httpx.stream("GET", f"{url}{STREAM}", params={"since": "2020-01-01"}) as response:
        *_, last = events(response, len(client.get("/v1/alerts").json()["alerts"]))
    assert json.loads(last["data"], parse_constant=pytest.fail)["detail"] == exact


def test_a_stream_ends_with_its_key(path: Path, tmp_path: Path) -> None:
    place = make(tmp_path / "w")
    ring = KeyRing(place / "keys.json")
    key, secret = ring.create("reader", ["read"])
    asked = {"X-Playhead-Key": secret}
    with (
        serving(place) as served,
        httpx.stream("GET", f"{served}{STREAM}", headers=asked, timeout=20) as response,
    ):
        lines = response.iter_lines()
        assert next(lines).startswith("retry:")
        ring.revoke(key.id)
        assert [line for line in lines if line] == ["id: -1"]


# -- doors ---------------------------------------------------------------------------------

ROUTES = ["/v1/views", VIEW, "/v1/coverage", "/v1/alerts", STREAM, "/v1/gates", "/metrics",
          "/openapi.json"]  # fmt: skip


def test_a_certificate_makes_it_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make(tmp_path / "w")
    trusted = self_signed(place)
    monkeypatch.setenv("PLAYHEAD_API_TLS_CERTIFICATE", "cert.pem")
    monkeypatch.setenv("PLAYHEAD_API_TLS_KEY", "key.pem")
    with serving(place) as served, httpx.Client(verify=trusted, timeout=30) as client:
        assert served.startswith("https://")
        assert client.get(f"{served}/v1/views").json()["views"]
        with pytest.raises(httpx.TransportError):
            httpx.get(served.replace("https", "http") + "/healthz", timeout=30)


def test_keys_guard_every_route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYHEAD_API_QUERY_SECONDS", "30")
    place = make(tmp_path / "w")
    ring = KeyRing(place / "keys.json")
    _, writer = ring.create("writer", ["write"])
    key, reader = ring.create("reader", ["read"])
    with serving(place) as served, httpx.Client(base_url=served, timeout=30) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        for route in ROUTES:
            refused = client.get(route)
            problem(refused, 401)
            assert refused.headers["www-authenticate"].startswith("Bearer")
            problem(client.get(route, headers={"Authorization": "Bearer nonsense"}), 401)
            problem(client.get(route, params={"key": reader}), 401)
            problem(client.get(route, headers={"Authorization": f"Bearer {writer}"}), 403)
            if not route.endswith("stream"):
                for header in ({"Authorization": f"Bearer {reader}"}, {"X-Playhead-Key": reader}):
                    assert client.get(route, headers=header).status_code == 200
        problem(ask(client, "SELECT 1"), 401)
        told = client.post(
            "/v1/query", json={"sql": "SELECT 1"}, headers={"X-Playhead-Key": reader}
        )
        assert told.status_code == 200
        ring.revoke(key.id)
        time.sleep(1.1)
        problem(client.get(VIEW, headers={"X-Playhead-Key": reader}), 401)


def test_an_open_address_needs_a_key(tmp_path: Path) -> None:
    import socket

    with Workspace.create(tmp_path / "w") as opened, closing(socket.socket()) as everywhere:
        everywhere.bind(("0.0.0.0", 0))  # noqa: S104 - it never listens
        with pytest.raises(SettingError, match="no key may read"):
            check_doors(opened, everywhere, "api")
        KeyRing(opened.path / "keys.json").create("reader", ["read"])
        check_doors(opened, everywhere, "api")


def test_only_pages_of_the_list_may_ask(client: httpx.Client) -> None:
    mine = client.get("/v1/views", headers={"Origin": "https://tv.example"})
    assert mine.headers["access-control-allow-origin"] == "https://tv.example"
    other = client.get("/v1/views", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers
    ahead = {"Origin": "https://tv.example", "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "x-playhead-key"}  # fmt: skip
    assert client.options("/v1/query", headers=ahead).status_code == 200


def test_nothing_of_a_request_is_logged(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with caplog.at_level(logging.INFO):
        ask(client, "SELECT 'a very private word'")
        client.get("/v1/views", headers={"Authorization": "Bearer a-very-private-word"})
    assert "private" not in caplog.text


# -- metrics and the description -----------------------------------------------------------


def test_gates(client: httpx.Client, path: Path) -> None:
    with Samples(path / samples.FILE) as counted:
        counted.observe(samples.FRESHNESS_MS, 40.0)
    told = client.get("/v1/gates").json()
    gates = {gate["name"]: gate for gate in told["gates"]}
    assert told["status"] == "pass"
    assert len(gates) == 9
    fresh = gates["freshness"]
    assert (fresh["limit"], fresh["comparator"], fresh["unit"]) == (1000.0, "<=", "ms")
    assert [one["span"] for one in fresh["spans"]] == ["5 minutes", "hour", "day"]
    assert [one["value"] for one in fresh["spans"]] == [pytest.approx(40, rel=0.1)] * 3
    assert fresh["status"] == "pass"
    unknown = gates["rejection rate"]
    assert unknown["status"] == "unknown"
    assert unknown["spans"][0] == {
        "span": "5 minutes",
        "value": None,
        "status": "unknown",
        "reason": "no events came through a gateway",
    }


def test_metrics_have_the_gates(client: httpx.Client, path: Path) -> None:
    with Samples(path / samples.FILE) as counted:
        counted.observe(samples.FRESHNESS_MS, 40.0)
    text = client.get("/metrics").text
    assert 'playhead_gate_limit{gate="freshness",unit="ms"} 1000.0' in text
    assert 'playhead_gate_value{gate="freshness",span="day",unit="ms"}' in text
    assert 'playhead_gate_pass{gate="consumer lag",span="hour",unit="s"} 1.0' in text
    assert 'playhead_gate_value{gate="rejection rate"' not in text
    assert "playhead_scrape_errors 0.0" in text


def test_metrics_have_what_the_gateway_counted(client: httpx.Client, path: Path) -> None:
    folder = path / GATEWAY_FOLDER
    assert folder == RunFolder(path).metrics
    assert "playhead_gateway" not in client.get("/metrics").text
    folder.mkdir(parents=True)
    counting = "from playhead.gateway.metrics import Metrics; Metrics().accepted({'playback': 7})"
    told = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", counting], env=told, check=True)
    text = client.get("/metrics").text
    assert 'playhead_gateway_events_accepted_total{topic="playback"} 7.0' in text
    (folder / "counter_1.db").write_bytes(b"\x40" + bytes(7) + b"\xff" * 64)
    assert "playhead_gateway" not in client.get("/metrics").text
    assert "playhead_lag_events" in client.get("/metrics").text
    shutil.rmtree(folder)


def test_what_fails_is_told_and_counted(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    def gone(_: object) -> None:
        raise FileNotFoundError

    with monkeypatch.context() as patched:
        patched.setattr("playhead.api.gates.measure", broken)
        origin = {"Origin": "https://tv.example"}
        failed = client.get("/v1/gates", headers=origin)
    problem(failed, 500)
    assert failed.headers["access-control-allow-origin"] == "https://tv.example"
    assert [r.getMessage() for r in caplog.records if r.exc_info] == ["a request failed"]
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", gone)
        text = client.get("/metrics").text
    assert 'playhead_api_requests_total{route="/v1/gates",status="500"} 1.0' in text
    assert "playhead_scrape_errors 1.0" in text
    assert "playhead_lag_events" in text


def test_metrics(client: httpx.Client) -> None:
    client.get(VIEW)
    text = client.get("/metrics").text
    for line in (
        'playhead_events_total{topic="playback"} 40.0',
        'playhead_lag_events{partition="0",topic="playback"} 0.0',
        'playhead_epochs{status="open"} 1.0',
        'playhead_batch_epoch{view="windows"} 0.0',
        'playhead_lake_rows{table="raw.playback"} 5.0',
        "playhead_scrape_errors 0.0",
        'playhead_watermark_seconds{topic="playback"}',
        'playhead_state_rows{view="windows"} 40.0',
        "playhead_disk_free_bytes",
        "process_resident_memory_bytes",
        'playhead_api_requests_total{route="/v1/views/{name}"',
    ):
        assert line in text, line


@pytest.mark.parametrize("examples", [12, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.timeout(3600)
def test_no_request_of_any_form_fails_the_api(url: str, examples: int) -> None:
    """Requests that fit the description, and such that do not: none fails."""
    described = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found = described.exclude(path=STREAM).get_all_operations()
    operations: list[Any] = [operation.ok() for operation in found]  # type: ignore[union-attr]
    assert len(operations) >= 8
    for operation in operations:
        for mode in GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
            def check(case: Any) -> None:
                response = case.call(timeout=30)
                assert response.status_code < 500, response.text
                if response.status_code >= 400:
                    assert response.headers["content-type"] == ["application/problem+json"]

            # A route without parameters takes no request that does not fit.
            with suppress(Unsatisfiable):
                check()


def test_the_description_names_every_answer(client: httpx.Client) -> None:
    told: dict[str, Any] = client.get("/openapi.json").json()
    assert told["openapi"].startswith("3.")
    for route, methods in told["paths"].items():
        for operation in methods.values():
            assert operation["description"], route
            if route != "/healthz":
                kinds = [
                    a.get("content", {}) for s, a in operation["responses"].items() if s >= "4"
                ]
                assert kinds, route
                assert all(set(kind) == {"application/problem+json"} for kind in kinds), route


# -- bodies ----------------------------------------------------------------------------------


def test_a_body_is_bounded_before_its_key_is_looked_at(
    url: str, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Content-Type": "application/json"}
    for content in (b"[" * (MAX_BODY_BYTES + 1), iter([b"[" * (1 << 19)] * 3)):
        told = problem(client.post("/v1/query", content=content, headers=headers), 413)
        assert f"more than {MAX_BODY_BYTES} bytes" in told["detail"]
    longest = "SELECT '" + "\u00e9" * (MAX_QUERY_CHARACTERS - 14) + "' AS x"
    assert ask(client, longest).status_code == 200
    monkeypatch.setattr(arriving, "BODY_SECONDS", 0.3)
    with Raw(int(url.rpartition(":")[2])) as slow:
        slow.send(b"POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        status, told_as, _ = slow.answer()
    assert (status, told_as["content-type"]) == (408, "application/problem+json")


# -- connections -----------------------------------------------------------------------------


def test_slow_and_huge_headers_are_ended(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.5)
    port = int(url.rpartition(":")[2])
    with Raw(port) as slow:
        slow.send(b"GET /v1")
        status, headers, _ = slow.answer()
        assert (status, headers["content-type"]) == (408, "application/problem+json")
        assert slow.is_closed()
    with Raw(port) as huge:
        huge.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Pad: " + b"x" * 100_000 + b"\r\n\r\n")
        assert huge.answer()[0] == 431


def test_a_connection_too_many_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server._Protocol, "most_connections", 1)
    port = int(url.rpartition(":")[2])
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with Raw(port) as first, Raw(port) as second:
        first.send(request)
        first.answer()
        second.send(request)
        status, headers, content = second.answer()
    assert (status, headers["retry-after"]) == (503, "1")
    assert "more than 1 connections" in json.loads(content)["detail"]


# -- as a part of a platform ---------------------------------------------------------------

PART = """
import sys, threading
from pathlib import Path
from playhead.api import serve
stop = threading.Event()
def beat(text):
    print(text, flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
serve(Path(sys.argv[1]), int(sys.argv[2]), number=1, workers=1, stop=stop, beat=beat)
"""


def test_it_serves_an_inherited_socket_and_stops_soon(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, fd = listening.getsockname()[1], listening.fileno()
        part = subprocess.Popen(
            [sys.executable, "-c", PART, str(path), str(fd)],
            pass_fds=[fd],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    assert part.stdin is not None
    assert part.stdout is not None
    try:
        # The connection waits in the backlog until the part is up.
        base = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{base}/readyz", timeout=60).json() == {"status": "ok"}
        assert "serving\n" in iter(part.stdout.readline, "")
        cells = psutil.Process(part.pid).children()
        until = time.monotonic() + 20
        while not all(cell.nice() >= 10 for cell in cells):
            assert time.monotonic() < until
            time.sleep(0.05)
        with httpx.stream("GET", f"{base}{STREAM}", timeout=20) as stream:
            assert next(stream.iter_lines()).startswith("retry:")
            begun = time.monotonic()
            part.stdin.close()
            assert part.wait(timeout=10) == 0
            assert time.monotonic() - begun < 5
        psutil.wait_procs(cells, timeout=5)
        assert not [cell for cell in cells if cell.is_running()]
    finally:
        part.kill()
        part.wait()
        part.stdout.close()
