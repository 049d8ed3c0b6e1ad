"""The demo on a cluster: its folder, its door, what it says; without any server."""

import io
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from playhead.assemble import Workspace
from playhead.cluster import check_installed
from playhead.demo.cluster import Engines, environment, run_cluster_demo
from playhead.demo.clusterreport import (
    Compared,
    Figures,
    compare_answers,
    print_comparison,
    print_figures,
)
from playhead.demo.door import Door, renamed, without
from playhead.demo.folder import CLUSTER_MARK, claim_for_cluster
from playhead.errors import (
    LogAwayError,
    PlayheadError,
    ServerError,
    WorkspaceBusyError,
    WorkspaceError,
)

EVENTS = pa.table({"event_id": ["a", "b", "c"], "event_type": ["watch"] * 3})


class _Gateway(BaseHTTPRequestHandler):
    """Answers with what `answers` holds, one a request; the last one for ever."""

    protocol_version = "HTTP/1.1"
    answers: list[tuple[int, dict[str, Any]]]
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        status, told = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def gateway() -> Iterator[tuple[str, type[_Gateway]]]:
    one = type("One", (_Gateway,), {"answers": [], "bodies": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), one) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", one
        server.shutdown()
        thread.join()


# -- the door ----------------------------------------------------------------------------


def test_what_is_put_off_is_sent_again_and_what_is_refused_is_named(
    gateway: tuple[str, type[_Gateway]],
) -> None:
    url, server = gateway
    server.answers[:] = [
        (503, {"detail": "later"}),
        (202, {"accepted": 2, "rejected": [{"index": 1, "reason": "bad"}]}),
    ]
    with Door(url, "a-key", keeps_ids=True) as door:
        door.append("playback", EVENTS, key="user_id")
    assert (door.accepted, door.refused, door.acknowledged) == (2, {"b"}, {"a", "c"})
    assert server.bodies[0] == server.bodies[1]
    assert pa.ipc.open_stream(server.bodies[1]).read_all().equals(EVENTS)


def test_a_gateway_that_refuses_the_request_is_an_error(
    gateway: tuple[str, type[_Gateway]],
) -> None:
    url, server = gateway
    server.answers[:] = [(401, {"detail": "no key"})]
    with Door(url, None) as door, pytest.raises(PlayheadError, match=r"401.*no key"):
        door.append("playback", EVENTS, key="user_id")


def test_a_gateway_that_is_gone_is_given_up() -> None:
    with (
        Door("http://127.0.0.1:9", None, patience_s=0.1) as door,
        pytest.raises(PlayheadError, match="takes no events"),
    ):
        door.append("playback", EVENTS, key="user_id")


def test_events_get_ids_of_their_set_and_some_are_left_out() -> None:
    named = renamed(EVENTS, "given-")
    assert named.schema.equals(EVENTS.schema)
    assert named.column("event_id").to_pylist() == ["given-a", "given-b", "given-c"]
    assert without(named, {"given-b"}).column("event_id").to_pylist() == ["given-a", "given-c"]
    assert without(named, set()) is named


# -- its folder --------------------------------------------------------------------------


def test_a_folder_of_its_own_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with claim_for_cluster(folder, "test"):
        (folder / "cluster").mkdir()
        (folder / "cluster" / "state.db").touch()
        with pytest.raises(WorkspaceBusyError), claim_for_cluster(folder, "test"):
            raise AssertionError
    with claim_for_cluster(folder, "test"):
        assert not (folder / "cluster").exists()
        assert (folder / CLUSTER_MARK).is_file()


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    for path in (tmp_path, tmp_path / "letter.txt"):
        with pytest.raises(WorkspaceError), claim_for_cluster(path, "test"):
            raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_what_is_missing_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYHEAD_JARS", str(tmp_path / "none"))
    with pytest.raises(ServerError, match=r"java is not .*; mvn is not") as raised:
        run_cluster_demo(tmp_path / "demo")
    assert "apt-get install maven" in str(raised.value.hint)
    assert not (tmp_path / "demo").exists()
    with pytest.raises(ServerError):
        check_installed(with_spark=True)


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYHEAD_TEST_ONE", "before")
    monkeypatch.delenv("PLAYHEAD_TEST_TWO", raising=False)
    with environment({"PLAYHEAD_TEST_ONE": "1", "PLAYHEAD_TEST_TWO": "2"}):
        assert os.environ["PLAYHEAD_TEST_TWO"] == "2"
    assert os.environ["PLAYHEAD_TEST_ONE"] == "before"
    assert "PLAYHEAD_TEST_TWO" not in os.environ


def test_engines_are_settings() -> None:
    assert "engine" not in Engines().settings
    assert not Engines().with_spark
    assert Engines(batch="spark").with_spark
    assert Engines(batch="spark").settings.count('engine = "spark"') == 1


# -- what it says ------------------------------------------------------------------------


def answers(*rows: int) -> pa.Table:
    return pa.table({"n": pa.array(rows, pa.int64())})


def shown(compared: list[Compared]) -> tuple[bool, str]:
    text = io.StringIO()
    equal = print_comparison(Console(file=text, width=120), compared)
    return equal, text.getvalue()


def test_equal_is_said_of_all_three_answers() -> None:
    one = compare_answers("counts", answers(1, 2), answers(2, 1), answers(1, 2), (0.1, 0.2, 0.3))
    assert one.equal
    equal, text = shown([one])
    assert equal
    assert "EQUAL  1 views, 2 rows, 2 values" in text


@pytest.mark.parametrize(("cluster", "embedded"), [((1, 3), (1, 2)), ((1, 2), (1,))])
def test_a_row_that_differs_on_either_side_is_shown(
    cluster: tuple[int, ...], embedded: tuple[int, ...]
) -> None:
    one = compare_answers("counts", answers(*cluster), answers(*embedded), answers(1, 2), (0, 0, 0))
    equal, text = shown([Compared("other", rows=1, columns=1), one])
    assert not equal
    assert "NOT EQUAL  in counts" in text
    assert "only" in text


def test_no_answer_and_no_rows_are_no_equality() -> None:
    assert not shown([Compared("counts", waits="a gap")])[0]
    assert not shown([Compared("counts")])[0]


def test_figures_are_events_a_second() -> None:
    text = io.StringIO()
    figures = Figures(accepted=3_000, sent_s=2, state_s=1, engines="batch duckdb")
    print_figures(Console(file=text, width=120), figures, {"Kafka": "127.0.0.1:9092"})
    assert "1,500 events/s" in text.getvalue()
    assert "1,000 events/s" in text.getvalue()
    assert "127.0.0.1:9092" in text.getvalue()


# -- a workspace whose brokers are away ------------------------------------------------------


def test_it_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: Workspace) -> None:
        raise LogAwayError("nobody answers")

    monkeypatch.setattr(Workspace, "_create_topics", refuse)
    Workspace.create(tmp_path / "w").close()
    assert "no topics are made" in caplog.text
    with Workspace(tmp_path / "w") as opened:
        assert opened.settings
