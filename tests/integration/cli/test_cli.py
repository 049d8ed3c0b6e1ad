"""What holds for every command: help, streams, exit statuses, where the workspace is."""

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli_runner import finish, run, start

import playhead
from playhead.errors import PlayheadError

COMMANDS = (
    "init", "generate", "load", "quality", "batch", "replay", "speed", "query", "show", "views",
    "contracts", "demo", "bench",
)  # fmt: skip
HEAVY = ("pyarrow", "duckdb", "numpy", "sqlglot", "pyiceberg", "sqlalchemy")


def test_help_lists_every_command() -> None:
    shown = run("--help")
    assert shown.status == 0
    assert [name for name in COMMANDS if f" {name} " not in shown.text] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_takes_the_workspace_after_it(command: str) -> None:
    shown = run(command, "--help")
    assert shown.status == 0
    assert "--workspace" in shown.text
    assert "--debug" in shown.text


def test_help_comes_at_once() -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert finish(start("--help")).status == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Of processor time, as the tests beside this one take the processor, too.
    assert min(seconds() for _ in range(2)) < 0.8, "0.3 s on an idle core"


def test_help_imports_nothing_heavy() -> None:
    code = f"import playhead.cli, sys; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_version() -> None:
    shown = run("--version")
    assert (shown.status, shown.text) == (0, f"playhead {playhead.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["query"],
        ["batch", "--quick"],
        ["query", "SELECT 1", "--format", "xml"],
        ["show", "monthly_engagement", "--limit", "0"],
        ["show", "monthly_engagement", "--watch"],
        ["load", "data", "--until", "yesterday"],
        ["generate", "data", "--users", "none"],
        ["generate", "data", "--dirt", "2"],
        ["replay", "data", "--rate", "fast"],
        ["replay", "data", "--rate", "0"],
        ["replay", "data", "--rate", "5", "--speed", "60x"],
        ["replay", "data", "--from", "noon"],
        ["bench", "nothing"],
        ["views", "show"],
        ["contracts", "--format", "yaml"],
    ],
)
def test_wrong_usage_exits_with_2(workspace: Path, arguments: list[str]) -> None:
    refused = run("-w", workspace, *arguments)
    assert (refused.status, refused.text) == (2, "")
    assert "Error" in refused.err or "usage" in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["query", "SELECT nothing FROM playback"], "nothing"),
        (["query", "SELECT 1; SELECT 2"], "one SELECT"),
        (["query", "DELETE FROM playback"], "read-only"),
        (["query", "SELECT * FROM playbacks"], "Did you mean playback?"),
        (["query", ""], "one SELECT"),
        (["show", "monthly_engagment"], "Did you mean monthly_engagement?"),
        (["views", "show", "nothing"], "no view nothing"),
        (["contracts", "nothing"], "nothing"),
        (["load", "no-such-folder"], "no-such-folder"),
        (["replay", "no-such-folder"], "no-such-folder"),
    ],
)
def test_failure_exits_with_1_and_a_message(
    workspace: Path, arguments: list[str], told: str
) -> None:
    failed = run("-w", workspace, *arguments)
    assert (failed.status, failed.text) == (1, "")
    assert failed.err.startswith("error: ")
    assert told in failed.err
    assert "Traceback" not in failed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["load", "data"],
        ["quality"],
        ["batch"],
        ["replay", "data"],
        ["speed", "--drain"],
        ["query", "SELECT 1"],
        ["show", "monthly_engagement"],
        ["views"],
        ["views", "show", "monthly_engagement"],
    ],
)
def test_a_folder_that_is_no_workspace_is_told(tmp_path: Path, arguments: list[str]) -> None:
    failed = run(*arguments, "-w", tmp_path)
    assert (failed.status, failed.text) == (1, "")
    assert f"error: {tmp_path} is no workspace" in failed.err
    assert f"playhead -w {tmp_path} init" in failed.err


# -- where the workspace is --------------------------------------------------------------


def test_workspace_before_the_command_after_it_and_from_the_environment(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("query", "SELECT 1 AS one", "--format", "csv")
    assert run("-w", workspace, *asked).text == "one\n1\n"
    assert run(*asked, "--workspace", workspace).text == "one\n1\n"
    assert run("-w", tmp_path, *asked, "-w", workspace).text == "one\n1\n", "the later one wins"
    monkeypatch.setenv("PLAYHEAD_WORKSPACE", str(workspace))
    assert run(*asked).text == "one\n1\n"
    assert run("-w", tmp_path, *asked).status == 1, "an option goes before the environment"


def test_group_takes_the_workspace_in_three_places(workspace: Path) -> None:
    shown = ("show", "search_health", "--json")
    answers = {
        run("-w", workspace, "views", *shown).out,
        run("views", "-w", workspace, *shown).out,
        run("views", *shown, "-w", workspace).out,
    }
    assert len(answers) == 1
    assert b"search_health" in answers.pop()


def test_default_workspace_is_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLAYHEAD_WORKSPACE", raising=False)
    assert run("init").status == 0
    assert (tmp_path / "workspace" / "playhead.toml").is_file()


# -- errors that nobody foresaw ----------------------------------------------------------


def _break_query(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr("playhead.assemble.Workspace.query", broken)


def test_unexpected_error_is_one_line(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _break_query(monkeypatch, KeyError("boom\nand more"))
    failed = run("-w", workspace, "query", "SELECT 1")
    assert failed.status == 1
    assert len(failed.err.splitlines()) == 1
    assert "KeyError" in failed.err
    assert "--debug" in failed.err


@pytest.mark.parametrize("error", [KeyError("boom"), PlayheadError("boom")])
@pytest.mark.parametrize("place", [0, 2])
def test_debug_shows_the_traceback(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, place: int
) -> None:
    _break_query(monkeypatch, error)
    arguments = ["query", "SELECT 1"]
    arguments.insert(place, "--debug")
    failed = run("-w", workspace, *arguments)
    assert failed.status == 1
    assert "Traceback" in failed.err
    assert "in broken" in failed.err


def test_interrupt_exits_with_130(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _break_query(monkeypatch, KeyboardInterrupt())
    stopped = run("-w", workspace, "query", "SELECT 1")
    assert (stopped.status, stopped.text, stopped.err) == (130, "", "")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into the process by /proc")
def test_interrupt_ends_a_long_query(workspace: Path) -> None:
    endless = "SELECT COUNT(*) FROM range(1000000000000) t(i) WHERE (i % 1000) * (i % 999) = 7"
    process = start("-w", workspace, "query", endless)
    while b"duckdb" not in Path(f"/proc/{process.pid}/maps").read_bytes():
        time.sleep(0.05)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    stopped = finish(process)
    assert (stopped.status, stopped.out, stopped.err) == (130, b"", "")


def test_closed_pipe_is_quiet(workspace: Path) -> None:
    rows = "SELECT i, repeat('x', 100) AS x FROM range(200000) t(i)"
    process = start("-w", workspace, "query", rows, "--format", "csv")
    assert process.stdout is not None
    assert process.stdout.readline() == b"i,x\n"
    process.stdout.close()
    process.stdout = None
    assert process.wait(timeout=60) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
