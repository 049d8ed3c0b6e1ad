"""The commands dead-letters list, show, export and recover, and gates."""

import json
from pathlib import Path

import pytest
from cli_runner import run

from letters import Dead, post, watch_body
from playhead.assemble import Workspace
from playhead.samples import FRESHNESS_MS


@pytest.fixture
def posted(tmp_path: Path) -> Path:
    """A workspace with three letters: two without a device, one that is no JSON."""
    path = tmp_path / "w"
    with Workspace.create(path) as opened:
        post(opened, [Dead(n, watch_body(n, device_type=None), minute=n) for n in range(2)])
        post(opened, [Dead(2, b"\xffno", "malformed", None, minute=2)])
    return path


def test_list_shows_the_newest_first(posted: Path) -> None:
    done = run("-w", posted, "dead-letters", "list", "--json")
    assert done.status == 0, done.err
    told = json.loads(done.text)
    assert [letter["index"] for letter in told] == [2, 1, 0]
    assert "3 letters waiting" in done.err
    table = run("-w", posted, "dead-letters", "list", "--topic", "playback")
    assert Dead(0).letter_id in table.text
    assert Dead(2).letter_id not in table.text


def test_list_counts_by_reason(posted: Path) -> None:
    done = run("-w", posted, "dead-letters", "list", "--by", "reason", "--json")
    counts = {one["reason"]: one["letters"] for one in json.loads(done.text)}
    assert counts == {"device_type: object missing required field": 2, "malformed": 1}
    assert "malformed" in run("-w", posted, "dead-letters", "list", "--by", "reason").text


def test_list_takes_times(posted: Path) -> None:
    since = f"{Dead(1, minute=1).refused_at:%Y-%m-%d %H:%M}"
    done = run("-w", posted, "dead-letters", "list", "--since", since, "--json")
    assert len(json.loads(done.text)) == 2


def test_show_tells_everything(posted: Path) -> None:
    done = run("-w", posted, "dead-letters", "show", "0000")
    assert done.status == 0, done.err
    assert watch_body(0, device_type=None).decode() in done.text
    told = json.loads(run("-w", posted, "dead-letters", "show", "0002", "--json").text)
    assert told["body_base64"] == "/25v"
    missing = run("-w", posted, "dead-letters", "show", "beef")
    assert missing.status == 1
    assert "no dead letter" in missing.err


def test_what_a_client_sent_never_steers_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "w"
    steers = "\x1b]0;x\x07\x9b31m"
    with Workspace.create(path) as opened:
        post(opened, [Dead(0, b'\x1b[2J{"a":\t":smile: [red]"}\r\n', steers)])
        post(opened, [Dead(1, watch_body(1, **{steers: 1}), steers)])
    letters = ("-w", path, "dead-letters")
    shown = run(*letters, "show", "0000").text
    assert '\\x1b[2J{"a":\t":smile: [red]"}\\r\n' in shown
    counted = run(*letters, "list", "--by", "reason").text
    listed = run(*letters, "list").text
    recovered = run(*letters, "recover").err
    for told in (shown, counted, listed, recovered):
        assert "\\x1b" in told
        assert not {"\x1b", "\x07", "\x9b"} & set(told)


def test_export_writes_lines_or_a_file(posted: Path, tmp_path: Path) -> None:
    done = run("-w", posted, "dead-letters", "export", "--reason", "DEVICE")
    assert len(done.out.splitlines()) == 2
    file = tmp_path / "letters.parquet"
    parquet = ("dead-letters", "export", "--format", "parquet")
    assert run("-w", posted, *parquet, "-o", file).status == 0
    assert file.exists()
    assert run("-w", posted, *parquet).status == 2


def test_recover_tells_what_it_did(posted: Path) -> None:
    recover = ("dead-letters", "recover", "--set", "device_type=Mobile")
    tried = json.loads(run("-w", posted, *recover, "--dry-run", "--json").text)
    assert (tried["recovered"], tried["refused"], tried["dry_run"]) == ({"playback": 2}, 1, True)
    done = run("-w", posted, *recover)
    assert done.status == 0, done.err
    assert "playback" in done.text
    assert "still refused: 1" in done.err
    assert "1 letter waiting" in run("-w", posted, "dead-letters", "list").err
    recovered = run("-w", posted, "dead-letters", "list", "--recovered", "--json")
    assert all(letter["recovered_at"] for letter in json.loads(recovered.text))


def test_a_patch_that_means_nothing_is_wrong_usage(posted: Path) -> None:
    done = run("-w", posted, "dead-letters", "recover", "--set", "event_id=x")
    assert done.status == 2


def test_gates_show_every_gate_and_fail_if_one_does(posted: Path) -> None:
    quiet = run("-w", posted, "gates", "--json")
    told = {gate["name"]: gate for gate in json.loads(quiet.text)}
    assert told["freshness"]["status"] == "unknown"
    assert told["freshness"]["values"]["hour"]["value"] is None
    with Workspace(posted) as opened:
        opened.samples.observe(FRESHNESS_MS, 5000)
    failed = run("-w", posted, "gates")
    assert failed.status == 1
    assert "freshness" in failed.text
    assert "freshness: " in failed.err


def test_gates_watch_wants_a_terminal(posted: Path) -> None:
    assert run("-w", posted, "gates", "--watch").status == 2
