"""The plan above a state as a view of its own, so that an answer can follow what changed.

Where the text aggregates the state's rows once more (each user's row to a window's, the distinct
values to their number), that is a GROUP BY over the merged state as the leaf is one over events.
The compiler derives its partial, merge and final, too. If each part of it can also be taken back,
a changed row of the state is its old version taken away and its new one added, and the answer
costs what changed instead of what there is.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import duckdb
import sqlglot
from sqlglot import exp

from playhead.errors import ViewError
from playhead.views.algebra import Aggregate, Component
from playhead.views.binder import quote
from playhead.views.compiler import compile_plans, parse
from playhead.views.leaf import Leaf
from playhead.views.relations import Relation
from playhead.views.view import View

_ROWS = "merged_rows"
_COUNT = "above__rows"


@dataclass(frozen=True)
class Above:
    """The second GROUP BY of a view: from rows of the merged state to groups.

    Attributes:
        leaf: its `partial` reads rows of the view's merged state.
        final: reads the groups under the name of `leaf`, and dimensions by name.
    """

    leaf: Leaf
    final: str

    @property
    def columns(self) -> tuple[str, ...]:
        """What a group consists of, in order: the leaf's state, and counts to take back by."""
        return self._counted.state_columns

    @cached_property
    def _counted(self) -> Leaf:
        """The leaf, which also counts its rows, and the values behind each sum."""
        sums = [c for _, a in self.leaf.aggregates for c in a.components if _is_sum(c)]
        counts = [Component(("count",), ("COUNT(*)",), "sum")]
        counts += [Component(("count",), (_count_of(c.partials[0]),), "sum") for c in sums]
        names = [_COUNT, *(f"above__known_{number}" for number in range(len(sums)))]
        added = [
            (n, Aggregate((c,), lambda columns: columns[0]))
            for n, c in zip(names, counts, strict=True)
        ]
        counted = replace(self.leaf, aggregates=(*self.leaf.aggregates, *added))
        kinds = dict.fromkeys(counted.state_columns, "BIGINT")
        return replace(counted, types=kinds | dict(self.leaf.types))

    def key_of(self, column: str) -> str | None:
        """The groups' key that is a key of the state, unchanged; None if there is none."""
        return next((name for name, sql in self.leaf.keys if sql == quote(column)), None)

    def groups(self, *, of: str) -> str:
        """SQL of the groups of all rows of a merged state.

        Args:
            of: name of a relation with the state's columns.
        """
        return self._counted.partial(source=quote(of))

    def changed(self, *, groups: str, gone: str, come: str) -> str:
        """SQL of the groups after some rows of the merged state were replaced or added.

        Args:
            groups, gone, come: names of relations: the groups so far, the old versions of the
                replaced rows, and their new versions with the added rows.
        """
        counted = self._counted
        columns = ", ".join(quote(c) for c in counted.state_columns)
        taken = ", ".join(
            f"-{quote(c)} AS {quote(c)}" if self._is_added(c) else quote(c)
            for c in counted.state_columns
            if not self._is_extreme(c)
        )
        parts = (
            f"SELECT {columns} FROM {quote(groups)}",
            f"SELECT {columns} FROM ({counted.partial(source=quote(come))})",
            f"SELECT {taken} FROM ({counted.partial(source=quote(gone))})",
        )
        keys = [quote(key) for key in counted.key_columns]
        items = keys + [self._added(column) for column in self._values]
        # Without keys there is one group, of no rows as well.
        by = f"GROUP BY {', '.join(keys)} HAVING SUM({self._rows}) > 0" if keys else ""
        return f"SELECT {', '.join(items)} FROM ({' UNION ALL BY NAME '.join(parts)}) {by}"

    @property
    def _values(self) -> tuple[str, ...]:
        return self._counted.state_columns[len(self._counted.key_columns) :]

    @cached_property
    def _merges(self) -> dict[str, tuple[Component, str | None]]:
        """Each value column's component, and the column that counts the values behind a sum."""
        known = {
            component.partials: columns[0]
            for columns, component in self._components()
            if component.suffixes == ("count",)
        }
        return {
            columns[0]: (
                component,
                known[(_count_of(component.partials[0]),)] if _is_sum(component) else None,
            )
            for columns, component in self._components()
        }

    def _components(self) -> list[tuple[tuple[str, ...], Component]]:
        counted = self._counted
        return [
            (columns, counted.aggregates[i][1].components[j])
            for columns, _, i, j in counted.components
        ]

    @property
    def _rows(self) -> str:
        return quote(next(c for c, (k, _) in self._merges.items() if k.partials == ("COUNT(*)",)))

    def _is_added(self, column: str) -> bool:
        return column in self._merges and self._merges[column][0].merge == "sum"

    def _is_extreme(self, column: str) -> bool:
        return column in self._merges and self._merges[column][0].merge != "sum"

    def _added(self, column: str) -> str:
        """SQL of one value after the change; a sum of no values is NULL."""
        component, known = self._merges[column]
        kind = self._counted.types[column]
        (merged,) = component.merged((quote(column),), (kind,))
        if known is not None:
            merged = f"CASE WHEN SUM({quote(known)}) > 0 THEN {merged} END"
        return f"{merged} AS {quote(column)}"


