"""What a view may read: topics of events, and dimensions looked up by key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from playhead.contracts import DIMENSIONS, TOPICS

PAIR_RATINGS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("movie_id", pa.string(), nullable=False),
        pa.field("avg_rating", pa.decimal128(9, 4)),
        pa.field("ratings", pa.int64()),
    ]
)
"""The derived dimension: one row per (user, movie) that has a review."""


@dataclass(frozen=True)
class Relation:
    """A name that a view's FROM or JOIN may use.

    `key` identifies one row of a dimension; an empty key means that the join's own
    equalities are taken for it. A topic's key is not used.
    """

    name: str
    kind: Literal["topic", "dimension"]
    schema: pa.Schema
    key: tuple[str, ...] = ()


def known_relations() -> dict[str, Relation]:
    """Every topic and dimension that has a contract, and the derived dimensions."""
    found = {name: Relation(name, "topic", c.schema) for name, c in TOPICS.items()}
    found |= {name: Relation(name, "dimension", c.schema, c.key) for name, c in DIMENSIONS.items()}
    found["pair_ratings"] = Relation(
        "pair_ratings", "dimension", PAIR_RATINGS, ("user_id", "movie_id")
    )
    return found


def dimension_relations(schemas: Mapping[str, pa.Schema]) -> dict[str, Relation]:
    """Relations for dimension tables given by schema, with the key of their contract if any."""
    known = known_relations()
    return {
        name: Relation(name, "dimension", schema, known[name].key if name in known else ())
        for name, schema in schemas.items()
    }
