"""Heat maps and areas as options of ECharts: pure functions, as those of `charts`."""

import json
from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa

from playhead.dashboard.drawing.palette import AMOUNTS, AXIS
from playhead.dashboard.drawing.parts import (
    ESCAPE,
    Options,
    Unit,
    axis,
    base,
    colour_of,
    column,
    names_of,
    plain,
    tooltip,
)
from playhead.dashboard.numbers import shown

__all__ = ["heat", "treemap"]


def heat(
    table: pa.Table,
    x: str,
    y: str,
    value: str,
    unit: Unit,
    *,
    colours: Sequence[str] = AMOUNTS,
    highest: float | None = None,
    size: str | None = None,
    size_name: str = "",
    labels: bool = False,
    xs: Sequence[str] = (),
    ys: Sequence[str] = (),
    paler: Collection[tuple[str, str]] = (),
) -> Options:
    """A heat map of two categories, each in the order in which its names first come.

    Args:
        highest: the value of the deepest colour; by default the highest there is.
        size: a column that tells how much a cell is made of; shown with the cell.
        labels: write the value into each cell.
        xs, ys: the categories that are shown, in another order or with some that have no cell.
        paler: cells (x, y) whose values are not those of all that is to come.
    """
    at_xs, at_ys = names_of(table, x), names_of(table, y)
    across, down = list(dict.fromkeys(xs or at_xs)), list(dict.fromkeys(ys or at_ys))
    values = [plain(v, unit) for v in column(table, value)]
    sizes = [plain(v) for v in column(table, size)] if size else [None] * len(values)
    places = ({n: i for i, n in enumerate(names)} for names in (across, down))
    at_x, at_y = next(places), next(places)
    top = highest if highest is not None else max((v for v in values if v is not None), default=1)
    cells = [
        _cell([at_x[a], at_y[b], v, n], top or 1, (a, b) in paler)
        for a, b, v, n in zip(at_xs, at_ys, values, sizes, strict=True)
        if a in at_x and b in at_y
    ]
    told = f"({unit.script})(p.value[2])"
    behind = f" + '<br>{size_name}: ' + Number(p.value[3]).toLocaleString('en')" if size else ""
    return {
        **base(unit, legend=False),
        "grid": {"left": 20, "right": 8, "top": 8, "bottom": 44, "containLabel": True},
        "tooltip": {
            **tooltip(),
            "trigger": "item",
            ":formatter": f"p => p.marker + ({ESCAPE})({json.dumps(down)}[p.value[1]] + ', ' + "
            f"p.name) + '<br><b>' + {told} + '</b>'{behind}",
        },
        "xAxis": {"type": "category", "data": across, **axis(), "splitArea": {"show": False}},
        "yAxis": {"type": "category", "data": down, **axis(), "inverse": True},
        "visualMap": _scale(top or 1, unit, colours),
        "series": [
            {
                "type": "heatmap",
                "labelLayout": {"hideOverlap": True},
                "data": cells,
                "label": {
                    "show": labels,
                    "fontSize": 10,
                    ":formatter": "p => p.value[2] == null ? '' : "
                    + (
                        f"({unit.axis_script})(Math.round(p.value[2]))"
                        if unit.is_share
                        else f"({unit.axis_script})(p.value[2])"
                    ),
                },
                "itemStyle": {"borderColor": "rgba(128,128,128,0.15)", "borderWidth": 1},
            }
        ],
    }


def _scale(top: float, unit: Unit, colours: Sequence[str]) -> Options:
    """What the colours of a heat map stand for, from 0 to `top`."""
    return {
        "min": 0,
        "max": top,
        "dimension": 2,
        "calculable": False,
        "orient": "horizontal",
        "left": "center",
        "bottom": 0,
        "itemHeight": 120,
        "itemWidth": 10,
        "textStyle": {"color": AXIS},
        "text": [_told(top, unit), _told(0, unit)],
        "inRange": {"color": list(colours)},
        ":formatter": unit.axis_script,
    }


def treemap(table: pa.Table, group: str, name: str, value: str, unit: Unit) -> Options:
    """Areas by size, those of one group side by side and in its colour, the largest first."""
    found: dict[str, list[Options]] = {}
    for of, each, number in zip(
        names_of(table, group), names_of(table, name), column(table, value), strict=True
    ):
        if number:
            found.setdefault(of, []).append({"name": each, "value": plain(number, unit)})
    groups = [
        {
            "name": of,
            "children": parts,
            "itemStyle": {"color": colour_of(place), "borderColor": colour_of(place)},
        }
        for place, (of, parts) in enumerate(found.items())
    ]
    told = f"({unit.script})(p.value)"
    heading = {
        "show": True,
        "height": 22,
        "color": "#fff",
        "fontSize": 12,
        "fontWeight": "bold",
        ":formatter": f"p => p.name + '  ' + {told}",
    }
    return {
        **base(unit, legend=False),
        "tooltip": {
            **tooltip(),
            "trigger": "item",
            ":formatter": f"p => ({ESCAPE})(p.name) + '<br><b>' + {told} + '</b>'",
        },
        "series": [
            {
                "type": "treemap",
                "data": groups,
                "left": 0, "right": 0, "top": 0, "bottom": 0,
                "roam": False,
                "nodeClick": False,
                "breadcrumb": {"show": False},
                "label": {
                    "show": True,
                    "color": "#fff",
                    "fontSize": 11,
                    "lineHeight": 15,
                    "overflow": "truncate",
                    ":formatter": f"p => p.name + '\\n' + {told}",
                },
                "upperLabel": heading,
                "itemStyle": {"borderColor": "rgba(255,255,255,0.35)", "borderWidth": 1,
                              "gapWidth": 1},
                "levels": [
                    {"itemStyle": {"borderWidth": 0, "gapWidth": 4}, "upperLabel": {"show": False}},
                    {"itemStyle": {"borderWidth": 0, "gapWidth": 1}, "upperLabel": heading},
                ],
            }
        ],
    }  # fmt: skip


def _cell(value: list[Any], highest: float, is_paler: bool) -> Options:
    """A cell of a heat map, whose label can be read on its colour."""
    is_deep = value[2] is not None and value[2] > 0.55 * highest and not is_paler
    style = {"itemStyle": {"opacity": 0.45}} if is_paler else {}
    colour = AXIS if is_paler else "#ffffff" if is_deep else "#1a2230"
    return {"value": value, "label": {"color": colour}, **style}


def _told(value: float, unit: Unit) -> str:
    """A value of a chart in words, where no script can write it."""
    return shown(value / 100, "%") if unit.is_share else shown(value, unit.name)