@lru_cache(maxsize=256)
def derive(view: View) -> Above | None:
    """What stands above the view's state, if it can follow changes of the state.

    Returns:
        None: the view has several states, its rows are no groups with plain keys, or what is
        above them does not aggregate once more, or not in a way that can be taken back.
    """
    if len(view.leaves) != 1:
        return None
    (leaf,) = view.leaves
    keyless = not (leaf.key_columns or leaf.distincts)
    if leaf.session is not None or leaf.latest is not None or keyless:
        return None
    try:
        plans = compile_plans(parse(_over_rows(view, leaf)), {**view.relations, **_rows(leaf)})
    except ViewError:
        return None
    if len(plans.leaves) != 1 or plans.leaves[0].topic != _ROWS:
        return None
    (above,) = plans.leaves
    plain = above.session is None and above.latest is None and not above.distincts
    if (
        not plain
        or above.lookups
        or not all(
            _can_be_taken_back(component, above, leaf)
            for _, aggregate in above.aggregates
            for component in aggregate.components
        )
    ):
        return None
    return Above(above, plans.final)


def _over_rows(view: View, leaf: Leaf) -> str:
    """The view's final plan, which reads the state's rows as if they were a topic."""
    tree = sqlglot.parse_one(view.plans.final, dialect="duckdb")
    for table in tree.find_all(exp.Table):
        if table.name == leaf.name:
            alias = table.alias or leaf.name
            table.set("this", exp.to_identifier(_ROWS))
            table.set("alias", exp.TableAlias(this=exp.to_identifier(alias)))
    return tree.sql(dialect="duckdb")


def _rows(leaf: Leaf) -> dict[str, Relation]:
    items = ", ".join(f"CAST(NULL AS {leaf.types[c]}) AS {quote(c)}" for c in leaf.state_columns)
    with duckdb.connect(":memory:") as connection:
        schema = connection.execute(f"SELECT {items} LIMIT 0").to_arrow_table().schema
    return {_ROWS: Relation(_ROWS, "topic", schema)}


def _can_be_taken_back(component: Component, above: Leaf, leaf: Leaf) -> bool:
    """Whether a row's part in a component can be taken away, or only ever grows."""
    if component.merge == "sum":
        return True
    if len(component.partials) != 1 or above.where is not None:
        return False
    call = sqlglot.parse_one(component.partials[0], dialect="duckdb")
    column = call.this.unnest() if isinstance(call, exp.AggFunc) else None
    # A floating-point number has 0 added, for one kind of zero.
    while isinstance(column, exp.Add) and column.expression == exp.Literal.number(0):
        column = column.this.unnest()
    below = {
        columns[0]: leaf.aggregates[i][1].components[j].merge
        for columns, _, i, j in leaf.components
        if len(columns) == 1
    }
    return isinstance(column, exp.Column) and below.get(column.name) == component.merge


def _is_sum(component: Component) -> bool:
    return component.merge == "sum" and component.suffixes != ("count",)


def _count_of(partial: str) -> str:
    """COUNT of the values that a SUM adds up."""
    total = sqlglot.parse_one(partial, dialect="duckdb").find(exp.Sum)
    if total is None:
        raise ViewError(f"{partial} adds nothing up")
    return exp.Count(this=total.this.copy()).sql(dialect="duckdb")
