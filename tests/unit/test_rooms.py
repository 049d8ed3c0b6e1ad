"""The rooms import one way, and what the package exports is there."""

import ast
from pathlib import Path

import pytest

import playhead

SOURCE = Path(playhead.__file__).parent
ORDER = [
    {"client", "errors", "clock", "config", "disk", "lock"},
    {"mirror", "keys", "samples"},
    {"contracts"},
    {"views"},
    {"engines"},
    {"eventlog"},
    {"lake"},
    {"cluster"},
    {"batch", "speed", "gateway"},
    {"serving"},
    {"testing"},
    {"assemble"},
    {"ops"},
    {"api"},
    {"platform"},
    {"dashboard"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def _room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def _imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "playhead" and len(parts) > 1 and parts[1] in LEVEL:
                found.add(parts[1])
    return found


FILES = [path for path in SOURCE.rglob("*.py") if _room(path) != "__init__"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_room_imports_only_rooms_above_it(path: Path) -> None:
    here = _room(path)
    assert here in LEVEL, f"{here} has no place in the order of rooms"
    wrong = [r for r in _imported_rooms(path) if r != here and LEVEL[r] >= LEVEL[here]]
    # The base line's modules are small and stand side by side.
    assert not [r for r in wrong if not (LEVEL[here] == 0 and r == "errors")]


def test_what_the_package_exports_is_there() -> None:
    for name in playhead.__all__:
        assert getattr(playhead, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = playhead.nothing
