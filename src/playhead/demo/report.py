"""What the demo found, on stdout: headlines, quality, live traffic, alerts, and the verdict."""

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from playhead.batch.deadletters import ReasonCount
from playhead.batch.quality import Metric, headline
from playhead.demo.check import Verdict
from playhead.demo.headlines import HEADLINES, headline_of, level_text, plain_table
from playhead.demo.stages import alerts_text, freshness_text
from playhead.demo.traffic import Pulse
from playhead.ops.gates import Gate
from playhead.speed.records import Alert

__all__ = [
    "print_alerts",
    "print_check",
    "print_gates",
    "print_headlines",
    "print_letters",
    "print_quality",
    "print_traffic",
    "report_console",
]

_PIPED_WIDTH = 120
_SHOWN_ALERTS = 5
_SHOWN_REASONS = 10
_GATE_STYLES = {"pass": "green", "fail": "bold red", "unknown": "dim"}
_LEVELS = ("HIGH", "MEDIUM")
_QUALITY = {
    "duplicates": ("full_row_duplicates",),
    "missing": ("missing",),
    "violations": ("rejected", "type_violations", "enum_violations", "required_missing"),
    "orphans": ("orphan_keys",),
    "implausible": ("out_of_range", "longer_than_title", "click_without_results"),
    "too early": ("before_subscription", "before_added"),
}


