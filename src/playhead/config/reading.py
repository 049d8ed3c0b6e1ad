"""Read settings: the file of the workspace, then the environment, each key checked."""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from playhead.config.kinds import Kind
from playhead.config.sections import SECTIONS, Settings
from playhead.errors import SettingError

FILE = "playhead.toml"

_PAIRS = (("tls_certificate", "tls_key"), ("warehouse", "catalog"))
"""Settings of a section of which both are given, or none."""

MARK = "workspace.format"
"""The file that makes a folder a workspace, beside this one."""


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
        kinds = {each.name: each.metadata["kind"] for each in fields(make)}
        values = dict(written.get(section, {}))
        _check_keys(f"{path}: ", section, values)
        for key in kinds:
            name = _variable(section, key)
            if name in environment:
                values[key] = environment[name]
        built[section] = make(
            **{key: _value(section, key, value, kinds[key], path) for key, value in values.items()}
        )
        for pair in _PAIRS:
            _check_pair(section, built[section], pair, path)
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


def _value(section: str, key: str, value: Any, kind: Kind, path: Path) -> Any:
    """The value in the setting's type; text from the environment is read."""
    try:
        made = kind.read(value)
    except SettingError:
        made = None
    if made is None:
        raise SettingError(
            f"{section}.{key} = {value!r} is no {kind.wanted}", hint=_places(section, key, path)
        )
    return made


def _check_pair(section: str, built: Any, keys: tuple[str, str], path: Path) -> None:
    """A setting without the other one that it needs serves nobody."""
    pair = {key: getattr(built, key, "") for key in keys}
    missing = [key for key, value in pair.items() if not value]
    if len(missing) == 1:
        (given,) = pair.keys() - missing
        raise SettingError(
            f"{section}.{given} is set, and {section}.{missing[0]} is not: one needs the other",
            hint=_places(section, missing[0], path),
        )


def _places(section: str, key: str, path: Path) -> str:
    return f"looked at: {_variable(section, key)}, {path} [{section}] {key}, default"
