"""What the demo on a cluster found, on stdout: every view compared, figures, addresses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from playhead.demo.check import compare
from playhead.demo.headlines import plain_table

__all__ = ["Compared", "Figures", "compare_answers", "print_comparison", "print_figures"]


@dataclass
class Figures:
    """What a run measured.

    Attributes:
        accepted, refused: events, by the gateway.
        sent_s: seconds of sending, from the first request of a part to its last answer.
        state_s: seconds after that until all of it was in state.
        batch_s, embedded_s: of the batch layer on the cluster, and of all that the embedded
            workspace did.
        engines: what computed on the cluster.
    """

    accepted: int = 0
    refused: int = 0
    sent_s: float = 0.0
    state_s: float = 0.0
    batch_s: float = 0.0
    embedded_s: float = 0.0
    engines: str = ""


@dataclass(frozen=True)
class Compared:
    """A view's answers: of the cluster, of the embedded layers, and recomputed from every event.

    Attributes:
        rows, columns: of the recomputation.
        differing: rows that only one has, of the cluster's or the embedded answer and the
            recomputation.
        example: such a row; empty if there is none.
        seconds: that the three took, in this order.
        waits: why there is no answer; then nothing was compared.
    """

    view: str
    rows: int = 0
    columns: int = 0
    differing: int = 0
    example: str = ""
    seconds: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))
    waits: str = ""

    @property
    def equal(self) -> bool:
        return not self.differing and not self.waits


def compare_answers(
    view: str,
    cluster: pa.Table,
    embedded: pa.Table,
    full: pa.Table,
    seconds: tuple[float, float, float],
) -> Compared:
    """Compare a view's three answers, digit for digit."""
    by_cluster, example = compare(cluster, full)
    by_embedded, other = compare(embedded, full)
    told = [f"cluster: {example}"] * bool(example) + [f"embedded: {other}"] * bool(other)
    return Compared(
        view,
        full.num_rows,
        full.num_columns,
        by_cluster + by_embedded,
        "; ".join(told),
        seconds,
    )


def print_comparison(out: Console, compared: Sequence[Compared]) -> bool:
    """A line for each view, and the verdict; whether all are equal and at least one has rows."""
    table = plain_table()
    table.add_column("view")
    for name in ("rows", "values", "cluster", "embedded", "recomputed"):
        table.add_column(name, justify="right")
    table.add_column("")
    for one in compared:
        times = [f"{seconds:.2f} s" for seconds in one.seconds]
        table.add_row(
            one.view, f"{one.rows:,}", f"{one.rows * one.columns:,}", *times, _result(one)
        )
    out.print(Text.assemble(("the check", "bold"), "  cluster == embedded == recomputed"))
    out.print(table)
    out.print()
    for one in compared:
        if not one.equal:
            out.print(Text(f"{one.view}: {one.waits or one.example}", style="red"))
    different = [one.view for one in compared if not one.equal]
    rows = sum(one.rows for one in compared)
    if different or not rows:
        told = f"  in {', '.join(different)}" if different else "  no view has rows"
        out.print(Text.assemble(("NOT EQUAL", "bold red"), told))
        return False
    values = sum(one.rows * one.columns for one in compared)
    out.print(
        Text.assemble(
            ("EQUAL", "bold green"),
            f"  {len(compared)} views, {rows:,} rows, {values:,} values, every digit the same",
        )
    )
    return True


def _result(one: Compared) -> Text:
    if one.waits:
        return Text("no answer", style="bold red")
    if one.differing:
        return Text(f"{one.differing:,} rows differ", style="bold red")
    return Text("equal", style="green")


def print_figures(out: Console, figures: Figures, addresses: Mapping[str, str]) -> None:
    """How fast it was, and where everything listens."""
    table: Table = plain_table()
    table.show_header = False
    table.add_column("", style="dim")
    table.add_column("")
    through = figures.accepted / figures.sent_s if figures.sent_s else 0.0
    into = figures.accepted / (figures.sent_s + figures.state_s) if figures.sent_s else 0.0
    table.add_row("events", f"{figures.accepted:,} accepted, {figures.refused:,} refused")
    table.add_row("gateway", f"{through:,.0f} events/s acknowledged, on brokers by then")
    table.add_row("speed layer", f"{into:,.0f} events/s, from the gateway's door into state")
    table.add_row("batch layer", f"{figures.batch_s:.1f} s over the first nine tenths")
    table.add_row("embedded", f"{figures.embedded_s:.1f} s for the same events, all of it")
    table.add_row("engines", figures.engines)
    for name, address in addresses.items():
        table.add_row(name, address)
    out.print()
    out.print(Text("the cluster", style="bold"))
    out.print(table)
