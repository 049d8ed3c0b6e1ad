"""Explains a view: everything that follows from its text, and how far its answer is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from playhead.cli.formats import write_text
from playhead.cli.terminal import print_table, stdout

if TYPE_CHECKING:
    from playhead.assemble import ViewStatus
    from playhead.serving import Coverage
    from playhead.views import View
    from playhead.views.leaf import Leaf

__all__ = ["print_plan", "print_view", "view_as_dict", "window_name"]


def window_name(view: "View") -> str | None:
    """The view's window in words, such as "5 minutes"; None if it has none."""
    return None if view.window is None else view.window.words


def print_plan(view: "View", plan: str, dialect: str) -> None:
    """Write the SQL of one plan; of several states, one statement each under its name."""
    from playhead.views.dialects import transpile

    statements = {name: transpile(sql, dialect) for name, sql in plan_sql(view, plan).items()}
    named = len(statements) > 1
    parts = [f"-- {name}\n{sql}" if named else sql for name, sql in statements.items()]
    write_text(";\n\n".join(parts) + "\n")


def view_as_dict(status: "ViewStatus", coverage: Sequence["Coverage"]) -> dict[str, Any]:
    """The explanation as plain values."""
    from playhead.views.lineage import lineage

    view = status.view
    upstream = lineage(view)
    return {
        "name": view.name,
        "description": view.header.description,
        "owner": view.header.owner,
        "hash": view.hash,
        "window": window_name(view),
        "watermark_s": view.watermark.total_seconds(),
        "ready": status.ready,
        "reason": status.reason,
        "columns": [
            {
                "name": name,
                "type": kind,
                "meaning": view.header.columns.get(name, ""),
                "made_from": upstream[name],
            }
            for name, kind in view.plans.columns
        ],
        "states": [
            {
                "name": leaf.name,
                "topic": leaf.topic,
                "reads": columns_read(leaf),
                "keys": [{"name": name, "sql": sql} for name, sql in leaf.keys],
                "columns": [
                    {"name": name, "type": leaf.types.get(name, ""), "role": role, "sql": sql}
                    for name, role, sql in state_columns(leaf)
                ],
            }
            for leaf in view.leaves
        ],
        "coverage": [vars(part) for part in coverage],
        "sql": view.text,
    }


def print_view(status: "ViewStatus", coverage: Sequence["Coverage"]) -> None:
    """Write the explanation as tables and text."""
    view = status.view
    print_table(_facts(status, coverage))
    print_table(_columns(view))
    for leaf in view.leaves:
        print_table(_state(leaf))
    console = stdout()
    console.print()
    if console.is_terminal:
        from rich.syntax import Syntax

        console.print(Syntax(view.text.strip(), "sql", background_color="default"))
    else:
        write_text(view.text.strip() + "\n")


def columns_read(leaf: "Leaf") -> list[str]:
    """Columns of the topic and of the dimensions that a state is made from."""
    looked_up = [f"{k.dimension}.{column}" for k in leaf.lookups for column in k.columns]
    return [f"{leaf.topic}.{column}" for column in leaf.event_columns] + looked_up


def state_columns(leaf: "Leaf") -> list[tuple[str, str, str]]:
    """(name, role, SQL over events) of every column of a state."""
    from playhead.views.leaf import SESSION_END, SESSION_START, TAG

    rows = [(name, "key", sql) for name, sql in leaf.keys]
    rows += [(name, "distinct values", sql) for name, sql in leaf.distincts]
    for columns, partials, number, _ in leaf.components:
        aggregate = leaf.aggregates[number][0]
        role = f"part of {aggregate}"
        rows += [(c, role, sql) for c, sql in zip(columns, partials, strict=True)]
    rows += [(TAG, "tells distinct values apart", "")]
    rows += [(bound, "bounds of the session", "") for bound in (SESSION_START, SESSION_END)]
    by_name = {name: (name, role, sql) for name, role, sql in rows}
    return [by_name[name] for name in leaf.state_columns]


def plan_sql(view: "View", plan: str) -> dict[str, str]:
    """One plan in DuckDB's SQL; of `partial` and `merge` one for each state, by its name."""
    if plan in ("full", "final"):
        return {view.name: view.plans.full if plan == "full" else view.plans.final}
    return {
        leaf.name: leaf.partial() if plan == "partial" else leaf.merge() for leaf in view.leaves
    }


def _facts(status: "ViewStatus", coverage: Sequence["Coverage"]) -> Table:
    view = status.view
    facts = {
        "what it answers": view.header.description,
        "owner": view.header.owner,
        "window": window_name(view) or "none",
        "watermark": f"{view.watermark.total_seconds() / 60:g} minutes",
        "topics": ", ".join(view.topics),
        "dimensions": ", ".join(sorted(_dimensions(view))) or "none",
        "reads": ", ".join(sorted({c for leaf in view.leaves for c in columns_read(leaf)})),
        "hash": view.hash,
        "ready": "yes" if status.ready else status.reason,
    }
    for part in coverage:
        facts[f"coverage of {part.topic}"] = _covered(part)
    table = Table(title=view.name, title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, told in facts.items():
        if told:
            table.add_row(name, Text(told))
    return table


def _dimensions(view: "View") -> set[str]:
    return {k.dimension for leaf in view.leaves for k in leaf.lookups} | set(view.plans.dimensions)


def _covered(part: "Coverage") -> str:
    versions = ", ".join(f"{name} {version}" for name, version in part.dimensions.items())
    told = [f"batch: loads to {part.loads}, epochs to {part.batch_epoch}"]
    if part.speed_epochs:
        told.append(f"speed: epochs {', '.join(map(str, part.speed_epochs))}")
    if versions:
        told.append(f"dimension versions: {versions}")
    if part.mixed:
        told.append("mixed versions until the next batch run")
    return "; ".join(told)


def _columns(view: "View") -> Table:
    from playhead.views.lineage import lineage

    upstream = lineage(view)
    table = Table(title="columns", title_justify="left")
    table.add_column("column", style="bold", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("meaning")
    table.add_column("made from", overflow="fold")
    for name, kind in view.plans.columns:
        meaning = view.header.columns.get(name, "")
        table.add_row(name, kind, Text(meaning), ", ".join(upstream[name]))
    return table


def _state(leaf: "Leaf") -> Table:
    title = f"state {leaf.name}: {leaf.topic} by {', '.join(leaf.key_columns) or 'nothing'}"
    table = Table(title=title, title_justify="left")
    table.add_column("state column", style="bold", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("role", no_wrap=True)
    table.add_column("SQL over events", overflow="fold")
    for name, role, sql in state_columns(leaf):
        table.add_row(name, leaf.types.get(name, ""), role, Text(sql))
    return table
