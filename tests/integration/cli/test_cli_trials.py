"""demo and bench: what they run is what was asked for."""

from pathlib import Path
from typing import Any

import pytest
from cli_runner import run

from playhead.cli import trials


@pytest.mark.parametrize("equal", [True, False])
def test_demo_fails_unless_the_answers_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, equal: bool
) -> None:
    asked: list[tuple[Path, Path | None, bool]] = []

    def run_demo(workspace: Path, data: Path | None, *, keep: bool) -> bool:
        asked.append((workspace, data, keep))
        return equal

    monkeypatch.setattr("playhead.demo.run_demo", run_demo)
    done = run("demo", "--data", "files", "-w", tmp_path)
    assert asked == [(tmp_path, Path("files"), False)]
    assert done.status == (0 if equal else 1)
    assert ("differs" in done.err) is not equal


def test_demo_goes_on_serving_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def run_demo(_: Path, __: Path | None, *, keep: bool) -> bool:
        asked.append(keep)
        return True

    monkeypatch.setattr("playhead.demo.run_demo", run_demo)
    assert run("demo", "--keep", "-w", tmp_path).status == 0
    assert run("demo", "--no-keep", "-w", tmp_path).status == 0
    assert asked == [True, False]


def test_demo_leaves_a_folder_of_something_else_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    refused = run("demo", "-w", tmp_path)
    assert (refused.status, refused.text) == (1, "")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["speed", "batch", "load", "generate"])
def test_bench_hands_on_what_follows_the_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(f"benchmarks.{name}.main", asked.append)
    done = run("bench", name, "--events", "10", "--format", "json")
    assert done.status == 0, done.err
    assert asked == [["--events", "10", "--format", "json"]]


def test_bench_needs_the_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trials.playhead, "__file__", str(tmp_path / "src" / "x" / "__init__.py"))
    failed = run("bench", "speed")
    assert (failed.status, failed.text) == (1, "")
    assert "Clone the source" in failed.err
