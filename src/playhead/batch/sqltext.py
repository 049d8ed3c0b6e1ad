"""Names, texts and types as DuckDB's SQL writes them."""

import pyarrow as pa

__all__ = ["identifier", "literal", "type_sql"]

_TYPES = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.date32(): "DATE",
    pa.timestamp("us"): "TIMESTAMP",
}


def identifier(name: str) -> str:
    """A column's or table's name in quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in quotes."""
    return "'" + text.replace("'", "''") + "'"


def type_sql(type_: pa.DataType) -> str:
    """DuckDB's name of a contract field's type."""
    if pa.types.is_decimal(type_):
        return f"DECIMAL({type_.precision}, {type_.scale})"
    return _TYPES[type_]
