"""Which rows repeat an event: SQL over relations of rows, wherever they are."""

from collections.abc import Sequence

from playhead.batch.sqltext import identifier

__all__ = [
    "CANDIDATE",
    "PLACE",
    "RANK",
    "candidates_sql",
    "columns_sql",
    "dedupe_sql",
    "met_sql",
    "only",
    "repeats_sql",
    "same_content_sql",
    "without",
]

RANK = ("ingest_time", "load_id", "epoch", "partition", "offset")
"""Which of several rows of one event stays: the lowest, column by column, NULL after all else."""

PLACE = ("load_id", "partition", "offset")
"""Columns that tell rows apart."""

CANDIDATE = ("event_id", "event_time", *RANK, "content")
"""What is compared of rows; `content` only tells two sorts of repeats apart."""

_LAST = {"ingest_time": "TIMESTAMP 'infinity'"}
_LAST_NUMBER = "9223372036854775807"


def dedupe_sql(relation: str) -> str:
    """A query: the rows of `relation` less repeats of an `event_id`; the lowest by `RANK` stays.

    Only the repeats are held in memory, not the rows.

    Args:
        relation: stands in a FROM clause, has `event_id` and the columns of `RANK`, and may be
            read several times. `load_id`, `partition` and `offset` together tell rows apart.
    """
    return without(relation, f"({repeats_sql(relation)})")


def without(relation: str, places: str) -> str:
    """A query: the rows of `relation` whose `PLACE` is not among `places`."""
    return f"SELECT r.* FROM {relation} AS r ANTI JOIN {places} AS gone ON {_same_place_sql()}"


def only(relation: str, places: str) -> str:
    """A query: the rows of `relation` whose `PLACE` is among `places`."""
    return f"SELECT r.* FROM {relation} AS r SEMI JOIN {places} AS gone ON {_same_place_sql()}"


def _same_place_sql() -> str:
    """A condition on `r` and `gone`: one row's place."""
    return " AND ".join(
        f"r.{identifier(name)} IS NOT DISTINCT FROM gone.{identifier(name)}" for name in PLACE
    )


def candidates_sql(relation: str, fields: Sequence[str]) -> str:
    """A relation: the columns `CANDIDATE` of the rows of `relation`.

    Args:
        fields: the contract's; of them `content` is a 64-bit hash.
    """
    columns = columns_sql("r", CANDIDATE[:-1])
    content = f"hash({columns_sql('r', fields)})"
    return f"(SELECT {columns}, {content} AS content FROM {relation} AS r)"


def repeats_sql(relation: str, repeated: str | None = None) -> str:
    """A query: the event id and `PLACE` of every row that an earlier row of `relation` beats.

    Rows are compared where a hash of the id repeats: hashes take a fraction of the ids' memory.

    Args:
        repeated: those rows of the relation, at least, if they are known.
    """
    narrow = f"SELECT {columns_sql('r', ('event_id', *RANK))} FROM {repeated or relation} AS r"
    if repeated is None:
        several = f"SELECT hash(event_id) AS h FROM {relation} AS r GROUP BY h HAVING count(*) > 1"
        narrow = f"SELECT * FROM ({narrow}) AS n SEMI JOIN ({several}) ON hash(n.event_id) = h"
    return f"""
        SELECT event_id, {", ".join(map(identifier, PLACE))} FROM ({narrow})
        QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY {_order_sql()}) > 1
    """


def met_sql(new: str, repeats: str, old: str) -> str:
    """A query: new rows whose event has an old row already, each with that row's place and day.

    Usually the older row stays; a new one `wins` if its rank is lower, as when a sealed epoch
    brings later what a load has brought, too.

    Args:
        new: candidates, `repeats` those of them that another one beats.
        old: candidates, one for an event.
    """
    narrow = f"(SELECT {columns_sql('r', ('event_id', *RANK))} FROM {new} AS r)"
    places = ", ".join(f"old.{identifier(c)} AS {identifier(f'old_{c}')}" for c in PLACE)
    existing = f"(SELECT {columns_sql('o', ('event_id', 'event_time', *RANK))} FROM {old} AS o)"
    return f"""
        SELECT new.event_id, {columns_sql("new", PLACE)}, {places},
            {_rank_sql("new")} < {_rank_sql("old")} AS wins, old.event_time::DATE AS old_day
        FROM ({without(narrow, repeats)}) AS new JOIN {existing} AS old USING (event_id)
    """


def same_content_sql(new: str, old: str, repeats: str, met: str) -> str:
    """A query: how many of the beaten rows equal the row that stays, field by field.

    Args:
        new, old: candidates, of those that repeat or meet an event at least.
    """
    columns = ("event_id", *RANK, "content")
    ids = f"(SELECT event_id FROM {repeats} UNION SELECT event_id FROM {met})"
    return f"""
        WITH every AS (
            SELECT {columns_sql("n", columns)} FROM {new} AS n SEMI JOIN {ids} USING (event_id)
            UNION ALL
            SELECT {columns_sql("o", columns)} FROM {old} AS o SEMI JOIN {met} USING (event_id)
        )
        SELECT count(*) FILTER (place > 1 AND content = best) FROM (
            SELECT content, first_value(content) OVER by_rank AS best,
                row_number() OVER by_rank AS place
            FROM every WINDOW by_rank AS (PARTITION BY event_id ORDER BY {_order_sql()})
        )
    """


def columns_sql(relation: str, names: Sequence[str]) -> str:
    """Columns of a relation, with its name before each."""
    return ", ".join(f"{relation}.{identifier(name)}" for name in names)


def _order_sql() -> str:
    return ", ".join(f"{identifier(name)} NULLS LAST" for name in RANK)


def _rank_sql(relation: str) -> str:
    """The rank as one comparable value."""
    parts = (
        f"coalesce({relation}.{identifier(name)}, {_LAST.get(name, _LAST_NUMBER)})" for name in RANK
    )
    return f"row({', '.join(parts)})"
