"""Dimensions: one current table per name, whose version counts up when its content changes."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import duckdb
import pyarrow as pa

from playhead.batch.sqltext import identifier
from playhead.errors import LakeConflictError
from playhead.lake import Lake, dimension_table
from playhead.lake.tables import clean_name

__all__ = [
    "PAIR_RATINGS",
    "Replaced",
    "dimension_version",
    "rebuild_pair_ratings",
    "replace_dimension",
]

logger = logging.getLogger(__name__)

PAIR_RATINGS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("movie_id", pa.string(), nullable=False),
        pa.field("avg_rating", pa.decimal128(9, 4)),
        pa.field("ratings", pa.int64(), nullable=False),
    ]
)
"""The derived dimension `pair_ratings`: what each user thinks of each title that they rated."""

_ATTEMPTS = 10
_MADE_OF = "playhead.made-of"
_NO_RATINGS = "(SELECT NULL::VARCHAR AS user_id, NULL::VARCHAR AS movie_id, NULL::INT AS rating)"


@dataclass(frozen=True)
class Replaced:
    """What became of a dimension; `changed` says whether its version is a new one."""

    version: int
    changed: bool
    rows: int


def dimension_version(lake: Lake, name: str) -> int:
    """The version of `dim.<name>`; 0 if there is no such table, or nothing in it yet."""
    table = dimension_table(name, pa.schema([])).name
    return int(lake.properties(table).get("playhead.version", 0)) if lake.exists(table) else 0


def replace_dimension(
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    name: str,
    schema: pa.Schema,
    query: str,
    *,
    properties: Mapping[str, str] | None = None,
) -> Replaced:
    """Make `query` the whole content of `dim.<name>`, in one snapshot with its version.

    With the same rows in any order nothing is written but `properties`, and the version stays.

    Args:
        query: may be run twice; its columns are those of `schema`.

    Raises:
        LakeConflictError: other writers kept replacing it first.
    """
    spec = dimension_table(name, schema)
    spec.create_in(lake)
    rows, content = _fingerprint(con, schema, query)
    for _ in range(_ATTEMPTS):
        current = lake.properties(spec.name)
        version = int(current.get("playhead.version", 0))
        if current.get("playhead.content") == content:
            lake.set_properties(spec.name, properties or {})
            return Replaced(version, changed=False, rows=rows)
        marks = {"playhead.version": str(version + 1), "playhead.content": content}
        written = lake.overwrite(
            spec.name,
            con,
            query,
            properties={**(properties or {}), **marks},
            guard=partial(_is_version, version),
        )
        if not written.skipped:
            logger.info("%s is now version %d: %d rows", spec.name, version + 1, rows)
            return Replaced(version + 1, changed=True, rows=rows)
    raise LakeConflictError(
        f"{spec.name}: other processes kept replacing it first",
        hint="Try again when they are done.",
    )


def rebuild_pair_ratings(lake: Lake, con: duckdb.DuckDBPyConnection) -> int:
    """Make `dim.pair_ratings` from `clean.rating`, unless it is, and give its version.

    `avg_rating` is the exact mean of a pair's ratings, rounded half up (away from zero) to four
    places in integers; NULL in the absurd case that it outgrows DECIMAL(9,4).
    """
    source = clean_name("rating")
    made_of, relation = "nothing", _NO_RATINGS
    if lake.exists(source):
        ratings = lake.snapshot(source)
        made_of = f"{source} {ratings.id}"
        relation = ratings.scan(columns=("user_id", "movie_id", "rating"))
    table = dimension_table("pair_ratings", PAIR_RATINGS).name
    if lake.exists(table) and lake.properties(table).get(_MADE_OF) == made_of:
        return dimension_version(lake, "pair_ratings")
    return replace_dimension(
        lake,
        con,
        "pair_ratings",
        PAIR_RATINGS,
        f"""
        WITH pairs AS (
            SELECT user_id, movie_id, sum(rating)::BIGINT AS total, count(*)::BIGINT AS ratings
            FROM {relation} WHERE rating IS NOT NULL GROUP BY ALL
        ), scaled AS (
            SELECT *, sign(total) * ((abs(total)::HUGEINT * 20000 + ratings) // (2 * ratings))
                AS ten_thousandths
            FROM pairs
        )
        SELECT user_id, movie_id,
            TRY_CAST(ten_thousandths::DECIMAL(30, 0) * 0.0001 AS DECIMAL(9, 4)) AS avg_rating,
            ratings
        FROM scaled
    """,
        properties={_MADE_OF: made_of},
    ).version


def _is_version(version: int, properties: Mapping[str, str]) -> bool:
    return int(properties.get("playhead.version", 0)) == version


def _fingerprint(con: duckdb.DuckDBPyConnection, schema: pa.Schema, query: str) -> tuple[int, str]:
    """The number of rows, and a hash of their content that no order changes.

    A sum of 64-bit hashes over the rows tells multisets apart as surely as the hash tells rows.
    """
    columns = ", ".join(f"coalesce({identifier(n)}::VARCHAR, chr(30))" for n in schema.names)
    row = con.execute(
        f"SELECT count(*), sum(md5_number_upper(concat_ws(chr(31), {columns}))) FROM ({query})"
    ).fetchone()
    rows, total = row or (0, None)
    names = ",".join(f"{field.name} {field.type}" for field in schema)
    return int(rows), f"{names}:{rows}:{total or 0}"
