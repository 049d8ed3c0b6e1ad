"""From a view's text to its plans: parse, qualify, find the leaves, canonicalise what is above.

The lowest GROUP BY over events (a leaf) becomes state; everything above it is the skeleton,
which both `full` and `final` share word for word.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import OptimizeError, ParseError, SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope, traverse_scope

from playhead.errors import ViewError, ViewSyntaxError
from playhead.views.binder import Binder, quote
from playhead.views.functions import is_session_window, is_window_function, refuse
from playhead.views.grammar import check_grammar
from playhead.views.kinds import FLOATS, check_kind, one_zero
from playhead.views.leaf import Leaf, Window
from playhead.views.leaves import build_leaf, refuse_session
from playhead.views.prepare import (
    check_names,
    compare_with_constants,
    expand_all,
    inline_windows,
    join_implied_dimensions,
    own_nodes,
    spellings,
    unify,
)
from playhead.views.relations import Relation
from playhead.views.rows import EventRows, flatten, substitute
from playhead.views.skeleton import canonical_skeleton, divide


@dataclass(frozen=True)
class Plans:
    """Everything derived from a view's text, as DuckDB SQL.

    `full` reads topics and dimensions by name; `final` reads each leaf's merged state under
    the leaf's name, and `dimensions_above` by name. `columns` are (name, type) of the answer;
    `window` is the window of event time that one of them is; `windows_apart` says that the rows
    of one window depend on no other.
    """

    full: str
    final: str
    leaves: tuple[Leaf, ...]
    columns: tuple[tuple[str, str], ...]
    dimensions: tuple[str, ...]
    dimensions_above: tuple[str, ...]
    ordered: bool
    window: Window | None
    windows_apart: bool


def parse(sql: str) -> exp.Query:
    """The one SELECT of a view's text, free of refused functions.

    Raises:
        ViewSyntaxError: it is no single SELECT.
        NotMergeableError: it has a construct that cannot be compiled.
    """
    try:
        statements = [s for s in sqlglot.parse(sql, dialect="duckdb") if s is not None]
    except ParseError as error:
        first = error.errors[0]
        where = f"line {first['line']}, column {first['col']}: "
        raise ViewSyntaxError(f"{where}{first['description']}") from error
    except SqlglotError as error:
        raise ViewSyntaxError(str(error)) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise ViewSyntaxError(f"a view is one SELECT; this text has {_kinds(statements)}")
    tree = statements[0]
    for node in tree.walk():
        node.comments = None
    check_grammar(tree)
    _name_outputs(tree)
    return tree


def compile_plans(tree: exp.Query, relations: Mapping[str, Relation]) -> Plans:
    """All plans of a parsed view.

    Args:
        tree: what `parse` gave; not changed.
        relations: every topic and dimension that the text may name.
    """
    read = tables_read(tree)
    missing = [name for name in read if name not in relations]
    if missing:
        raise ViewSyntaxError(
            f"no relation {missing[0]}",
            hint=f"There are {', '.join(sorted(relations))}; or give a schema.",
        )
    known = {name.lower(): relation for name, relation in relations.items()}
    tree = tree.copy()
    check_names(tree, known)
    unify(tree)
    compare_with_constants(tree)
    inline_windows(tree)
    join_implied_dimensions(tree, known)
    binder = Binder({known[name].name: known[name].schema for name in tables_read(tree)})
    try:
        return _Compilation(tree, known, binder).run()
    finally:
        binder.close()


def tables_read(tree: exp.Expr) -> list[str]:
    """Names in FROM and JOIN that are no CTE of the query, each once."""
    ctes = {cte.alias_or_name.lower() for cte in tree.find_all(exp.CTE)}
    names = (t.name.lower() for t in tree.find_all(exp.Table) if not t.args.get("db"))
    return list(dict.fromkeys(name for name in names if name not in ctes))


def _kinds(statements: list[exp.Expr]) -> str:
    return ", ".join(s.key.upper() for s in statements) or "nothing"


def _name_outputs(tree: exp.Query) -> None:
    """Give unnamed outputs the name that DuckDB would give them."""
    for select in tree.selects:
        if not select.output_name and not isinstance(select, exp.Star):
            name = "count_star()" if select.sql() == "COUNT(*)" else select.sql("duckdb").lower()
            select.replace(exp.alias_(select.copy(), name, quoted=True))


class _Compilation:
    """One run of the compiler over one tree, which it takes apart."""

    def __init__(self, tree: exp.Query, relations: Mapping[str, Relation], binder: Binder) -> None:
        self._names = [s.output_name for s in tree.selects]
        self._tree = tree
        self._relations = dict(relations)
        self._binder = binder
        self._rows: dict[int, EventRows] = {}
        self._leaves: list[tuple[Leaf, exp.Select]] = []

    def run(self) -> Plans:
        self._qualify()
        for scope in traverse_scope(self._tree):
            self._classify(scope)
        if not self._leaves:
            raise ViewError(
                "the text has no GROUP BY or aggregate over events",
                hint="A view aggregates events; to read single events, query the topic itself.",
            )
        self._drop_row_ctes()
        self._check_no_events()
        skeleton, ordered = canonical_skeleton(self._tree, self._binder)
        leaves = tuple(leaf for leaf, _ in self._leaves)
        text = _text(skeleton, (leaf.name for leaf in leaves))
        full = _fill(text, {leaf.name: leaf.full() for leaf in leaves})
        final = _fill(text, {leaf.name: leaf.final() for leaf in leaves})
        above = tuple(sorted(t for t in tables_read(skeleton) if t in self._relations))
        looked_up = {lookup.dimension for leaf in leaves for lookup in leaf.lookups}
        columns = tuple(self._binder.describe(full))
        _check_columns(columns)
        window, apart = _window_of(skeleton, leaves)
        read = tuple(sorted({*above, *looked_up}))
        return Plans(full, final, leaves, columns, read, above, ordered, window, apart)

    def _qualify(self) -> None:
        read = [self._relations[name] for name in tables_read(self._tree)]
        spelled = spellings(self._tree, read)
        try:
            self._tree = qualify(
                self._tree,
                dialect="duckdb",
                schema={r.name: self._binder.columns(r.name) for r in read},
                quote_identifiers=False,
            )
        except OptimizeError as error:
            raise ViewSyntaxError(
                str(error).splitlines()[0],
                hint="A column that several relations have needs its relation's name before it.",
            ) from error
        expand_all(self._tree)
        divide(self._tree)
        written = {name.lower(): name for name in self._names if name}
        for select in self._tree.selects:
            name = select.output_name
            if (right := written.get(name) or spelled.get(name)) and right != name:
                select.set("alias", exp.to_identifier(right))

    # -- classification ------------------------------------------------------------------

    def _classify(self, scope: Scope) -> None:
        """Note row-wise SELECTs over events, and turn each lowest GROUP BY into a leaf."""
        select = scope.expression
        if not isinstance(select, exp.Select):
            self._check_union(scope)
            return
        inner = self._event_sources(scope)
        if not inner:
            return
        self._check_event_select(scope, inner)
        rows = flatten(scope, inner, self._relations)
        if _aggregates(select):
            name = f"state_{len(self._leaves) + 1}"
            leaf, outer = build_leaf(name, select, rows, self._binder)
            self._leaves.append((leaf, outer))
            _become(select, outer)
        else:
            self._check_row_wise(select)
            rows.columns = {s.alias: substitute(s.unalias(), rows.columns) for s in _unique(select)}
            self._rows[id(select)] = rows

    def _event_sources(self, scope: Scope) -> dict[str, EventRows]:
        found: dict[str, EventRows] = {}
        for alias, (_, source) in scope.selected_sources.items():
            if isinstance(source, Scope):
                if rows := self._rows.get(id(source.expression)):
                    found[alias] = rows
            elif (r := self._relations.get(source.name.lower())) and r.kind == "topic":
                columns: dict[str, exp.Expr] = {}
                for name, kind in self._binder.columns(r.name).items():
                    column = exp.column(name)
                    columns[name.lower()] = one_zero(column) if kind in FLOATS else column
                found[alias] = EventRows(r.name, columns)
        return found

    def _check_event_select(self, scope: Scope, inner: Mapping[str, EventRows]) -> None:
        select = scope.expression
        if len(inner) > 1:
            raise refuse(
                select.args["joins"][0],
                f"a join of events with events ({' and '.join(inner)})",
                "a pair may stand in two parts of the log, where no partial result sees it",
                "GROUP BY each side by the common key first, and join the results",
            )
        if scope.external_columns:
            raise refuse(
                scope.external_columns[0],
                "a correlated subquery over events",
                "its value would be asked for once per row above, from events that are gone",
                "GROUP BY the key in a CTE, and JOIN it",
            )
        if scope.subquery_scopes:
            raise refuse(
                scope.subquery_scopes[0].expression,
                "a subquery beside events",
                "its value would differ from part to part",
                "JOIN a dimension by its key, or filter above the GROUP BY",
            )

    def _check_row_wise(self, select: exp.Select) -> None:
        if session := next(filter(is_session_window, select.walk()), None):
            raise refuse_session(session)
        if limit := select.args.get("limit") or select.args.get("offset"):
            raise refuse(
                limit,
                "LIMIT over raw events",
                "which rows come first depends on the part",
                "LIMIT above the GROUP BY",
            )

    def _check_union(self, scope: Scope) -> None:
        for part in scope.set_operation_scopes:
            if id(part.expression) in self._rows:
                raise refuse(
                    part.expression,
                    "a UNION of raw events",
                    "each part of the log belongs to one topic",
                    "GROUP BY each topic first, then UNION ALL the results and aggregate again",
                )

    def _check_no_events(self) -> None:
        """Refuse events that are read beside the states, where only states are kept."""
        for table in self._tree.find_all(exp.Table):
            relation = self._relations.get(table.name.lower())
            if relation is not None and relation.kind == "topic":
                raise refuse(
                    table,
                    f"reading single events of {table.name} above an aggregate",
                    "only states are kept, and they hold no single events",
                    f"IN (SELECT key FROM {table.name} GROUP BY key), or a JOIN with such a CTE",
                )

    def _drop_row_ctes(self) -> None:
        """Remove CTEs that were flattened into leaves."""
        for cte in list(self._tree.find_all(exp.CTE)):
            if id(cte.this) in self._rows:
                holder = cte.parent
                cte.pop()
                if isinstance(holder, exp.With) and not holder.expressions:
                    holder.pop()


def _become(select: exp.Select, outer: exp.Select) -> None:
    """Replace a SELECT's content in place, so that every reference to it stays good."""
    ctes = select.args.get("with_")
    for key in list(select.args):
        select.set(key, None)
    for key, value in outer.args.items():
        select.set(key, value)
    if ctes is not None:
        select.set("with_", ctes)


