"""What a page shows, as its address says it: a stretch of time, and values of some dimensions.

Whoever gets a link sees the same page: `?last=6h&country=Canada&country=USA`.
"""

import re
from calendar import monthrange
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from urllib.parse import parse_qsl, urlencode

__all__ = ["ALL", "DIMENSIONS", "Filters", "Period"]

DIMENSIONS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "country": ("country", "location_country"),
    "plan": ("subscription_plan",),
    "genre": ("genre", "genre_primary"),
    "device": ("device_type",),
    "type": ("content_type",),
})  # fmt: skip
"""What can be filtered by, and the columns of views that hold it."""

ALL = "all"
"""What the address says of a period without bounds."""

_LAST = re.compile(r"(?P<count>[1-9]\d{0,4})(?P<unit>[mhdw])")
_MONTHS = re.compile(r"[1-9]\d{0,2}mo")
_LEAST_MONTH = timedelta(days=28)
_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_MOST_VALUES = 50


@dataclass(frozen=True)
class Period:
    """A stretch of event time: the last so long, or from one time to another (naive UTC).

    Attributes:
        last: such as "6h", or "3mo", which are the month that runs and the two before it; None:
            `since` and `until` say it, of which each may be open.
    """

    last: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def bounds(self, now: datetime) -> tuple[datetime | None, datetime | None]:
        """Its start and its end, None where it is open.

        Args:
            now: the newest event time that is known, naive UTC.
        """
        if self.last is None:
            return self.since, self.until
        if _MONTHS.fullmatch(self.last):
            return earlier(_month_of(now), int(self.last[:-2]) - 1), None
        return now - length_of(self.last), None

    @property
    def is_open(self) -> bool:
        """Whether it has no start."""
        return self.last is None and self.since is None

    def before(self, now: datetime) -> "Period | None":
        """The stretch of the same length just before it, to compare with; None if it is open.

        What begins with a month is compared with as many months before, up to the same day.
        """
        start, end = self.bounds(now)
        if start is None:
            return None
        end = end or now
        if start == _month_of(start) and (end - start >= _LEAST_MONTH or self.last is not None):
            months = months_between(start, end) + (end != _month_of(end))
            return Period(None, earlier(start, months), earlier(end, months))
        return Period(None, start - (end - start), start)


@dataclass(frozen=True)
class Filters:
    """What is asked of a page.

    Attributes:
        values: those that are wanted, by dimension; a dimension without any is not filtered.
        compared: whether the period before is shown beside it.
        problems: what of the address could not be read, in words.
    """

    period: Period = Period()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    compared: bool = False
    problems: tuple[str, ...] = ()

    @classmethod
    def parse(cls, query: str, default: Period) -> "Filters":
        """The filters that an address names behind its question mark.

        What it does not know is left alone; what it cannot read is told, and not filtered by.

        Args:
            default: the period where the address names none.
        """
        problems: list[str] = []
        values: dict[str, list[str]] = {}
        told: dict[str, str] = {}
        for name, value in parse_qsl(query, max_num_fields=1_000):
            if name in DIMENSIONS:
                values.setdefault(name, []).append(value)
            else:
                told[name] = value
        for name, several in values.items():
            if len(several) > _MOST_VALUES:
                problems.append(f"{name}: {len(several)} values, and {_MOST_VALUES} at most")
        kept = {n: tuple(dict.fromkeys(v)) for n, v in values.items() if len(v) <= _MOST_VALUES}
        period = _period(told, default, problems)
        return cls(period, kept, told.get("compare") == "before", tuple(problems))

    def query(self, default: Period | None = None) -> str:
        """What stands behind the question mark of an address with these filters.

        Args:
            default: the period that the page has without saying so.
        """
        period = self.period
        pairs: list[tuple[str, str]] = []
        if period == default:
            pass
        elif period == Period():
            pairs.append(("last", ALL))
        elif period.last is not None:
            pairs.append(("last", period.last))
        else:
            both = (("since", period.since), ("until", period.until))
            pairs += [(name, f"{time.isoformat()}Z") for name, time in both if time is not None]
        pairs += [(name, value) for name in DIMENSIONS for value in self.values.get(name, ())]
        if self.compared:
            pairs.append(("compare", "before"))
        return urlencode(pairs)

    def wanting(self, dimension: str, values: Iterable[str]) -> "Filters":
        """The same with other values of one dimension; none: it is not filtered by."""
        changed = {**self.values, dimension: tuple(values)}
        return replace(self, values={name: chosen for name, chosen in changed.items() if chosen})

    def columns(self, known: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
        """The values wanted by column of a view, and the dimensions that the view does not have.

        Args:
            known: the view's columns.
        """
        found: dict[str, tuple[str, ...]] = {}
        missing = []
        for dimension, values in self.values.items():
            column = next((name for name in DIMENSIONS[dimension] if name in known), None)
            if column is None:
                missing.append(dimension)
            else:
                found[column] = values
        return found, missing


def months_between(first: datetime, second: datetime) -> int:
    """From the month of one time to the month of another."""
    return (second.year - first.year) * 12 + second.month - first.month


def earlier(time: datetime, months: int) -> datetime:
    """The same day and time some months before, or the last day that the month has."""
    year, month = divmod(time.year * 12 + time.month - 1 - months, 12)
    if year < 1:
        return datetime(1, 1, 1)
    return time.replace(year, month + 1, min(time.day, monthrange(year, month + 1)[1]))


def _month_of(time: datetime) -> datetime:
    return time.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def length_of(last: str) -> timedelta:
    """How long "90m", "6h", "7d" or "4w" is.

    Raises:
        ValueError: it is nothing of that kind.
    """
    found = _LAST.fullmatch(last)
    if found is None:
        raise ValueError(f"{last!r} is no length of time, such as 90m, 6h, 7d, 4w or 3mo")
    return int(found["count"]) * _UNITS[found["unit"]]


def _period(told: Mapping[str, str], default: Period, problems: list[str]) -> Period:
    if last := told.get("last"):
        if last == ALL:
            return Period()
        try:
            if not _MONTHS.fullmatch(last):
                length_of(last)
        except ValueError as error:
            problems.append(f"last: {error}")
            return default
        return Period(last)
    times: dict[str, datetime | None] = {}
    for name in ("since", "until"):
        try:
            times[name] = _naive(told[name]) if told.get(name) else None
        except (ValueError, OverflowError):
            problems.append(f"{name}: {told[name][:40]!r} is no time")
            return default
    since, until = times["since"], times["until"]
    if since is None and until is None:
        return default
    if since is not None and until is not None and until <= since:
        problems.append("until is not after since")
        return default
    return Period(None, since, until)


def _naive(text: str) -> datetime:
    """A time as UTC without its zone; one without a zone is UTC."""
    time = datetime.fromisoformat(text)
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
