"""Where each column of a view comes from: the columns of topics and dimensions it is made of."""

import sqlglot
from sqlglot import exp
from sqlglot.lineage import Node
from sqlglot.lineage import lineage as trace
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope

from playhead.errors import ViewError
from playhead.views.view import View


def lineage(view: View) -> dict[str, tuple[str, ...]]:
    """The upstream columns of each column of a view, in the answer's order.

    Values are "relation.column", sorted; a count of rows, or a constant, comes from none. What
    only filters, joins or groups is not counted as upstream.

    Raises:
        ViewError: the view reads a relation whose schema is not known.
    """
    tree = sqlglot.parse_one(view.plans.full, dialect="duckdb")
    schema: dict[str, object] = {
        name: dict.fromkeys(view.relations[name].schema.names, "unknown")
        for name in {table.name for table in tree.find_all(exp.Table)}
        if name in view.relations
    }
    qualified = qualify(
        tree,
        dialect="duckdb",
        schema=schema,
        quote_identifiers=False,
        validate_qualify_columns=False,
    )
    scope = build_scope(qualified)
    if scope is None:
        raise ViewError(f"view {view.name}: its plan cannot be traced")
    nodes = trace(None, qualified, schema, dialect="duckdb", scope=scope, trim_selects=False)
    return {
        name: tuple(sorted(_upstream(node, view)))
        for name, node in zip(view.columns, nodes.values(), strict=True)
    }


def _upstream(node: Node, view: View) -> set[str]:
    found = set()
    for part in node.walk():
        relation = isinstance(part.expression, exp.Table) and view.relations.get(
            part.expression.name
        )
        if relation:
            column = part.name.rpartition(".")[2].strip('"')
            spelled = {name.lower(): name for name in relation.schema.names}
            found.add(f"{relation.name}.{spelled.get(column.lower(), column)}")
    return found