def _unique(select: exp.Select) -> Iterable[exp.Expr]:
    """Outputs by name, the first of equal names (USING repeats a key)."""
    seen: dict[str, exp.Expr] = {}
    for item in select.selects:
        seen.setdefault(item.alias_or_name, item)
    return seen.values()


def _aggregates(select: exp.Select) -> bool:
    """Whether a SELECT over events is a leaf: it groups, aggregates, or ranks."""
    parts = ("group", "distinct", "qualify", "having")
    return any(select.args.get(p) for p in parts) or bool(select.find(exp.AggFunc, exp.Window))


def _check_columns(columns: Iterable[tuple[str, str]]) -> None:
    seen: set[str] = set()
    for name, kind in columns:
        if name.lower() in seen:
            raise ViewSyntaxError(
                f"two columns of the answer are named {name}", hint="Give one of them an alias."
            )
        seen.add(name.lower())
        check_kind(name, kind)


def _window_of(skeleton: exp.Expr, leaves: tuple[Leaf, ...]) -> tuple[Window | None, bool]:
    """The one leaf's window, if a column of its name carries it unchanged into the answer.

    And whether each window's rows depend on no other window: then the states of windows that
    nobody asks for need not be read.
    """
    window = leaves[0].window
    if len(leaves) > 1 or window is None:
        return None, False
    apart = True
    scope: Scope | None = build_scope(skeleton)
    while scope is not None and isinstance(scope.expression, exp.Select):
        item = next((s for s in scope.expression.selects if s.alias_or_name == window.key), None)
        value = item.unalias() if item is not None else None
        if not isinstance(value, exp.Column) or value.name != window.key:
            return None, False
        apart = apart and _keeps_apart(scope, value)
        source = scope.sources.get(value.table)
        if isinstance(source, exp.Table):
            found = source.name == leaves[0].name
            return (window, apart) if found else (None, False)
        scope = source
    return None, False


