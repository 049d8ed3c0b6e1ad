"""batch, replay, speed: both layers run, and end as they should."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from cli_runner import finish, run, start

from playhead.lock import RoleLock

SPLIT = "2024-02-25"


def _count(workspace: Path, topic: str = "playback") -> int:
    counted = run("-w", workspace, "query", f"SELECT COUNT(*) AS n FROM {topic}", "-f", "json")
    assert counted.status == 0, counted.err
    return int(json.loads(counted.text)[0]["n"])


def test_batch_says_what_it_did_and_does_nothing_twice(copy: Path, data: Path) -> None:
    assert run("-w", copy, "load", data, "--since", SPLIT).status == 0
    first = run("-w", copy, "batch", "--json")
    assert first.status == 0, first.err
    report = json.loads(first.text)
    assert {run["status"] for run in report["views"]} == {"recomputed"}
    second = run("-w", copy, "batch")
    assert second.status == 0
    assert second.text.count("up to date") == len(report["views"])
    full = json.loads(run("-w", copy, "batch", "--full", "--json").text)
    assert {run["reason"] for run in full["views"]} >= {"asked for"}


def test_batch_warns_of_views_that_wait(tmp_path: Path, data: Path) -> None:
    run("-w", tmp_path / "ws", "init")
    done = run("-w", tmp_path / "ws", "batch")
    assert done.status == 0, done.err
    assert "warning: view engagement_health waits" in done.err


def test_both_layers_give_what_one_recomputation_gives(workspace: Path, tmp_path: Path) -> None:
    for view in ("monthly_engagement", "device_quality", "search_health"):
        shown = run("-w", workspace, "show", view, "--format", "json")
        assert shown.status == 0, shown.err
        assert "from speed" in shown.err


def test_replay_of_one_topic_and_of_a_loaded_one(copy: Path, data: Path) -> None:
    files = run("-w", copy, "replay", data, "--topic", "rating", "--from", SPLIT, "--rate", "max")
    assert (files.status, files.text) == (0, ""), files.err
    assert "rating" in files.err
    assert "playback" not in files.err
    again = run("-w", copy, "replay", "rating", "--rate", "max", "--to", "2024-01-20")
    assert again.status == 0, again.err
    before = _count(copy, "rating")
    assert run("-w", copy, "speed", "--drain").status == 0
    added = _count(copy, "rating") - before
    assert 0 < added < 100, "what was loaded and came again counts once"


def test_replay_keeps_its_rate(copy: Path, data: Path) -> None:
    began = time.monotonic()
    sent = run(
        "-w", copy, "replay", data / "reviews.parquet", "--from", "2024-02-28", "--rate", "20"
    )
    assert sent.status == 0, sent.err
    count = int(sent.err.split(" events sent")[0].replace(",", ""))
    assert time.monotonic() - began >= (count - 1) / 20


def test_speed_says_what_it_took_in(copy: Path, data: Path) -> None:
    run("-w", copy, "replay", data, "--from", SPLIT, "--rate", "max")
    done = run("-w", copy, "speed", "--drain")
    assert (done.status, done.text) == (0, "")
    assert "events taken in" in done.err


def test_speed_seals_and_exits_with_0_when_told_to_end(copy: Path, data: Path) -> None:
    before = _count(copy)
    process = start("-w", copy, "speed")
    sent = run("-w", copy, "replay", data, "--from", SPLIT, "--rate", "max")
    assert sent.status == 0, sent.err
    _wait_until(lambda: _count(copy) > before, process)
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert ended.status == 0, ended.err
    assert "finishing what was read" in ended.err
    assert "events taken in" in ended.err
    assert run("-w", copy, "batch").status == 0
    shown = run("-w", copy, "show", "monthly_active_users")
    assert "from speed" not in shown.err, "sealed, so the batch layer has all of it"


def test_second_speed_layer_is_refused(copy: Path) -> None:
    with RoleLock(copy / "speed.lock", "speed layer"):
        refused = run("-w", copy, "speed", "--drain")
    assert (refused.status, refused.text) == (1, "")
    assert f"another speed layer runs in this workspace (process {os.getpid()})" in refused.err


def _wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if condition():
            return
        assert process.poll() is None, finish(process)
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"it did not happen in time: {finish(process)}")


def test_replay_ends_when_told_and_says_where_to_go_on(copy: Path, data: Path) -> None:
    process = start("-w", copy, "replay", data, "--rate", "50")
    _wait_until(lambda: _sent(copy) > 0, process)
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    assert ended.status == 0, ended.err
    assert "go on with --from 2024-01-0" in ended.err


def _sent(workspace: Path) -> int:
    from playhead import open as open_workspace

    with open_workspace(os.fspath(workspace)) as opened:
        return sum(opened.log.end_offsets("playback").values())
