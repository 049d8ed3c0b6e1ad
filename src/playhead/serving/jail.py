"""The jail: SQL of strangers reads relations by their names, and nothing else.

Two walls, each of which has to hold alone. The first looks at the syntax tree before the query
runs: one SELECT, over relations and a few table functions, with functions of an allow-list (so
that a function of a newer DuckDB is refused until somebody has looked at it). The second is
DuckDB's own: the session reaches no file outside of the lake, no extension, no setting and no
variable of Python.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb

from playhead.engines.duckdb import lock_in
from playhead.errors import QueryError
from playhead.eventlog import EventLog
from playhead.lake import Lake
from playhead.serving.session import Session
from playhead.speed.state import StateStore
from playhead.views import View

__all__ = ["MAX_QUERY_CHARACTERS", "check_query", "jailed"]

MAX_QUERY_CHARACTERS = 100_000
_MAX_DEPTH = 200
_MAX_NODES = 50_000

_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest"})
_PARTS = frozenset({
    "SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE",
    "BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT",
    "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "ORDER_MODIFIER", "DISTINCT_MODIFIER",
    "ASCENDING", "DESCENDING", "ORDER_DEFAULT",
    "DECIMAL_TYPE_INFO", "LIST_TYPE_INFO", "STRUCT_TYPE_INFO", "ARRAY_TYPE_INFO",
    "STRING_TYPE_INFO",
})  # fmt: skip
"""What a query may be made of, beside expressions."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYSTEM = re.compile(r"(duckdb|pg|pragma|sqlite)_|information_schema", re.IGNORECASE)
_READABLE = "Read topics, dimensions and views by their names; GET /v1/views lists the views."
_Node = Mapping[str, Any]


def jailed(
    lake: Lake,
    log: EventLog,
    state: StateStore,
    views: Mapping[str, View],
    connection: duckdb.DuckDBPyConnection,
    *,
    folder: Path,
    spill: str,
) -> Session:
    """A session for queries of strangers.

    Args:
        connection: of its own; it is locked for good, and closed with the session.
        folder: the lake's, the only one that stays readable.
        spill: how much of the scratch folder may be used, such as "4GB".
    """
    lock_in(connection, folder, spill=spill)

    def guard(tree: _Node, text: str) -> None:
        # The tree of an EXPLAIN is that of what is behind the word; comments may stand before it.
        kinds = [statement.type for statement in connection.extract_statements(text)]
        if kinds != [duckdb.StatementType.SELECT]:
            raise QueryError("EXPLAIN is refused: it tells of files", hint=_READABLE)
        check_query(tree, text)

    return Session(lake, log, state, views, connection, guard=guard)


def check_query(tree: _Node, text: str) -> None:
    """Refuse a query that reaches beyond the relations.

    Args:
        tree: as DuckDB writes it in JSON.
        text: the query itself.

    Raises:
        QueryError: what is refused, by name.
    """
    if len(text) > MAX_QUERY_CHARACTERS:
        raise QueryError(f"the query has more than {MAX_QUERY_CHARACTERS} characters")
    if "\0" in text:
        raise QueryError("the query has a character that no SQL has: NUL")
    for node in _nodes(tree):
        _check_part(node)
        _check_names(node)
        _check_function(node)


@cache
def functions() -> frozenset[str]:
    """The functions and operators that a query may use, in lower case."""
    file = resources.files("playhead.serving") / "jail_functions.txt"
    return frozenset(file.read_text(encoding="utf-8").split())


def _nodes(tree: Any) -> Iterator[_Node]:
    """Every object of the tree, without recursion in Python."""
    waiting: list[tuple[Any, int]] = [(tree, 0)]
    count = 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if depth > _MAX_DEPTH * 2 or count > _MAX_NODES:
            raise QueryError("the query is nested too deeply or has too many parts")
        if isinstance(node, dict):
            yield node
            waiting += ((child, depth + 1) for child in node.values())
        elif isinstance(node, list):
            waiting += ((child, depth + 1) for child in node)


def _check_part(node: _Node) -> None:
    kind = node.get("type")
    if "class" in node:
        if node["class"] == "PARAMETER":
            raise QueryError("the query has a parameter, and there are no values for any")
    elif isinstance(kind, str) and kind not in _PARTS:
        raise QueryError(f"{_shown(kind)} is refused", hint=_READABLE)


def _check_names(node: _Node) -> None:
    if node.get("type") == "BASE_TABLE":
        if node.get("schema_name") or node.get("catalog_name") or node.get("at_clause"):
            raise QueryError(f"{_qualified(node)} is refused: it is qualified", hint=_READABLE)
        _check_relation(node["table_name"])
    if "cte_name" in node:
        _check_relation(node["cte_name"])
    for entry in (node.get("cte_map") or {}).get("map", ()):
        _check_relation(entry["key"])


def _check_relation(name: str) -> None:
    """Refuse what might be a file or a table of DuckDB's own, even as the name of a WITH."""
    if _NAME.fullmatch(name) is None:
        raise QueryError(f"{name[:100]!r} is no name of a relation", hint=_READABLE)
    if _SYSTEM.match(name):
        raise QueryError(f"relation {name[:100]} is refused", hint=_READABLE)


def _check_function(node: _Node) -> None:
    if node.get("type") == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in _TABLE_FUNCTIONS:
            known = ", ".join(sorted(_TABLE_FUNCTIONS))
            raise QueryError(
                f"table function {name[:100]} is refused", hint=f"There are {known}. {_READABLE}"
            )
    if "function_name" in node:
        name = str(node["function_name"]).lower()
        if name not in functions():
            raise QueryError(f"function {name[:100]} is refused")


def _qualified(node: _Node) -> str:
    parts = (node.get("catalog_name"), node.get("schema_name"), node["table_name"])
    return ".".join(part for part in parts if part)[:100]


def _shown(kind: str) -> str:
    return "DESCRIBE, SHOW or SUMMARIZE" if kind == "SHOW_REF" else kind.replace("_", " ").lower()
