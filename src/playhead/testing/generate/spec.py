"""What a generated data set looks like: its size, its time, its dirt."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Final

from playhead.errors import SettingError

BLOCK_ROWS: Final = 250_000
"""Rows that one random stream makes and one Parquet row group holds.

It is part of what a seed means: another value gives another data set.
"""

LARGEST: Final = 1_000_000_000

_FIRST_START: Final = date(1970, 1, 1)
_LAST_START: Final = date(2200, 1, 1)


@dataclass(frozen=True)
class GenerateSpec:
    """Size, period and dirt of a data set.

    Attributes:
        users, movies, sessions: distinct rows; duplicates come on top.
        days: length of the period in which facts happen.
        seed: two runs of one seed give the same bytes.
        dirt: 0 gives a clean data set, 1 the rates of the real one.
        start: first day of the period.
        reviews, searches, recommendations: distinct rows; None scales with the sessions
            as in the real set (15, 25 and 50 for every 100 sessions).

    Raises:
        SettingError: a value is out of its range.
    """

    users: int = 10_000
    movies: int = 1_000
    sessions: int = 100_000
    days: int = 731
    seed: int = 1
    dirt: float = 1.0
    start: date = date(2024, 1, 1)
    reviews: int | None = None
    searches: int | None = None
    recommendations: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            _check_integer(name, getattr(self, name), low, high)
        if isinstance(self.dirt, bool) or not isinstance(self.dirt, int | float):
            raise _refusal("dirt", self.dirt, "a number from 0 to 1")
        if not 0 <= self.dirt <= 1:
            raise _refusal("dirt", self.dirt, "from 0 (clean) to 1 (as the real data set)")
        whole_day = isinstance(self.start, date) and not isinstance(self.start, datetime)
        if not whole_day or not _FIRST_START <= self.start <= _LAST_START:
            raise _refusal("start", self.start, f"a day from {_FIRST_START} to {_LAST_START}")

    def rows(self, file: str) -> int:
        """Distinct rows of a file."""
        name, share = _ROWS[file]
        count = getattr(self, name)
        return int(count) if count is not None else round(self.sessions * share)

    def blocks(self, file: str) -> "Iterator[Block]":
        """The file's blocks in order; a file without rows has one empty block."""
        rows = self.rows(file)
        extra = round(rows * DUPLICATES[file] * self.dirt)
        for number, first in enumerate(range(0, max(rows, 1), BLOCK_ROWS)):
            end = min(first + BLOCK_ROWS, rows)
            repeats = extra * end // rows - extra * first // rows if rows else 0
            yield Block(number, first, end - first, repeats)


@dataclass(frozen=True)
class Block:
    """A run of consecutive rows of one file.

    Attributes:
        number: its place in the file, from 0.
        first: index of its first distinct row, from 0.
        rows: its distinct rows.
        repeats: full-row duplicates of its rows that follow them.
    """

    number: int
    first: int
    rows: int
    repeats: int


DUPLICATES: Final = {
    "users": 0.03,
    "movies": 0.04,
    "watch_history": 0.05,
    "reviews": 0.03,
    "search_logs": 0.06,
    "recommendation_logs": 0.04,
}

_ROWS: Final = {
    "users": ("users", 1.0),
    "movies": ("movies", 1.0),
    "watch_history": ("sessions", 1.0),
    "reviews": ("reviews", 0.15),
    "search_logs": ("searches", 0.25),
    "recommendation_logs": ("recommendations", 0.5),
}

_RANGES: Final = (
    ("users", 1, LARGEST),
    ("movies", 1, 10_000_000),
    ("sessions", 0, 100 * LARGEST),
    ("days", 1, 36_525),
    ("seed", 0, 2**63 - 1),
    ("reviews", 0, 100 * LARGEST),
    ("searches", 0, 100 * LARGEST),
    ("recommendations", 0, 100 * LARGEST),
)

_OPTIONAL: Final = {field.name for field in fields(GenerateSpec) if field.default is None}


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    if value is None and name in _OPTIONAL:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refusal(name, value, "a whole number")
    if not low <= value <= high:
        raise _refusal(name, value, f"from {low:,} to {high:,}")


def _refusal(name: str, value: object, wanted: str) -> SettingError:
    return SettingError(
        f"generate: {name} = {value!s} cannot be used",
        hint=f"Give {name} as {wanted}.",
    )
