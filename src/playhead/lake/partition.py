"""Partition values: whole days or months since 1970 in Iceberg, dates everywhere else."""

from datetime import date, timedelta

from playhead.errors import LakeError
from playhead.lake.schema import Partition

_EPOCH = date(1970, 1, 1)


def to_date(partition: Partition, value: int) -> date:
    """The day, or the first of the month, that a value stands for."""
    if partition.unit == "day":
        return _EPOCH + timedelta(days=value)
    return date(1970 + value // 12, value % 12 + 1, 1)


def to_value(table: str, partition: Partition, day: date) -> int:
    """The value that stands for a day, or for the month whose first day is given.

    Raises:
        LakeError: the table is cut by month, and `day` is not the first of one.
    """
    if partition.unit == "day":
        return (day - _EPOCH).days
    if day.day != 1:
        raise LakeError(
            f"{table}: {day} names no partition, for the table is cut by month",
            hint=f"Name the first of the month: {day.replace(day=1)}.",
        )
    return (day.year - _EPOCH.year) * 12 + day.month - 1


def label(partition: Partition | None, value: int) -> str:
    """The start of a file's name, for people who look into the folder."""
    if partition is None:
        return "all"
    day = to_date(partition, value)
    return f"{day:%Y-%m-%d}" if partition.unit == "day" else f"{day:%Y-%m}"
