"""The picture of where a view comes from and where it goes: sources, the view, charts.

An SVG whose every name is escaped; boxes stand in three columns, one row a name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape

from playhead.assemble import Workspace
from playhead.dashboard.pages.views.uses import Use
from playhead.serving import find_view
from playhead.views import View
from playhead.views.lineage import lineage

__all__ = ["Upstream", "ViewLineage", "picture", "sources", "told"]

Upstream = Mapping[str, tuple[str, ...]]
"""For each column of a view, the "relation.column" that it is made of."""

_ROW, _HEAD, _GAP = 22, 30, 16
_WIDTHS = (250, 270, 300)
_LEFTS = (0, 400, 820)
_WIDTH = _LEFTS[2] + _WIDTHS[2]
_LETTER = 7.1
_PAGE = "page"


@dataclass(frozen=True)
class ViewLineage:
    """Looks up what the columns of a view are made of; two of the same name are the same look."""

    name: str

    def __call__(self, workspace: Workspace) -> Upstream:
        workspace.refresh()
        view = find_view(workspace.views, self.name)
        return _traced(view.hash, _Kept(view))


class _Kept:
    """A view beside the hash that stands for it: all of these are equal."""

    def __init__(self, view: View) -> None:
        self.view = view

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=256)
def _traced(_hash: str, kept: _Kept) -> Upstream:
    return lineage(kept.view)


@dataclass(frozen=True)
class _Box:
    """A titled list of names.

    Attributes:
        rows: (key, name) of each; the key of a source's column is "relation.column".
        top: where it begins, in the picture's units.
    """

    kind: str
    title: str
    rows: tuple[tuple[str, str], ...]
    place: int
    top: int

    @property
    def height(self) -> int:
        return _HEAD + _ROW * len(self.rows) + 6

    @property
    def left(self) -> int:
        return _LEFTS[self.place]

    @property
    def right(self) -> int:
        return self.left + _WIDTHS[self.place]

    def middle(self, key: str) -> float:
        """Where the row of a key has its middle."""
        keys = [known for known, _ in self.rows]
        return self.top + _HEAD + _ROW * (keys.index(key) + 0.5)


def sources(view: View, upstream: Upstream) -> dict[str, tuple[str, ...]]:
    """Topics, then dimensions, and the columns of each that the view reads."""
    found: dict[str, dict[str, None]] = {topic: {} for topic in view.topics}
    for leaf in view.leaves:
        found[leaf.topic] |= dict.fromkeys(leaf.event_columns)
        for lookup in leaf.lookups:
            found.setdefault(lookup.dimension, {}).update(dict.fromkeys(lookup.columns))
    for name in sorted({name for several in upstream.values() for name in several}):
        relation, _, column = name.partition(".")
        found.setdefault(relation, {})[column] = None
    for name in view.plans.dimensions:
        found.setdefault(name, {})
    return {name: tuple(columns) for name, columns in found.items()}


def picture(view: View, upstream: Upstream, uses: Sequence[Use], chosen: str = "") -> str:
    """The picture as SVG.

    Args:
        chosen: the column of the view, or "relation.column", whose ways are shown in colour.
    """
    left = _stacked(
        0,
        [
            (view.relations[name].kind, name, [(f"{name}.{c}", c) for c in columns])
            for name, columns in sources(view, upstream).items()
        ],
    )
    middle = _stacked(1, [("view", view.name, [(name, name) for name in view.columns])])
    by_page: dict[str, list[tuple[str, str]]] = {}
    for use in uses:
        by_page.setdefault(use.page, []).append((f"{use.page}/{use.title}", use.title))
    right = _stacked(2, [(_PAGE, page, rows) for page, rows in by_page.items()])
    boxes = [*left, *middle, *right]
    height = max(box.top + box.height for box in boxes)
    lit = _lit(upstream, chosen)
    drawn = [_edges(left, middle[0], upstream, chosen), *_ways(middle[0], right)]
    drawn += [_box(box, lit, chosen) for box in boxes]
    words = f"{view.name}: made of {', '.join(sources(view, upstream))}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" class="lineage" role="group" '
        f'aria-label="{escape(words)}">{"".join(drawn)}</svg>'
    )


def told(view: View, upstream: Upstream, chosen: str) -> str:
    """What a chosen column is made of, or what is made of it, in words."""
    if chosen in upstream:
        made_of = ", ".join(upstream[chosen]) or "no column: it counts rows, or is a constant"
        return f"{chosen} is made of {made_of}."
    down = [name for name, several in upstream.items() if chosen in several]
    if chosen:
        only = "no column; it only filters, joins or groups"
        return f"{chosen} makes {', '.join(down) or only} of {view.name}."
    return "Choose a column to see what it is made of."


def _stacked(
    place: int, several: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]
) -> list[_Box]:
    boxes: list[_Box] = []
    top = 0
    for kind, title, rows in several:
        boxes.append(_Box(kind, title, tuple(rows), place, top))
        top += boxes[-1].height + _GAP
    return boxes


def _lit(upstream: Upstream, chosen: str) -> set[str]:
    """The rows at both ends of the ways of what is chosen."""
    if not chosen:
        return set()
    down = {name for name, several in upstream.items() if chosen in several}
    return {chosen, *upstream.get(chosen, ()), *down}


def _edges(left: Sequence[_Box], view: _Box, upstream: Upstream, chosen: str) -> str:
    paths = []
    for name, several in upstream.items():
        for source in several:
            box = next(box for box in left if box.title == source.partition(".")[0])
            tone = ("on" if chosen in (name, source) else "off") if chosen else ""
            ends = (box.right, box.middle(source), view.left, view.middle(name))
            paths.append((tone == "on", _path(*ends, tone)))
    # Those that are chosen lie above the others.
    return "".join(path for _, path in sorted(paths, key=lambda pair: pair[0]))


def _ways(view: _Box, right: Sequence[_Box]) -> list[str]:
    start = view.top + _HEAD / 2
    return [_path(view.right, start, box.left, box.top + _HEAD / 2, "use") for box in right]


def _path(x1: float, y1: float, x2: float, y2: float, tone: str) -> str:
    bend = (x2 - x1) / 2
    return (
        f'<path class="way {tone}" d="M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} '
        f'{x2 - bend:g} {y2:g} {x2:g} {y2:g}"/>'
    )


def _box(box: _Box, lit: set[str], chosen: str) -> str:
    width = box.right - box.left
    kind = "charts" if box.kind == _PAGE else box.kind
    rows = [
        _row(
            box, key, name, is_lit=key in lit, is_button=box.kind != _PAGE, is_chosen=key == chosen
        )
        for key, name in box.rows
    ]
    return (
        f'<g class="box {kind}"><rect x="{box.left + 0.5}" y="{box.top + 0.5}" '
        f'width="{width - 1}" height="{box.height - 1}" rx="8"/>'
        f'<text class="box-title" x="{box.left + 12}" y="{box.top + 20}">'
        f"{_short(box.title, width - 110)}</text>"
        f'<text class="box-kind" x="{box.right - 12}" y="{box.top + 20}">{kind}</text>'
        f"{''.join(rows)}</g>"
    )


def _row(box: _Box, key: str, name: str, *, is_lit: bool, is_button: bool, is_chosen: bool) -> str:
    y = box.middle(key)
    width = box.right - box.left
    pressed = "true" if is_chosen else "false"
    role = f'role="button" tabindex="0" aria-pressed="{pressed}" ' if is_button else ""
    tones = " ".join(t for t, on in (("lit", is_lit), ("pick", is_button)) if on)
    return (
        f'<g {role}class="row {tones}" data-key="{escape(key)}"><title>{escape(name)}</title>'
        f'<rect x="{box.left + 4}" y="{y - _ROW / 2}" width="{width - 8}" height="{_ROW}" rx="4"/>'
        f'<text x="{box.left + 14}" y="{y + 4}">{_short(name, width - 24)}</text></g>'
    )


def _short(name: str, width: float) -> str:
    most = int(width / _LETTER)
    return escape(name if len(name) <= most else f"{name[: most - 1]}…")
