"""The tables of docs/scaling.md, as `playhead plan` makes them.

`python tests/scaling_page.py` writes them into the page anew.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from typer.testing import CliRunner

from playhead.cli import app
from playhead.cli.plan import FIGURE_COLUMNS, figure_rows, markdown
from playhead.ops.capacity import CapacityPlan, Load, plan

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
RATES = (50_000, 500_000, 1_000_000)
PLACE = re.compile(r"(<!-- table: ([\w -]+?) -->\n).*?(<!-- end -->)", re.DOTALL)

_OVERVIEW = (
    ("gateway", "cores"),
    ("Kafka", "brokers"),
    ("Kafka", "partitions"),
    ("Kafka", "disk"),
    ("speed", "cores"),
    ("batch", "cores"),
    ("lake", "a day"),
    ("lake", "history"),
    ("network", "into gateways"),
    ("total", "cores"),
    ("total", "memory"),
)


def written(page: str) -> str:
    """The page with every table made anew."""
    return PLACE.sub(lambda found: f"{found[1]}{_table(found[2])}{found[3]}", page)


def _table(name: str) -> str:
    if name == "overview":
        return _overview([plan(Load(rate)) for rate in RATES])
    if name == "figures":
        return markdown(FIGURE_COLUMNS, figure_rows())
    done = CliRunner().invoke(app, ["plan", *name.split(), "--format", "markdown"])
    assert done.exit_code == 0, done.output
    return done.stdout


def _overview(plans: Sequence[CapacityPlan]) -> str:
    """Each plan is a column."""
    shown = [{(line.part, line.what): line.shown for line in one.lines} for one in plans]
    rows = [(f"{part}, {what}", *(one[part, what] for one in shown)) for part, what in _OVERVIEW]
    return markdown(("", *(f"{one.load.events_per_second:,.0f} events/s" for one in plans)), rows)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
