"""What the tests of deploy/ share: where its files are, and which settings they may name."""

import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

from playhead.config import SECTIONS, Settings
from playhead.platform.parts import standard_parts

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PROGRAMS = Path(sys.executable).parent

BESIDE_SETTINGS = {"workspace", "jars", "version"}
"""Variables PLAYHEAD_<THIS> that are no settings of a section."""

KNOWN = {f"{section}.{each.name}" for section, make in SECTIONS.items() for each in fields(make)}

PARTS = {part.kind for part in standard_parts(ROOT, Settings())}
"""What deploy/ runs, each in a place of its own."""

EXAMPLE = dict(
    line.split("=", 1)
    for line in (DEPLOY / ".env.example").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
"""Variables of .env, as they are to be filled in; empty: a secret of one's own."""

SECRET = re.compile(r"password|secret|access_key|token", re.IGNORECASE)
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+[\w.-]*")
OWN_IMAGES = ("playhead", "playhead-spark")


def documents(path: Path) -> list[dict[str, Any]]:
    """What is in a file of YAML."""
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]


def setting(variable: str) -> str | None:
    """`section.key` of PLAYHEAD_SECTION_KEY; None for a variable that is no setting."""
    name = variable.removeprefix("PLAYHEAD_").lower()
    if name == variable.lower() or name in BESIDE_SETTINGS:
        return None
    section, _, key = name.partition("_")
    return f"{section}.{key}"


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text and number in nested mappings and lists, with the keys that lead there."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, str(key)))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, str(value)
