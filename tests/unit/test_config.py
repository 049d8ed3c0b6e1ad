"""Settings: the file, then the environment; mistakes are named with every place."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from playhead.config import FILE, TEMPLATE, Settings, read_settings
from playhead.errors import SettingError


def read(folder: Path, text: str | None = None, **environment: str) -> Settings:
    if text is not None:
        (folder / FILE).write_text(text, encoding="utf-8")
    return read_settings(folder, environment)


def test_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings == Settings()
    assert settings.trigger == timedelta(milliseconds=100)
    assert settings.retention == timedelta(days=7)


def test_the_template_changes_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, TEMPLATE) == Settings()
    lines = [line.removeprefix("# ") if " = " in line else line for line in TEMPLATE.splitlines()]
    assert read(tmp_path, "\n".join(lines)) == Settings()


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    text = '[speed]\ntrigger_ms = 10000\nseal_seconds = 5\n[views]\nfolders = ["a", "b"]\n'
    settings = read(tmp_path, text, PLAYHEAD_SPEED_TRIGGER_MS="500")
    assert (settings.speed.trigger_ms, settings.speed.seal_seconds) == (500, 5)
    assert settings.views.folders == ("a", "b")
    folders = os.pathsep.join(["x", "", "y"])
    settings = read(tmp_path, PLAYHEAD_VIEWS_FOLDERS=folders, PLAYHEAD_ENGINE_THREADS="0")
    assert settings.views.folders == ("x", "y")


def test_other_variables_are_none_of_ours(tmp_path: Path) -> None:
    others = {"PLAYHEAD_WORKSPACE": "w", "PLAYHEAD_TEST_STRICT": "1", "SPEED_TRIGGER_MS": "x"}
    assert read(tmp_path, **others) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sped]", "no section [sped]"),
        ("trigger_ms = 3", "no section [trigger_ms]"),
        ("[speed]\ntriger_ms = 3", "Did you mean trigger_ms?"),
        ("[speed]\nqqq = 3", "There are trigger_ms, seal_seconds"),
        ("[speed", "Expected ']'"),
        ("[speed]\ntrigger_ms = 0", "speed.trigger_ms = 0 is no whole number of at least 1"),
        ("[speed]\ntrigger_ms = 2.5", "2.5 is no whole number"),
        ("[speed]\ntrigger_ms = true", "True is no whole number"),
        ('[speed]\ntrigger_ms = "soon"', "'soon' is no whole number"),
        ("[engine]\nthreads = -1", "-1 is no whole number of at least 0"),
        ("[engine]\nmemory_limit = 4", "4 is no amount of memory"),
        ('[engine]\nmemory_limit = "lots"', "'lots' is no amount of memory"),
        ("[views]\nfolders = [1]", "[1] is no list of folders"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert str(tmp_path / FILE) in str(caught.value)


def test_a_mistake_in_the_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as caught:
        read(tmp_path, PLAYHEAD_SPEED_TRIGGER_MS="fast")
    text = str(caught.value)
    places = ["PLAYHEAD_SPEED_TRIGGER_MS", f"{tmp_path / FILE} [speed] trigger_ms", "default"]
    assert [place in text for place in places] == [True] * 3
    with pytest.raises(SettingError, match="PLAYHEAD_SPEED_TRIGER_MS: no setting") as caught:
        read(tmp_path, PLAYHEAD_SPEED_TRIGER_MS="500")
    assert "Did you mean trigger_ms?" in str(caught.value)


@pytest.mark.parametrize("size", ["512MB", "4 GB", "1.5gib", "2TiB"])
def test_amounts_of_memory(tmp_path: Path, size: str) -> None:
    assert read(tmp_path, f'[engine]\nmemory_limit = "{size}"').engine.memory_limit == size


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(SettingError, match=r"playhead\.toml"):
        read(tmp_path)


def test_read_settings_looks_at_the_real_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_LOG_PARTITIONS", "5")
    settings: Any = read_settings(tmp_path)
    assert settings.log.partitions == 5