def report_console() -> Console:
    """Stdout, as wide as the terminal; elsewhere wide enough for every table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)


def print_headlines(out: Console, verdicts: Sequence[Verdict]) -> None:
    """The headline of every view that has an answer: the built-in ones first."""
    answers = {verdict.view: verdict.answer for verdict in verdicts if not verdict.waits}
    for name in sorted(answers, key=lambda n: [*HEADLINES, n].index(n)):
        _print(out, name, *headline_of(name, answers[name]))


def print_quality(out: Console, metrics: Sequence[Metric]) -> None:
    """What the loaded files hold that they should not, a line for each table."""
    table = plain_table()
    table.add_column("table")
    for name in ("rows", *_QUALITY):
        table.add_column(name, justify="right")
    for name in dict.fromkeys(metric.table for metric in metrics):
        found: dict[str, int] = {}
        for metric in metrics:
            if metric.table == name:
                found[metric.metric] = found.get(metric.metric, 0) + (metric.value or 0)
        counts = [sum(found.get(part, 0) for part in parts) for parts in _QUALITY.values()]
        table.add_row(name, *(f"{count:,}" if count else "–" for count in (found["rows"], *counts)))
    _print(out, "quality report", headline(metrics), table)


def print_traffic(out: Console, pulse: Pulse) -> None:
    """How the events came through the gateway and the speed layer."""
    table = plain_table()
    table.add_column("", style="dim")
    table.add_column("")
    table.show_header = False
    table.add_row("gateway", f"{pulse.accepted:,} accepted, {pulse.refused:,} refused")
    table.add_row("events", f"{pulse.in_state:,}, at {pulse.events_per_s:,.0f} a second into state")
    table.add_row("duplicates", f"{pulse.duplicates:,} dropped")
    table.add_row("freshness", freshness_text(pulse))
    table.add_row("windows", f"{pulse.final:,} final, {pulse.windows - pulse.final:,} still open")
    table.add_row("alerts", alerts_text(pulse.alerts))
    _print(out, "live traffic", "What came over HTTP", table)


def print_letters(out: Console, reasons: Sequence[ReasonCount]) -> None:
    """The events that were refused, by reason."""
    table = plain_table()
    table.add_column("letters", justify="right")
    table.add_column("reason", no_wrap=True, overflow="ellipsis")
    for one in reasons[:_SHOWN_REASONS]:
        table.add_row(f"{one.letters:,}", Text(one.reason))
    count = sum(one.letters for one in reasons)
    title = f"{count:,} refused events, kept with their bytes and reasons"
    _print(out, "dead letters", title if reasons else "None was refused", table)


def print_gates(out: Console, gates: Sequence[Gate]) -> None:
    """How well ingestion keeps its promises; the bad events break those about rejections."""
    table = plain_table()
    table.add_column("gate")
    table.add_column("limit", justify="right")
    table.add_column("measured", justify="right")
    table.add_column("")
    for gate in gates:
        value = "–" if gate.now.value is None else f"{gate.now.value:,.6g} {gate.unit}"
        limit = f"{gate.comparator} {gate.limit:g} {gate.unit}"
        table.add_row(gate.name, limit, value, Text(gate.status, style=_GATE_STYLES[gate.status]))
    passed = sum(gate.status == "pass" for gate in gates)
    title = f"{passed} of {len(gates)} pass, bad events and the data's own repeats included"
    _print(out, "gates", title, table)


def print_alerts(out: Console, alerts: Sequence[Alert]) -> None:
    """The gravest alerts of the live traffic."""
    rows = [(alert, json.loads(alert.keys), json.loads(alert.detail)) for alert in alerts]
    rows.sort(key=lambda row: (_LEVELS.index(row[0].level), -_revenue(row[2])))
    table = plain_table()
    for name in ("window (UTC)", "where"):
        table.add_column(name, no_wrap=name != "where")
    table.add_column("$ a month", justify="right")
    table.add_column("alert")
    for alert, keys, detail in rows[:_SHOWN_ALERTS]:
        where = ", ".join(str(value) for value in keys.values() if value is not None)
        revenue = f"{_revenue(detail):,.2f}"
        window = f"{alert.window_start:%Y-%m-%d %H:%M}"
        table.add_row(window, where, revenue, level_text(alert.level))
    views = ", ".join(sorted({alert.view for alert in alerts}))
    title = f"The gravest of {len(rows):,} of {views}, raised as their windows became final"
    _print(out, "alerts", title if rows else "None was raised", table)


def _revenue(detail: dict[str, Any]) -> float:
    return float(detail.get("revenue_impact") or 0)


def print_check(out: Console, verdicts: Sequence[Verdict], events: tuple[int, int]) -> bool:
    """Both answers of every view, and the verdict; whether all are equal.

    Args:
        events: counted by the batch layer, and by the speed layer.
    """
    table = plain_table()
    table.add_column("view")
    for name in ("rows", "values", "merged", "recomputed"):
        table.add_column(name, justify="right")
    table.add_column("")
    for verdict in verdicts:
        table.add_row(*_compared(verdict))
    _print(out, "the check", "Merged answer == recomputation from every event", table)
    for verdict in verdicts:
        if not verdict.equal:
            style = "yellow" if verdict.waits else "red"
            out.print(Text(f"{verdict.view}: {verdict.waits or verdict.example}", style=style))
    compared = [verdict for verdict in verdicts if not verdict.waits]
    equal = bool(compared) and all(verdict.equal for verdict in compared)
    out.print(_verdict(compared, events, equal=equal))
    return equal


def _compared(verdict: Verdict) -> list[RenderableType]:
    if verdict.waits:
        return [verdict.view, "–", "–", "–", "–", Text("waits", style="yellow")]
    result = Text("equal", style="green")
    if not verdict.equal:
        result = Text(f"{verdict.differing:,} rows differ", style="bold red")
    return [
        verdict.view,
        f"{verdict.rows:,}",
        f"{verdict.values:,}",
        f"{verdict.merged_s:.2f} s",
        f"{verdict.full_s:.2f} s",
        result,
    ]


def _verdict(compared: Sequence[Verdict], events: tuple[int, int], *, equal: bool) -> Text:
    if not compared:
        return Text.assemble(("NOT CHECKED", "bold red"), "  no view has an answer")
    if not equal:
        different = ", ".join(verdict.view for verdict in compared if not verdict.equal)
        return Text.assemble(("NOT EQUAL", "bold red"), f"  in {different}")
    rows = sum(verdict.rows for verdict in compared)
    values = sum(verdict.values for verdict in compared)
    return Text.assemble(
        ("EQUAL", "bold green"),
        f"  {len(compared)} view{'s' * (len(compared) > 1)}, {rows:,} rows, {values:,} values,"
        " every digit the same:\n"
        f"       {events[0]:,} events from the batch layer and {events[1]:,} from the speed layer"
        " make one answer.",
    )


def _print(out: Console, name: str, title: str, table: Table) -> None:
    out.print(Text.assemble((name, "bold"), f"  {title}"))
    if table.row_count:
        out.print(table)
    out.print()
