"""What all charts are made of: units, axes, tooltips, colours, columns as values."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from playhead.dashboard.drawing.palette import AXIS, CATEGORIES, GRID

__all__ = [
    "ESCAPE", "LEGEND", "MOST_SERIES", "Options", "Unit", "axis", "base", "colour_of", "column",
    "names_of", "plain", "times", "tooltip", "values_axis",
]  # fmt: skip

Options = dict[str, Any]
LEGEND: Options = {"type": "scroll", "top": 0, "left": 0, "textStyle": {"color": AXIS},
                   "icon": "roundRect", "itemWidth": 12, "itemHeight": 8}  # fmt: skip
"""Above a chart, which then begins 32 pixels from the top."""
MOST_SERIES = 12
_FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_UNNAMED = "(unknown)"
_BYTES = """v => {
  if (v == null || v === '-') return '–';
  const step = Math.min(4, Math.floor(Math.log10(Math.max(1, v)) / 3));
  const digits = {maximumSignificantDigits: 3};
  const unit = ['B', 'kB', 'MB', 'GB', 'TB'][step];
  return (v / 1000 ** step).toLocaleString('en', digits) + ' ' + unit;
}"""
ESCAPE = """s => s.replace(/[&<>"']/g, c => '&#' + c.charCodeAt(0) + ';')"""
"""Names come with events: what a tooltip shows of them must stay text."""


@dataclass(frozen=True)
class Unit:
    """What a number counts, and how it is written.

    Attributes:
        name: behind the number, such as "min"; "%" for shares of 0 to 1; "$" stands before it;
            "B" for bytes, which are written in kB, MB, and so on.
        digits: after the decimal point at most.
        is_fixed: always so many digits, as columns of numbers want it.
    """

    name: str = ""
    digits: int = 0
    is_fixed: bool = False

    @property
    def is_share(self) -> bool:
        return self.name == "%"

    @property
    def script(self) -> str:
        """A function of JavaScript that writes a number in full."""
        if self.name == "B":
            return _BYTES
        digits = self.digits
        least = digits if self.is_fixed else 0
        told = f"{{minimumFractionDigits: {least}, maximumFractionDigits: {digits}}}"
        text = f"Number(v).toLocaleString('en', {told})"
        written = f"'{self.name}' + {text}" if self.name in ("$", "€") else text
        behind = "" if self.name in ("", "$", "€") else f" + ' {self.name}'"
        return f"v => v == null || v === '-' ? '–' : {written}{behind}"

    @property
    def axis_script(self) -> str:
        """The same for an axis, where large numbers are shortened."""
        if self.name == "B":
            return _BYTES
        text = "Intl.NumberFormat('en', {notation: 'compact', maximumFractionDigits: 1}).format(v)"
        if self.name in ("$", "€"):
            return f"v => '{self.name}' + {text}"
        return f"v => {text}" + (f" + ' {self.name}'" if self.name in ("%", "h") else "")


def plain(value: Any, unit: Unit | None = None) -> Any:
    """A value as JSON knows it: times in milliseconds of 1970 (UTC), shares in percent."""
    if isinstance(value, (Decimal, float, int)) and not isinstance(value, bool):
        number = float(value)
        return round(number * 100, 6) if unit is not None and unit.is_share else number
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).timestamp() * 1000
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp() * 1000
    return value


def base(unit: Unit, *, legend: bool, pointer: str = "line") -> Options:
    """The options that all charts begin with."""
    return {
        "useUTC": True,
        "animationDuration": 250,
        "animationDurationUpdate": 300,
        "textStyle": {"fontFamily": _FONT},
        "aria": {"enabled": True},
        "legend": LEGEND if legend else {"show": False},
        "grid": {"left": 6, "right": 20, "top": 32 if legend else 14, "bottom": 4,
                 "containLabel": True},
        "tooltip": {
            **tooltip(),
            "trigger": "axis",
            "axisPointer": {"type": pointer, "label": {"show": False}},
            ":valueFormatter": unit.script,
        },
    }  # fmt: skip


def tooltip() -> Options:
    """What stands beside the pointer."""
    return {
        "confine": True,
        "backgroundColor": "rgba(23, 29, 39, 0.94)",
        "borderWidth": 0,
        "textStyle": {"color": "#eef1f6", "fontSize": 12},
    }


def axis() -> Options:
    """The look of any axis."""
    return {
        "axisLabel": {"color": AXIS, "hideOverlap": True},
        "axisLine": {"lineStyle": {"color": GRID}},
        "axisTick": {"lineStyle": {"color": GRID}},
    }


def times() -> Options:
    """An axis of time (UTC)."""
    written = {"month": "{MMM}", "day": "{MMM} {d}", "hour": "{HH}:{mm}", "minute": "{HH}:{mm}"}
    shared = axis()
    label = {**shared["axisLabel"], "formatter": written}
    return {"type": "time", **shared, "axisLabel": label, "splitLine": {"show": False}}


def values_axis(unit: Unit) -> Options:
    """An axis of numbers."""
    return {
        "type": "value",
        "axisLabel": {"color": AXIS, ":formatter": unit.axis_script, "hideOverlap": True},
        "splitLine": {"lineStyle": {"color": GRID}},
        "splitNumber": 4,
    }


def column(table: pa.Table, name: str) -> list[Any]:
    """The values of a column."""
    values: list[Any] = table.column(name).to_pylist()
    return values


def names_of(table: pa.Table, name: str, written: Callable[[Any], str] | None = None) -> list[str]:
    """A column as names of categories."""
    write = written or str
    return [_UNNAMED if value is None else write(value) for value in column(table, name)]


def colour_of(place: int) -> str:
    """The colour of the category at a place."""
    return CATEGORIES[place % len(CATEGORIES)]
