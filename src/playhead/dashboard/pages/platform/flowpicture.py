"""The flow of events as a picture: SVG of what is known of it at a moment; pure functions.

The picture is made once. What changes from one moment to the next are facts: the texts and classes
of its parts, by key, so that a browser is told only of those that have changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log10

from playhead.batch.deadletters import TOPIC as DEAD_LETTERS
from playhead.dashboard.drawing.marked import ICONS, Tone
from playhead.dashboard.numbers import duration, shown, size
from playhead.ops.flow import Flow, TopicFlow
from playhead.platform.control import PlatformStatus

__all__ = [
    "ARROWS",
    "NODES",
    "Facts",
    "changes",
    "facts",
    "flow_svg",
    "flow_words",
    "tone_of",
    "topics_first",
]

Facts = Mapping[str, str]
"""By key: "t:" and the name of a part has its text, "c:" its class."""

_WIDTH, _HEIGHT = 1400, 326
_NODE_W, _NODE_H = 176, 104
_COLUMN, _TOP, _BELOW = 242, 14, 212
_FASTEST = 5


@dataclass(frozen=True)
class _Node:
    """One box: where it stands, its icon's letter aside, and the parts of the platform in it."""

    name: str
    column: int
    is_below: bool = False
    parts: str = ""

    @property
    def x(self) -> int:
        return 6 + self.column * _COLUMN

    @property
    def y(self) -> int:
        return _BELOW if self.is_below else _TOP


NODES: Mapping[str, _Node] = {
    node.name: node
    for node in (
        _Node("clients", 0),
        _Node("gateway", 1, parts="gateway"),
        _Node("dead letters", 1, is_below=True),
        _Node("event log", 2),
        _Node("speed layer", 3, parts="speed"),
        _Node("lake", 3, is_below=True),
        _Node("serving", 4, parts="api"),
        _Node("batch layer", 4, is_below=True, parts="batch"),
        _Node("dashboards", 5, parts="dashboard"),
    )
}

ARROWS: Sequence[tuple[str, str]] = (
    ("clients", "gateway"),
    ("gateway", "event log"),
    ("gateway", "dead letters"),
    ("event log", "speed layer"),
    ("speed layer", "serving"),
    ("speed layer", "lake"),
    ("lake", "batch layer"),
    ("batch layer", "serving"),
    ("serving", "dashboards"),
)
"""The speed layer is what carries events from the event log into the lake, an epoch at a time."""

_BY_PIECES = {
    ("lake", "batch layer"): "runs",
    ("batch layer", "serving"): "states",
    ("serving", "dashboards"): "answers",
}
_STATES: Mapping[str, tuple[Tone, str]] = {
    "running": ("good", "running"),
    "starting": ("busy", "starting"),
    "restarting": ("bad", "restarting"),
    "stopped": ("bad", "stopped"),
    "gone": ("bad", "gone"),
}
_ORDER: Sequence[Tone] = ("bad", "busy", "idle", "good")
_DOWN = {"none": "no platform runs", "dead": "the platform died"}


# -- what is known -------------------------------------------------------------------------


def facts(flow: Flow, status: PlatformStatus) -> Facts:
    """Every text and class of the picture."""
    found: dict[str, str] = {}
    for name, node in NODES.items():
        tone, word = _health(node, flow, status)
        first, second = _figures(name, flow)
        found[f"t:{name}/first"], found[f"t:{name}/second"] = first, second
        found[f"t:{name}/health"] = f"{ICONS[tone]} {word}".strip()
        found[f"c:{name}/health"] = f"health {tone}"
        found[f"c:{name}"] = f"node {tone}"
        found[f"t:{name}/words"] = f"{name}: {first}; {second}; {word}".replace("; ;", ";")
    for source, target in ARROWS:
        per_s, over_s = _rate(flow, source, target)
        key = f"{source}>{target}"
        text = _rate_text(source, target, per_s)
        found[f"c:{key}"] = f"arrow speed{_speed(per_s)}"
        found[f"t:{key}"] = text
        mean = f" (mean of {over_s:.0f} s)" if over_s else ""
        found[f"t:{key}/words"] = f"{source} to {target}: {text}{mean}"
    return found


def tone_of(state: str) -> tuple[Tone, str]:
    """How good the state of a part is, and how it is called."""
    return _STATES.get(state, ("idle", state))


