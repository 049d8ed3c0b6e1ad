"""From a view's text to its plans: parse, qualify, find the leaves, canonicalise what is above.

The lowest GROUP BY over events (a leaf) becomes state; everything above it is the skeleton,
which both `full` and `final` share word for word.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import OptimizeError, ParseError, SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope

from playhead.errors import ViewError, ViewSyntaxError
from playhead.views.binder import Binder, reserved_words
from playhead.views.functions import check_functions, position, refuse
from playhead.views.leaf import Leaf
from playhead.views.leaves import build_leaf
from playhead.views.relations import Relation
from playhead.views.rows import EventRows, flatten, substitute
from playhead.views.skeleton import canonical_skeleton, divide


@dataclass(frozen=True)
class Plans:
    """Everything derived from a view's text, as DuckDB SQL.

    `full` reads topics and dimensions by name; `final` reads each leaf's merged state under
    the leaf's name, and dimensions by name. `columns` are (name, DuckDB type) of the answer.
    """

    full: str
    final: str
    leaves: tuple[Leaf, ...]
    columns: tuple[tuple[str, str], ...]
    dimensions: tuple[str, ...]
    ordered: bool


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
    check_functions(tree)
    _check_structure(tree)
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
    joined = {d for name in read for d in relations if relations[d].kind == "dimension"} | set(read)
    binder = Binder({name: relations[name].schema for name in joined})
    try:
        return _Compilation(tree.copy(), relations, binder).run()
    finally:
        binder.close()


def tables_read(tree: exp.Expression) -> list[str]:
    """Names in FROM and JOIN that are no CTE of the query, each once."""
    ctes = {cte.alias_or_name.lower() for cte in tree.find_all(exp.CTE)}
    names = (t.name.lower() for t in tree.find_all(exp.Table) if not t.args.get("db"))
    return list(dict.fromkeys(name for name in names if name not in ctes))


def _kinds(statements: list[exp.Expression]) -> str:
    return ", ".join(s.key.upper() for s in statements) or "nothing"


def _check_structure(tree: exp.Query) -> None:
    for node in tree.walk():
        if isinstance(node, exp.With) and node.args.get("recursive"):
            raise refuse(node, "WITH RECURSIVE", "its state has no bound", "GROUP BY steps")
        if isinstance(node, (exp.Cube, exp.Rollup, exp.GroupingSets)):
            raise refuse(node, node.key.upper(), "grouping sets are not compiled",
                         "write one view for each grouping")  # fmt: skip
        if isinstance(node, exp.Lateral | exp.Unnest | exp.Explode | exp.Pivot | exp.TableSample):
            raise refuse(node, node.key.upper(), "one event must stay one row", "plain columns")
        if isinstance(node, exp.Distinct) and node.args.get("on"):
            raise refuse(node, "DISTINCT ON", "its order is implied",
                         "QUALIFY ROW_NUMBER() OVER (PARTITION BY key ORDER BY event_time DESC) "
                         "= 1")  # fmt: skip
        if isinstance(node, exp.Table) and (node.args.get("db") or isinstance(node.this, exp.Func)):
            raise ViewSyntaxError(
                f"{position(node)}{node.sql(dialect='duckdb')} is no topic or dimension",
                hint="A view reads topics and dimensions by their bare names.",
            )


def _name_outputs(tree: exp.Query) -> None:
    """Give unnamed outputs the name that DuckDB would give them."""
    for select in tree.selects:
        if not select.output_name and not isinstance(select, exp.Star):
            name = "count_star()" if select.sql() == "COUNT(*)" else select.sql("duckdb").lower()
            select.replace(exp.alias_(select.copy(), name, quoted=True))


class _Compilation:
    """One run of the compiler over one tree, which it takes apart."""

    def __init__(
        self, tree: exp.Query, relations: Mapping[str, Relation], binder: Binder
    ) -> None:
        self._names = [s.output_name for s in tree.selects]
        self._tree: exp.Expression = tree
        self._relations = {name.lower(): r for name, r in relations.items()}
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
        skeleton, ordered = canonical_skeleton(self._tree, self._binder)
        leaves = tuple(leaf for leaf, _ in self._leaves)
        full = _fill(skeleton, {leaf.name: leaf.full() for leaf in leaves})
        final = _fill(skeleton, {leaf.name: leaf.final() for leaf in leaves})
        dimensions = {t for t in tables_read(skeleton) if t in self._relations}
        dimensions |= {lookup.dimension for leaf in leaves for lookup in leaf.lookups}
        columns = tuple(self._binder.describe(full))
        return Plans(full, final, leaves, columns, tuple(sorted(dimensions)), ordered)

    def _qualify(self) -> None:
        _join_implied_dimensions(self._tree, self._relations)
        expand_group_by_all(self._tree)
        schema = {
            name: self._binder.columns(name)
            for name in tables_read(self._tree)
            if name in self._relations
        }
        try:
            self._tree = qualify(
                self._tree,
                dialect="duckdb",
                schema=schema,
                quote_identifiers=False,
            )
        except OptimizeError as error:
            raise ViewSyntaxError(str(error).splitlines()[0]) from error
        divide(self._tree)
        for select, name in zip(self._tree.selects, self._names, strict=False):
            if name and select.output_name != name and select.output_name == name.lower():
                select.set("alias", exp.to_identifier(name))

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
                columns = {n: exp.column(n) for n in self._binder.columns(r.name)}
                columns = {name.lower(): node for name, node in columns.items()}
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
        if scope.subquery_scopes:
            raise refuse(
                scope.subquery_scopes[0].expression,
                "a subquery beside events",
                "its value would differ from part to part",
                "JOIN a dimension by its key, or filter above the GROUP BY",
            )

    def _check_row_wise(self, select: exp.Select) -> None:
        if select.find(exp.Window):
            raise refuse(
                select.find(exp.Window) or select,
                "a window function over raw events",
                "it needs all events of its partition at once",
                "session_window(event_time, '30 minutes') as a GROUP BY key, ARG_MAX, or QUALIFY "
                "ROW_NUMBER() OVER (PARTITION BY key ORDER BY event_time DESC) = 1",
            )
        if limit := select.args.get("limit") or select.args.get("offset"):
            raise refuse(limit, "LIMIT over raw events", "which rows come first depends on the part",
                         "LIMIT above the GROUP BY")  # fmt: skip

    def _check_union(self, scope: Scope) -> None:
        for part in scope.set_operation_scopes:
            if id(part.expression) in self._rows:
                raise refuse(
                    part.expression,
                    "a UNION of raw events",
                    "each part of the log belongs to one topic",
                    "GROUP BY each topic first, then UNION ALL the results and aggregate again",
                )

    def _drop_row_ctes(self) -> None:
        """Remove CTEs that were flattened into leaves, and refuse events that reach the top."""
        if id(self._tree) in self._rows:
            raise ViewError("the text does not aggregate events")
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


def _unique(select: exp.Select) -> Iterable[exp.Expression]:
    """Outputs by name, the first of equal names (USING repeats a key)."""
    seen: dict[str, exp.Expression] = {}
    for item in select.selects:
        seen.setdefault(item.alias_or_name, item)
    return seen.values()


def _aggregates(select: exp.Select) -> bool:
    """Whether a SELECT over events is a leaf: it groups, aggregates, or keeps the latest."""
    if select.args.get("group") or select.args.get("distinct") or select.args.get("qualify"):
        return True
    if select.args.get("having"):
        return True
    return any(not is_window_function(node) for node in select.find_all(exp.AggFunc))


def is_window_function(node: exp.Expression) -> bool:
    """Whether an aggregate is the function of an OVER clause, rather than inside it."""
    holder = node.parent
    while isinstance(holder, (exp.Filter, exp.IgnoreNulls, exp.RespectNulls)):
        node, holder = holder, holder.parent
    return isinstance(holder, exp.Window) and holder.this is node


def expand_group_by_all(tree: exp.Expression) -> None:
    """`GROUP BY ALL` as the list of outputs that hold no aggregate."""
    for select in tree.find_all(exp.Select):
        group = select.args.get("group")
        if group is not None and group.args.get("all"):
            keys = [
                exp.Literal.number(number)
                for number, item in enumerate(select.selects, 1)
                if not any(not is_window_function(n) for n in item.find_all(exp.AggFunc))
            ]
            select.set("group", exp.Group(expressions=keys) if keys else None)


def _join_implied_dimensions(tree: exp.Expression, relations: Mapping[str, Relation]) -> None:
    """Views may read the wide topic: a column that only a dimension has brings its lookup."""
    dimensions = [r for r in relations.values() if r.kind == "dimension" and r.key]
    for select in list(tree.find_all(exp.Select)):
        tables = [t for t in _direct_tables(select)]
        topics = [t for t in tables if (r := relations.get(t.name.lower())) and r.kind == "topic"]
        if len(topics) != 1 or len(tables) != len(_sources(select)):
            continue
        topic = relations[topics[0].name.lower()]
        known = {n.lower() for t in tables if (r := relations.get(t.name.lower())) for n in r.schema.names}
        known |= {item.alias.lower() for item in select.selects if item.alias}
        joined = {t.name.lower() for t in tables}
        for column in _own_columns(select):
            name = column.name.lower()
            if column.table or name in known:
                continue
            for dimension in dimensions:
                keys = set(dimension.key)
                if name in dimension.schema.names and keys <= set(topic.schema.names):
                    if dimension.name not in joined:
                        joined.add(dimension.name)
                        _left_join(select, topics[0].alias_or_name, dimension)
                    column.set("table", exp.to_identifier(dimension.name))
                    break


def _left_join(select: exp.Select, topic: str, dimension: Relation) -> None:
    on = exp.and_(
        *(exp.column(k, topic).eq(exp.column(k, dimension.name)) for k in dimension.key)
    )
    select.append("joins", exp.Join(this=exp.to_table(dimension.name), side="LEFT", on=on))


def _sources(select: exp.Select) -> list[exp.Expression]:
    first = select.args.get("from_")
    return ([first.this] if first else []) + [j.this for j in select.args.get("joins") or []]


def _direct_tables(select: exp.Select) -> list[exp.Table]:
    return [source for source in _sources(select) if isinstance(source, exp.Table)]


def _own_columns(select: exp.Select) -> Iterable[exp.Column]:
    """Columns of this SELECT, not of the queries inside it."""
    for node in select.walk(prune=lambda n: n is not select and isinstance(n, exp.Query)):
        if isinstance(node, exp.Column):
            yield node


def quote_where_needed(tree: exp.Expression) -> None:
    """Quote exactly the identifiers that need it, so that plans read well."""
    for identifier in tree.find_all(exp.Identifier):
        name = identifier.name
        plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name.lower() not in reserved_words()
        identifier.set("quoted", not plain)


def _fill(skeleton: exp.Expression, leaves: Mapping[str, str]) -> str:
    """The skeleton's SQL with each leaf's relation replaced by the leaf's query."""
    tree = skeleton.copy()
    for table in list(tree.find_all(exp.Table)):
        if query := leaves.get(table.name):
            table.replace(sqlglot.parse_one(f"({query})", dialect="duckdb").as_(table.alias))
    quote_where_needed(tree)
    return tree.sql(dialect="duckdb", pretty=True)
