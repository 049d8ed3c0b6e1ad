"""docs/commands.md: every command and option stands in it, and its examples run."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.cli
from cli_runner import run

from playhead.cli import app

PAGE = Path(__file__).parents[3] / "docs" / "commands.md"
NOT_RUN = (
    "playhead bench",
    "playhead demo",
    "playhead up",
    "playhead dead-letters show",
    "playhead gates",
    "playhead topics create --partitions",
)
"""They have tests of their own, or need a broker."""


def _commands(command: Any, path: str = "playhead") -> list[tuple[str, Any]]:
    found = [(path, command)]
    for name, inner in getattr(command, "commands", {}).items():
        if inner.hidden:
            continue
        found += _commands(inner, f"{path} {name}")
    return found


COMMANDS = dict(_commands(typer.main.get_command(app)))


def _section(path: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    match = re.search(rf"^#+ `{path}`\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)
    assert match is not None, f"{path} is not documented: run `make docs`"
    return match[1]


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_is_documented(path: str) -> None:
    section = _section(path)
    for parameter in COMMANDS[path].params:
        for name in [*parameter.opts, *parameter.secondary_opts]:
            shown = name if name.startswith("-") else parameter.metavar
            assert re.search(rf"`[^`]*{re.escape(shown)}\b", section), f"{path} {name}: `make docs`"


def test_page_is_what_the_commands_say() -> None:
    with typer.Context(COMMANDS["playhead"]) as context:
        context.obj = {"TYPER_RICH_MARKUP_MODE": app.rich_markup_mode}
        made = typer.cli.get_docs_for_click(obj=COMMANDS["playhead"], ctx=context, name="playhead")
    assert PAGE.read_text(encoding="utf-8").strip() == made.strip(), "run `make docs`"


EXAMPLES = re.findall(r"^Example: `(.*)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_command_has_an_example() -> None:
    for path in COMMANDS:
        if path != "playhead":
            assert any(f"{example} ".startswith(f"{path} ") for example in EXAMPLES)


def test_examples_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A workspace of its own, made and not copied: some commands delete what they replace.
    for command in (("init",), ("load", data), ("batch",)):
        done = run("-w", tmp_path / "workspace", *command)
        assert done.status == 0, done.err
    for example in EXAMPLES:
        if not example.startswith(NOT_RUN):
            if example.startswith("playhead replay") and not (tmp_path / "data").exists():
                shutil.copytree(data, tmp_path / "data")
            done = run(*shlex.split(example)[1:])
            assert done.status == 0, f"{example}\n{done.err}"