def _health(node: _Node, flow: Flow, status: PlatformStatus) -> tuple[Tone, str]:
    if node.parts:
        return _parts_health(node.parts, status)
    refused = flow.rejected_per_s
    storage = flow.storage
    damaged = [] if storage is None else [table for table in storage.tables if table.problem]
    health: dict[str, tuple[Tone, str]] = {
        "clients": ("good", "sending") if flow.accepted_per_s else ("idle", "quiet"),
        "dead letters": ("busy", "refusing events") if refused else ("good", "nothing refused"),
        "event log": ("good", "readable"),
        "lake": ("good", "readable"),
    }
    if storage is None:
        health["lake"] = ("bad", "cannot be read")
    elif damaged:
        health["lake"] = ("bad", f"{len(damaged)} tables damaged")
    return health[node.name]


def _parts_health(prefix: str, status: PlatformStatus) -> tuple[Tone, str]:
    """The worst of the parts of one name, of which there may be several."""
    if status.state in _DOWN:
        return "bad", "not running"
    parts = [p for p in status.parts if p.name == prefix or p.name.startswith(f"{prefix}-")]
    if not parts:
        return "idle", "not started"
    tones = [tone_of(part.state) for part in parts]
    tone, word = min(tones, key=lambda told: _ORDER.index(told[0]))
    same = sum(each == (tone, word) for each in tones)
    return tone, f"{same} of {len(parts)} {word}" if len(parts) > 1 else word


def _figures(name: str, flow: Flow) -> tuple[str, str]:
    """Two lines of figures about a box."""
    epochs, log, storage = flow.epochs, flow.log, flow.storage
    letters = _letters(flow)
    ready = sum(view.ready for view in flow.views)
    loads = max((view.batch_load for view in flow.views), default=0)
    covered = min((view.batch_epoch for view in flow.views), default=0)
    lines: dict[str, tuple[str, str]] = {
        "clients": (f"{_per_s(flow.accepted_per_s + flow.rejected_per_s)} sent", ""),
        "gateway": (f"{_per_s(flow.accepted_per_s)} accepted",
                    f"{_per_min(flow.rejected_per_s)} refused"),
        "dead letters": (f"{shown(letters)} held", f"{_per_min(flow.rejected_per_s)} now"),
        "event log": (f"{shown(log.events)} events",
                      f"{'on brokers' if log.bytes is None else size(log.bytes)}, "
                      f"kept {duration(log.retention.total_seconds())}"),
        "speed layer": (f"{shown(flow.lag_events)} wait, {duration(flow.lag_s)}",
                        f"epoch {epochs.open:,}: {shown(epochs.open_events)} events"),
        "lake": ("–", "") if storage is None else (
            size(storage.lake_bytes), f"{len(storage.tables)} tables, epoch {epochs.sealed:,}"),
        "batch layer": (f"to load {loads:,}, epoch {covered:,}",
                        f"{shown(epochs.uncovered_events)} events to cover"),
        "serving": (f"{ready:,} of {len(flow.views):,} views ready", "batch + speed, merged"),
        "dashboards": ("these pages", "each view asked once"),
    }  # fmt: skip
    return lines[name]


def _letters(flow: Flow) -> int:
    return next((topic.held for topic in flow.topics if topic.topic == DEAD_LETTERS), 0)


def _rate(flow: Flow, source: str, target: str) -> tuple[float | None, float]:
    """Events a second along an arrow, and over how long that is the mean; None: not known."""
    known = {(arrow.source, arrow.target): arrow for arrow in flow.arrows}
    if (source, target) in known:
        arrow = known[source, target]
        return arrow.events_per_s, arrow.over_s
    if target == "dead letters":
        return flow.rejected_per_s, known["clients", "gateway"].over_s
    return None, 0.0


def _rate_text(source: str, target: str, per_s: float | None) -> str:
    if (source, target) in _BY_PIECES:
        return _BY_PIECES[source, target]
    return "by the epoch" if per_s is None else _per_s(per_s)


def _per_s(per_s: float) -> str:
    return f"{shown(round(per_s, 1))} /s"


def _per_min(per_s: float) -> str:
    return f"{shown(round(per_s * 60))} /min"


def _speed(per_s: float | None) -> int:
    """How fast an arrow moves: 0 stands still, each step is ten times as much."""
    if not per_s:
        return 0
    return max(1, min(_FASTEST, 1 + int(log10(max(1.0, per_s)))))


