"""runs: what became of the last batch runs."""

import json
from contextlib import suppress
from pathlib import Path

from cli_runner import run

from playhead.batch.journal import FILE, noting


def test_runs_shows_the_last_ones(copy: Path) -> None:
    with noting(copy, "asked for") as noted:
        noted.enter("views")
    shown = run("-w", copy, "runs")
    assert shown.status == 0, shown.err
    assert shown.text.count("asked for") == 2
    last, first = json.loads(run("-w", copy, "runs", "--json").text)
    assert (last["status"], last["stages"][0]["name"], last["views"]) == ("done", "views", [])
    assert first["epoch"] == 0
    assert {view["status"] for view in first["views"]} == {"recomputed"}
    assert len(json.loads(run("-w", copy, "runs", "-n", "1", "--json").text)) == 1


def test_runs_tell_where_one_failed(tmp_path: Path) -> None:
    assert run("-w", tmp_path / "w", "init").status == 0
    with suppress(OSError), noting(tmp_path / "w", "an hour went by") as noted:
        noted.enter("views")
        raise OSError("the disk is gone")
    shown = run("-w", tmp_path / "w", "runs")
    for told in ("failed", "an hour went by; in 'views'", "the disk is gone"):
        assert told in shown.text


def test_runs_without_any_says_so(tmp_path: Path) -> None:
    assert run("-w", tmp_path / "w", "init").status == 0
    shown = run("-w", tmp_path / "w", "runs")
    assert (shown.status, shown.text) == (0, "")
    assert "no batch run is known" in shown.err
    assert json.loads(run("-w", tmp_path / "w", "runs", "--json").text) == []


def test_runs_of_a_damaged_file_say_what_to_do(tmp_path: Path) -> None:
    assert run("-w", tmp_path / "w", "init").status == 0
    (tmp_path / "w" / FILE).write_bytes(b"damaged" * 1_000)
    shown = run("-w", tmp_path / "w", "runs")
    assert (shown.status, shown.text) == (1, "")
    assert "Delete the file" in shown.err
