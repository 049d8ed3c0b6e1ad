"""Which relations a query reads, from its syntax alone: they need not exist yet."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import duckdb

from playhead.errors import QueryError

_EXPLAIN = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*EXPLAIN(?:\s+ANALYZE|\s*\([^)]*\))?\s",
    re.IGNORECASE | re.DOTALL,
)

Guard = Callable[[Any, str], None]
"""Told the syntax tree of a query and its text; raises QueryError where it is refused."""


def relations_read(
    connection: duckdb.DuckDBPyConnection, sql: str, guard: Guard | None = None
) -> set[str]:
    """The relations that a query names, as it writes them, without those of its own WITH.

    DuckDB's own list of table names comes from its binder, which fails on `JOIN ... USING` as
    long as the tables do not exist.

    Args:
        guard: looks at the query first; None: whatever can be read is taken.

    Raises:
        QueryError: it is not one SELECT (or EXPLAIN of one).
    """
    text = sql
    try:
        kinds = [statement.type for statement in connection.extract_statements(sql)]
        if kinds == [duckdb.StatementType.EXPLAIN]:
            sql = explained(sql) or ""
            kinds = [statement.type for statement in connection.extract_statements(sql)]
        if kinds != [duckdb.StatementType.SELECT]:
            raise _no_select(kinds)
        row = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
    try:
        tree = json.loads(row[0]) if row else {"error": True}
        if tree["error"]:
            raise QueryError(f"the query cannot be read: {tree.get('error_message', sql)}")
        if guard is not None:
            guard(tree, text)
        return set(_names(tree, frozenset()))
    except RecursionError:
        raise QueryError("the query is nested too deeply") from None


def explained(sql: str) -> str | None:
    """The query behind the word EXPLAIN; None if the text does not begin with it."""
    explain = _EXPLAIN.match(sql)
    return sql[explain.end() :] if explain else None


def _no_select(kinds: list[Any]) -> QueryError:
    found = ", ".join(kind.name for kind in kinds) or "nothing"
    return QueryError(
        f"a query is one SELECT; this is {found}",
        hint="Queries are read-only: nothing in a workspace is changed by one.",
    )


def _names(node: Any, own: frozenset[str]) -> Iterator[str]:
    """Names of tables below a node of the syntax tree.

    Args:
        own: lower-case names that mean a WITH query here.
    """
    if isinstance(node, list):
        for part in node:
            yield from _names(part, own)
    elif isinstance(node, dict):
        if node.get("type") == "BASE_TABLE" and node["table_name"].lower() not in own:
            yield node["table_name"]
        if "cte_name" in node:
            own |= {node["cte_name"].lower()}
        # A WITH query sees those before it; the SELECT sees all of them.
        for entry in (node.get("cte_map") or {}).get("map", ()):
            yield from _names(entry["value"], own)
            own |= {entry["key"].lower()}
        for key, part in node.items():
            if key != "cte_map":
                yield from _names(part, own)