def _keeps_apart(scope: Scope, key: exp.Column) -> bool:
    """Whether a SELECT makes its rows of each value of a key from rows of that value alone."""
    select = scope.expression
    others = [source for name, (_, source) in scope.selected_sources.items() if name != key.table]
    if scope.subquery_scopes or not all(isinstance(source, exp.Table) for source in others):
        return False
    if any(select.args.get(part) for part in ("limit", "offset")):
        return False
    nodes = list(own_nodes(select))
    windows = [node for node in nodes if isinstance(node, exp.Window)]
    if not all(_among(key, w.args.get("partition_by") or []) for w in windows):
        return False
    group = select.args.get("group")
    if group is not None:
        return _among(key, group.expressions)
    return all(is_window_function(node) for node in nodes if isinstance(node, exp.AggFunc))


def _among(key: exp.Column, nodes: Iterable[exp.Expr]) -> bool:
    columns = (node for node in nodes if isinstance(node, exp.Column))
    return any((key.table, key.name) == (column.table, column.name) for column in columns)


def quote_where_needed(tree: exp.Expr) -> None:
    """Quote exactly the identifiers that need it, so that plans read well."""
    for identifier in tree.find_all(exp.Identifier):
        identifier.set("quoted", quote(identifier.name) != identifier.name)


def _text(skeleton: exp.Expr, leaves: Iterable[str]) -> str:
    """The skeleton's SQL, each leaf's relation written as "<its name>"."""
    names = set(leaves)
    tree = skeleton.copy()
    for table in tree.find_all(exp.Table):
        if table.name in names:
            table.set("this", exp.to_identifier(f"<{table.name}>", quoted=True))
    quote_where_needed(tree)
    return tree.sql(dialect="duckdb", pretty=True)


def _fill(text: str, leaves: Mapping[str, str]) -> str:
    """The skeleton's SQL with each leaf's relation replaced by the leaf's query."""
    for name, query in leaves.items():
        text = text.replace(f'"<{name}>"', f"(\n{query}\n)")
    return text
