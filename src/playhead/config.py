"""Settings: `playhead.toml` in the workspace, then `PLAYHEAD_<SECTION>_<KEY>`, read once."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from playhead.errors import SettingError

FILE = "playhead.toml"


@dataclass(frozen=True)
class LogSettings:
    """The event log.

    Attributes:
        partitions: of each topic, fixed when the topic is made.
        retention_days: events older than this may go, once every reader has them.
    """

    partitions: int = 3
    retention_days: int = 7


@dataclass(frozen=True)
class SpeedSettings:
    """The speed layer.

    Attributes:
        trigger_ms: from the start of one micro-batch to the next.
        seal_seconds: how long an epoch stays open before its events go to the lake.
        dedupe_hours: a repeated event is dropped if the first came this recently.
        max_events: of one topic in one micro-batch.
    """

    trigger_ms: int = 100
    seal_seconds: int = 60
    dedupe_hours: int = 24
    max_events: int = 400_000


@dataclass(frozen=True)
class EngineSettings:
    """DuckDB.

    Attributes:
        memory_limit: of one session, such as "4GB"; beyond it, work spills to disk.
        threads: worker threads; 0 means one per core.
    """

    memory_limit: str = "4GB"
    threads: int = 0


@dataclass(frozen=True)
class ViewSettings:
    """Views.

    Attributes:
        folders: folders of `*.sql` files besides the library, relative to the workspace.
    """

    folders: tuple[str, ...] = ("views",)


@dataclass(frozen=True)
class Settings:
    """All settings, by section."""

    log: LogSettings = field(default_factory=LogSettings)
    speed: SpeedSettings = field(default_factory=SpeedSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    views: ViewSettings = field(default_factory=ViewSettings)

    @property
    def trigger(self) -> timedelta:
        return timedelta(milliseconds=self.speed.trigger_ms)

    @property
    def retention(self) -> timedelta:
        return timedelta(days=self.log.retention_days)


SECTIONS = {
    "log": LogSettings,
    "speed": SpeedSettings,
    "engine": EngineSettings,
    "views": ViewSettings,
}

_MEMORY = re.compile(r"\d+(\.\d+)?\s*([KMGT]i?)?B", re.IGNORECASE)


def read_settings(workspace: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of a workspace.

    Raises:
        SettingError: an unknown section or key, or a value that cannot be used; names the key,
            the value and every place that was looked at.
    """
    environment = os.environ if environment is None else environment
    path = workspace / FILE
    written = _from_file(path)
    _check_environment(environment)
    built = {}
    for section, make in SECTIONS.items():
        defaults = make()
        values = dict(written.get(section, {}))
        _check_keys(f"{path}: ", section, values)
        for key in vars(defaults):
            name = _variable(section, key)
            if name in environment:
                values[key] = environment[name]
        built[section] = make(
            **{k: _value(section, k, v, getattr(defaults, k), path) for k, v in values.items()}
        )
    return Settings(**built)


def _variable(section: str, key: str) -> str:
    return f"PLAYHEAD_{section}_{key}".upper()


def _check_environment(environment: Mapping[str, str]) -> None:
    for name in environment:
        for section in SECTIONS:
            prefix = _variable(section, "")
            if name.startswith(prefix):
                key = name.removeprefix(prefix).lower()
                _check_keys(f"environment variable {name}: ", section, [key])


def _from_file(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingError(f"{path}: {error}") from error
    for section, content in written.items():
        if section not in SECTIONS or not isinstance(content, dict):
            raise SettingError(
                f"{path}: no section [{section}]",
                hint=f"There are {', '.join(SECTIONS)}. Was it written for a newer Playhead?",
            )
    return written


def _check_keys(place: str, section: str, keys: Iterable[str]) -> None:
    known = list(vars(SECTIONS[section]()))
    for key in keys:
        if key not in known:
            close = get_close_matches(key, known, 1)
            raise SettingError(
                f"{place}no setting {section}.{key}",
                hint=f"Did you mean {close[0]}?" if close else f"There are {', '.join(known)}.",
            )


def _value(section: str, key: str, value: Any, default: Any, path: Path) -> Any:
    """The value in the default's type; text from the environment is read."""
    places = f"looked at: {_variable(section, key)}, {path} [{section}] {key}, default"
    made: Any
    if isinstance(default, tuple):
        made, wanted = _folders(value), "list of folders"
    elif isinstance(default, int):
        least = 0 if key == "threads" else 1
        made, wanted = _whole(value, least), f"whole number of at least {least}"
    else:
        is_size = isinstance(value, str) and _MEMORY.fullmatch(value.strip())
        made, wanted = value.strip() if is_size else None, 'amount of memory, such as "4GB"'
    if made is None:
        raise SettingError(f"{section}.{key} = {value!r} is no {wanted}", hint=places)
    return made


def _folders(value: Any) -> tuple[str, ...] | None:
    parts = value.split(os.pathsep) if isinstance(value, str) else value
    if isinstance(parts, list) and all(isinstance(part, str) for part in parts):
        return tuple(part for part in parts if part)
    return None


def _whole(value: Any, least: int) -> int | None:
    if isinstance(value, (bool, float)):
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if number >= least else None


TEMPLATE = """\
# Settings of this workspace. Every line shows the default; PLAYHEAD_<SECTION>_<KEY> in the
# environment goes before this file.

[log]
# partitions = 3            # of each topic, fixed when the topic is made
# retention_days = 7        # older events may go, once every reader has them

[speed]
# trigger_ms = 100          # from the start of one micro-batch to the next
# seal_seconds = 60         # how long an epoch stays open before it goes to the lake
# dedupe_hours = 24         # a repeated event is dropped if the first came this recently
# max_events = 400000       # of one topic in one micro-batch

[engine]
# memory_limit = "4GB"      # of one DuckDB session; beyond it, work spills to disk
# threads = 0               # worker threads; 0 means one per core

[views]
# folders = ["views"]       # folders of *.sql files, relative to the workspace
"""