def topics_first(flow: Flow) -> list[TopicFlow]:
    """The topics, those that most comes in through first."""
    return sorted(flow.topics, key=lambda topic: (-topic.in_per_s, -topic.appended, topic.topic))


# -- the picture ---------------------------------------------------------------------------


def flow_svg(known: Facts) -> str:
    """The picture of some facts, as SVG whose parts bear the keys of their facts."""
    arrows = "".join(_arrow_svg(known, *arrow) for arrow in ARROWS)
    nodes = "".join(_node_svg(known, node) for node in NODES.values())
    return (
        f'<svg class="flow" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'aria-label="How events flow through the platform; the list below says the same in words">'
        '<defs><marker id="flow-tip" viewBox="0 0 8 8" refX="6.5" refY="4" markerWidth="9" '
        'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
        f'<path class="tip-shape" d="M0 0.5 L7.5 4 L0 7.5 z"/></marker></defs>{arrows}{nodes}</svg>'
    )


def flow_words(known: Facts) -> str:
    """The same as a list of sentences."""
    names = [*NODES, *(f"{source}>{target}" for source, target in ARROWS)]
    lines = "".join(f"<li{_bound(f't:{name}/words')}>{_text(known, name)}</li>" for name in names)
    return f'<ul class="flow-words">{lines}</ul>'


def _text(known: Facts, name: str) -> str:
    return escape(known[f"t:{name}/words"])


def _bound(*keys: str) -> str:
    """The attributes that tell which facts a part shows."""
    return "".join(f' data-{key[0]}="{escape(key[2:])}"' for key in keys)


def _node_svg(known: Facts, node: _Node) -> str:
    middle = node.x + _NODE_W // 2
    rows = (
        ("title", 22, node.name),
        ("first", 45, None),
        ("second", 64, None),
        ("health", 90, None),
    )
    texts = "".join(_line_svg(known, node, kind, middle, y, text) for kind, y, text in rows)
    return (
        f'<g class="{escape(known[f"c:{node.name}"])}"{_bound(f"c:{node.name}")}>'
        f'<rect x="{node.x}" y="{node.y}" width="{_NODE_W}" height="{_NODE_H}" rx="10"/>{texts}</g>'
    )


def _line_svg(
    known: Facts, node: _Node, kind: str, middle: int, below: int, text: str | None
) -> str:
    place = f'x="{middle}" y="{node.y + below}"'
    if text is not None:
        return f'<text class="{kind}" {place}>{escape(text.capitalize())}</text>'
    key = f"{node.name}/{kind}"
    keys, style = [f"t:{key}"], kind
    if f"c:{key}" in known:
        keys, style = [f"t:{key}", f"c:{key}"], known[f"c:{key}"]
    return (
        f'<text class="{escape(style)}"{_bound(*keys)} {place}>{escape(known[f"t:{key}"])}</text>'
    )


def _arrow_svg(known: Facts, source: str, target: str) -> str:
    key = f"{source}>{target}"
    x1, y1, x2, y2 = _ends(NODES[source], NODES[target])
    path = f"M{x1} {y1} L{x2} {y2}"
    is_down = x1 == x2
    place = (
        f'x="{x1 + 12}" y="{(y1 + y2) // 2 + 4}" text-anchor="start"'
        if is_down
        else f'x="{(x1 + x2) // 2}" y="{y1 - 10}" text-anchor="middle"'
    )
    return (
        f'<g class="{escape(known[f"c:{key}"])}"{_bound(f"c:{key}")}>'
        f'<path class="way" d="{path}" marker-end="url(#flow-tip)"/>'
        f'<path class="dashes" d="{path}"/>'
        f'<text class="rate"{_bound(f"t:{key}")} {place}>{escape(known[f"t:{key}"])}</text></g>'
    )


def _ends(source: _Node, target: _Node) -> tuple[int, int, int, int]:
    """Where an arrow begins and ends: at the sides of two boxes that face each other."""
    half_w, half_h = _NODE_W // 2, _NODE_H // 2
    if source.column == target.column:
        x = source.x + half_w
        down = source.y < target.y
        start = source.y + (_NODE_H if down else 0)
        return x, start, x, target.y - 4 if down else target.y + _NODE_H + 4
    y = source.y + half_h
    return source.x + _NODE_W, y, target.x - 4, y


def changes(before: Facts, now: Facts) -> Iterator[tuple[str, str]]:
    """The facts that are others now."""
    return ((key, value) for key, value in now.items() if before.get(key) != value)
