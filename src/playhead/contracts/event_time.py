"""A time of day for rows that have only a date: the same on every run and every machine.

The data set's files date their events to the day. Playhead gives each one a time of day that
is a pure function of its id, so that loading, replaying and recomputing agree for ever. The
times follow `HOUR_WEIGHTS`: of 200 events, how many fall in each hour of the day. The peak is
20:00 to 21:00, the low 04:00 to 05:00, and inside an hour all microseconds are equally likely.
"""

from playhead.contracts.base import Contract
from playhead.errors import ContractError

HOUR_WEIGHTS: tuple[int, ...] = (
    *(8, 5, 3, 2, 1, 2),  # 00 to 05
    *(3, 4, 5, 5, 6, 6),  # 06 to 11
    *(7, 7, 7, 8, 9, 11),  # 12 to 17
    *(15, 20, 22, 18, 15, 11),  # 18 to 23
)

PARTS_OF_DAY: dict[str, tuple[int, ...]] = {
    "night": (22, 23, 0, 1, 2, 3, 4, 5),
    "morning": (6, 7, 8, 9, 10, 11),
    "afternoon": (12, 13, 14, 15, 16, 17),
    "evening": (18, 19, 20, 21),
}
"""The hours of each part of a day; those of the night are of the same date."""

_HOUR_US = 3_600_000_000
# DuckDB's own md5_number_upper gives the same number four times as slowly.
_LOW_64_BITS = "18446744073709551615::UHUGEINT"
_SLOTS = [
    (hour * _HOUR_US + slot * (_HOUR_US // HOUR_WEIGHTS[hour]), _HOUR_US // HOUR_WEIGHTS[hour])
    for hours in PARTS_OF_DAY.values()
    for hour in hours
    for slot in range(HOUR_WEIGHTS[hour])
]
"""Equally likely pieces of the day, (start, length) in microseconds, part of day by part of day."""


def event_time_sql(date_sql: str, id_sql: str, *, time_of_day_sql: str | None = None) -> str:
    """A DuckDB expression (TIMESTAMP): a date and an id in, a time within that date out.

    The first 64 bits of the id's MD5, little-endian, pick one of 200 equally likely pieces of
    the day and then the microsecond in it.

    Args:
        date_sql: an expression that is or casts to DATE; NULL gives NULL.
        id_sql: an expression of type VARCHAR; NULL gives NULL.
        time_of_day_sql: an expression that is morning, afternoon, evening or night: the time
            falls in that part of the day. Any other value, or NULL, means the whole day.
    """
    digest = f"CAST(md5_number({id_sql}) & {_LOW_64_BITS} AS UBIGINT)"
    first, count = _window_sql(time_of_day_sql)
    slot = f"CAST({first} + {digest} % {count} AS INTEGER)"
    start = f"list_extract({[s for s, _ in _SLOTS]}, {slot})"
    length = f"list_extract({[n for _, n in _SLOTS]}, {slot})"
    micros = f"{start} + CAST({digest} // {count} % CAST({length} AS UBIGINT) AS BIGINT)"
    return f"(CAST({date_sql} AS DATE) + to_microseconds({micros}))"


def event_time_of(contract: Contract) -> str:
    """The event time of a topic's file rows, as SQL over the contract's own field names.

    Raises:
        ContractError: the contract does not derive an event time.
    """
    names = contract.schema.names
    origin = contract.field("event_time").derived_from if "event_time" in names else ()
    if len(origin) < 2:
        raise ContractError(
            f"{contract.name}: event_time is not derived from other fields",
            hint="topics name an id, a date and, if any, a part of the day in `derived_from`",
        )
    id_, date, *part = (f'"{name}"' for name in origin)
    return event_time_sql(date, id_, time_of_day_sql=part[0] if part else None)


def _window_sql(time_of_day_sql: str | None) -> tuple[str, str]:
    """The first slot, counting from 1, and the number of slots, as UBIGINT expressions."""
    if time_of_day_sql is None:
        return "1::UBIGINT", f"{len(_SLOTS)}::UBIGINT"
    firsts, counts, first = [], [], 1
    for part, hours in PARTS_OF_DAY.items():
        count = sum(HOUR_WEIGHTS[hour] for hour in hours)
        firsts.append(f"WHEN '{part}' THEN {first}")
        counts.append(f"WHEN '{part}' THEN {count}")
        first += count
    return (
        f"CAST(CASE {time_of_day_sql} {' '.join(firsts)} ELSE 1 END AS UBIGINT)",
        f"CAST(CASE {time_of_day_sql} {' '.join(counts)} ELSE {len(_SLOTS)} END AS UBIGINT)",
    )
