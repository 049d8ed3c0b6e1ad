"""DuckDB's binder as the oracle of types: what a column or an expression is, exactly."""

from collections.abc import Iterable, Mapping
from functools import cache

import duckdb
import pyarrow as pa

from playhead.errors import ViewSyntaxError


def quote(name: str) -> str:
    """`name` as a DuckDB identifier, quoted only where it has to be."""
    plain = name.isidentifier() and name.isascii() and name.lower() not in reserved_words()
    return name if plain else '"' + name.replace('"', '""') + '"'


@cache
def reserved_words() -> frozenset[str]:
    """Words that DuckDB does not take as a bare column or table name."""
    with duckdb.connect(":memory:") as connection:
        rows = connection.execute(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
        ).fetchall()
    return frozenset(word for (word,) in rows)


class Binder:
    """Empty tables of the right types, to bind a query against without running it."""

    def __init__(self, relations: Mapping[str, pa.Schema]) -> None:
        self._connection = duckdb.connect(":memory:")
        self._described: dict[str, list[tuple[str, str]]] = {}
        self._connection.execute("SET TimeZone = 'UTC'")
        for name, schema in relations.items():
            self._connection.register("__empty", schema.empty_table())
            self._connection.execute(f"CREATE TABLE {quote(name)} AS FROM __empty")
            self._connection.unregister("__empty")

    def columns(self, relation: str) -> dict[str, str]:
        """DuckDB type by column name, in the relation's order."""
        return dict(self.describe(f"FROM {quote(relation)}"))

    def create(self, name: str, columns: Iterable[tuple[str, str]]) -> None:
        """Add an empty table of (column, DuckDB type)."""
        body = ", ".join(f"{quote(column)} {kind}" for column, kind in columns)
        self._connection.execute(f"CREATE OR REPLACE TABLE {quote(name)} ({body})")
        self._described.clear()

    def describe(self, sql: str) -> list[tuple[str, str]]:
        """(name, DuckDB type) of each output column.

        Raises:
            ViewSyntaxError: DuckDB cannot bind the query; its own words say why.
        """
        if sql not in self._described:
            try:
                rows = self._connection.execute(f"DESCRIBE {sql}").fetchall()
            except duckdb.Error as error:
                raise ViewSyntaxError(str(error).split("\n\n")[0]) from error
            self._described[sql] = [(row[0], row[1]) for row in rows]
        return self._described[sql]

    def close(self) -> None:
        """Free the session; the binder cannot be used after it."""
        self._connection.close()
