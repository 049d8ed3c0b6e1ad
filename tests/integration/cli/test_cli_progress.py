"""What stderr shows while work goes on: bars on a terminal, few lines elsewhere."""

import shutil
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_runner import run

from playhead.cli import status, terminal
from playhead.speed.layer import Step


class _Clock:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _workspace(*, lag: int, newest: datetime | None) -> Any:
    progress = {"playback": SimpleNamespace(max_event_time=newest)}
    return SimpleNamespace(lag=lambda: lag, state=SimpleNamespace(progress=lambda: progress))


def test_status_tells_rate_lag_and_watermark(capsys: pytest.CaptureFixture[str]) -> None:
    clock = _Clock()
    newest = datetime(2025, 3, 1, 12, 10)
    with status.SpeedStatus(_workspace(lag=30, newest=newest), clock) as shown:
        for _ in range(4):
            clock.now += 2.5
            shown.step(Step(events=1000, duplicates=10, late=1))
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "600 events/s   lag 30 events   watermark 2025-03-01 12:00:00   4,000 events",
        "4,000 events taken in, 40 of them duplicates and 4 late",
    ]


def test_status_before_any_event(capsys: pytest.CaptureFixture[str]) -> None:
    clock = _Clock()
    with status.SpeedStatus(_workspace(lag=0, newest=None), clock) as shown:
        clock.now += 11
        shown.step(Step())
    assert "watermark none yet" in capsys.readouterr().err


def test_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    clock = _Clock()
    lines = terminal._Lines(clock)
    for done in range(100):
        clock.now += 0.3
        lines.advance_to("playback", done, 100, f"{done} rows")
    told = capsys.readouterr().err.splitlines()
    assert told == ["playback: 33 % 33 rows", "playback: 67 % 67 rows"]


def test_bars_and_status_line_on_a_terminal(
    data: Path, loaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    workspace = tmp_path / "workspace"
    shutil.copytree(loaded, workspace)
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    for arguments in (
        ("generate", tmp_path / "data", "--sessions", "10"),
        ("load", data, "--since", "2024-02-25"),
        ("replay", data, "--from", "2024-02-27", "--rate", "max"),
        ("speed", "--drain"),
        ("batch",),
        ("show", "monthly_active_users"),
    ):
        done = run("-w", workspace, *arguments, terminal=True)
        assert done.status == 0, done.err
        assert hidden in done.err, "something moved"
        assert done.err.rfind(shown) > done.err.rfind(hidden), "the cursor is back"
        assert hidden not in done.text
