"""Tables as options of ECharts (https://echarts.apache.org/en/option.html): pure functions.

Numbers keep their digits up to here and are floats beyond it; what has no value leaves a gap.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from playhead.dashboard.drawing.palette import AXIS, CATEGORIES, MUTED
from playhead.dashboard.drawing.parts import (
    MOST_SERIES,
    Options,
    Unit,
    axis,
    base,
    colour_of,
    column,
    names_of,
    plain,
    times,
    tooltip,
    values_axis,
)

__all__ = ["bars", "lines", "scatter"]


def lines(
    table: pa.Table,
    x: str,
    ys: Mapping[str, str],
    unit: Unit,
    *,
    by: str | None = None,
    stacked: bool = False,
    area: bool = False,
    open_from: datetime | None = None,
    revised: Mapping[datetime, int] | None = None,
    before: pa.Table | None = None,
    shift_ms: float = 0.0,
    names: Callable[[Any], str] | None = None,
    categories: Sequence[str] = (),
    most: int = MOST_SERIES,
) -> Options:
    """Lines over time, or over categories.

    Args:
        x: the column with the time, ascending.
        ys: columns of values, and how each is called.
        by: one line for each value of this column, the largest first; then only the first of `ys`.
        open_from: windows from this time on are not final: they lie on a shaded ground.
        revised: windows that late events have changed, and how many did: they are marked.
        before: the same of the period before, drawn paler, `shift_ms` later.
        names: how a time is written as one of the `categories`.
        categories: from left to right, in the place of times; a line has a gap at those that it
            has no value of.
        most: lines that are drawn.
    """
    found = _lines(table, x, ys, unit, by, most)
    if categories:
        at = names or str
        written = dict(zip(map(plain, column(table, x)), map(at, column(table, x)), strict=True))
        found = [(name, _along(points, written, categories)) for name, points in found]
    colours = {name: colour_of(place) for place, (name, _) in enumerate(found)}
    series = [_line(n, points, colours[n], stacked=stacked, area=area) for n, points in found]
    if categories:
        # A value between two gaps is a point, and no line at all.
        series = [each | {"showSymbol": True, "showAllSymbol": True} for each in series]
    if before is not None:
        for name, points in _lines(before, x, ys, unit, by):
            moved = [[t + shift_ms, v] for t, v in points]
            series.append(_paler(name, moved, colours.get(name, MUTED)))
    if series:
        _mark(series[0], open_from, revised or {})
    return {
        **base(unit, legend=len(series) > 1),
        "xAxis": _steps(categories) if categories else times(),
        "yAxis": values_axis(unit),
        "series": series,
    }  # fmt: skip


def bars(
    table: pa.Table,
    x: str,
    ys: Mapping[str, str],
    unit: Unit,
    *,
    by: str | None = None,
    across: bool = False,
    stacked: bool = False,
    names: Callable[[Any], str] | None = None,
    categories: Sequence[str] = (),
    names_px: int = 130,
) -> Options:
    """Bars by category, in the table's order.

    Args:
        by: one colour for each value of this column; then only the first of `ys`.
        across: categories from top to bottom, which leaves room for long names.
        names: how a category is written.
        categories: those that are shown; none: all there are, in the table's order.
        names_px: how wide their names may be, across.
    """
    categories = categories or list(dict.fromkeys(names_of(table, x, names)))
    series = [
        {
            "type": "bar",
            "name": name,
            "data": [values.get(category) for category in categories],
            "itemStyle": {"color": colour_of(place), "borderRadius": 0 if stacked else 2},
            "stack": "all" if stacked else None,
            "barMaxWidth": 26,
            "emphasis": {"focus": "series"},
        }
        for place, (name, values) in enumerate(_bars(table, x, ys, unit, by, names).items())
    ]
    by_name = {"type": "category", "data": categories, **axis(), "axisTick": {"show": False}}
    if across:
        by_name |= {
            "inverse": True,
            "axisLabel": {"color": AXIS, "width": names_px, "overflow": "truncate"},
        }
    return {
        **base(unit, legend=len(series) > 1, pointer="shadow"),
        "xAxis": values_axis(unit) if across else by_name,
        "yAxis": by_name if across else values_axis(unit),
        "series": series,
    }


def scatter(table: pa.Table, x: str, y: str, unit: Unit, *, by: str | None = None) -> Options:
    """Points of two numbers, coloured by a category."""
    names = names_of(table, by) if by else [y] * table.num_rows
    found: dict[str, list[list[Any]]] = {}
    for name, a, b in zip(names, column(table, x), column(table, y), strict=True):
        found.setdefault(name, []).append([plain(a), plain(b, unit)])
    return {
        **base(unit, legend=len(found) > 1, pointer="cross"),
        "tooltip": {**tooltip(), "trigger": "item"},
        "xAxis": {"type": "value", "scale": True, "name": x, **axis()},
        "yAxis": values_axis(unit),
        "series": [
            {"type": "scatter", "name": n, "data": p, "itemStyle": {"color": colour_of(i)}}
            for i, (n, p) in enumerate(list(found.items())[:MOST_SERIES])
        ],
    }


def _steps(categories: Sequence[str]) -> Options:
    return {"type": "category", "data": list(categories), **axis(), "axisTick": {"show": False}}


def _along(
    points: Sequence[Sequence[Any]], written: Mapping[Any, str], categories: Sequence[str]
) -> list[list[Any]]:
    """The points of a line by category, with gaps where it has none."""
    found = {written[time]: value for time, value in points}
    return [[category, found.get(category)] for category in categories]


def _line(name: str, points: list[list[Any]], colour: str, *, stacked: bool, area: bool) -> Options:
    return {
        "type": "line",
        "name": name,
        "data": points,
        "showSymbol": len(points) < 3,
        "symbolSize": 6,
        "lineStyle": {"width": 1 if stacked else 2, "color": colour},
        "itemStyle": {"color": colour},
        "areaStyle": {"opacity": 0.55 if stacked else 0.12} if stacked or area else None,
        "stack": "all" if stacked else None,
        "emphasis": {"focus": "series"},
    }


def _paler(name: str, points: list[list[Any]], colour: str) -> Options:
    return {
        "type": "line",
        "name": f"{name}, before",
        "data": points,
        "showSymbol": False,
        "lineStyle": {"width": 1.5, "type": "dashed", "color": colour, "opacity": 0.6},
        "itemStyle": {"color": colour, "opacity": 0.6},
    }


def _mark(series: Options, open_from: datetime | None, revised: Mapping[datetime, int]) -> None:
    """Show which windows may still change, and which have changed after they were final."""
    points = series["data"]
    if open_from is not None and points and points[-1][0] >= plain(open_from):
        ground = [{"xAxis": plain(open_from), "name": "open"}, {"xAxis": points[-1][0]}]
        series["markArea"] = {
            "silent": True,
            "itemStyle": {"color": "rgba(134, 145, 163, 0.14)"},
            "label": {"color": AXIS, "fontSize": 10, "position": "insideTop"},
            "data": [ground],
        }
    at = {plain(start): late for start, late in revised.items()}
    marks = [
        {"coord": [t, v], "value": at[t], "name": f"{at[t]} late"}
        for t, v in points
        if t in at and v is not None
    ]
    if marks:
        series["markPoint"] = {
            "symbol": "triangle",
            "symbolSize": 9,
            "itemStyle": {"color": CATEGORIES[4]},
            "label": {"show": False},
            "tooltip": {"show": True, ":formatter": "p => p.name + ' events revised this window'"},
            "data": marks,
        }


def _lines(
    table: pa.Table,
    x: str,
    ys: Mapping[str, str],
    unit: Unit,
    by: str | None,
    most: int = MOST_SERIES,
) -> list[tuple[str, list[list[Any]]]]:
    """The name and the points [time, value] of each line."""
    at = [plain(value) for value in column(table, x)]
    if by is None:
        return [
            (name, [[t, plain(v, unit)] for t, v in zip(at, column(table, y), strict=True)])
            for y, name in ys.items()
        ]
    found: dict[str, list[list[Any]]] = {}
    for t, name, v in zip(at, names_of(table, by), column(table, next(iter(ys))), strict=True):
        found.setdefault(name, []).append([t, plain(v, unit)])
    return [(name, found[name]) for name in _largest(found, lambda point: point[1], most)]


def _bars(
    table: pa.Table,
    x: str,
    ys: Mapping[str, str],
    unit: Unit,
    by: str | None,
    names: Callable[[Any], str] | None,
) -> dict[str, dict[str, Any]]:
    """The values of each colour, by category."""
    categories = names_of(table, x, names)
    if by is None:
        return {
            name: dict(zip(categories, (plain(v, unit) for v in column(table, y)), strict=True))
            for y, name in ys.items()
        }
    found: dict[str, dict[str, Any]] = {}
    values = column(table, next(iter(ys)))
    for category, name, v in zip(categories, names_of(table, by), values, strict=True):
        found.setdefault(name, {})[category] = plain(v, unit)
    ordered = _largest({n: list(v.items()) for n, v in found.items()}, lambda point: point[1])
    return {name: found[name] for name in ordered}


def _largest(
    found: Mapping[str, Sequence[Any]], value: Callable[[Any], Any], most: int = MOST_SERIES
) -> list[str]:
    """The names with the most, as many as can be told apart."""
    sums = {name: sum(value(p) or 0.0 for p in points) for name, points in found.items()}
    return sorted(sums, key=lambda name: -sums[name])[:most]
