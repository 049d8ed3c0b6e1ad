"""Random draws by table: the shapes of the data set's values, vectorised.

Every draw is a uniform number looked up in a table or put through +, * and /, so that the
same stream gives the same values on every machine.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from math import gcd
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int16]
Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]

_STEPS: Final = 1 << 16
_GOLDEN: Final = 0.6180339887498949

_MONTHS: Final = (1.12, 1.06, 1.0, 0.97, 0.93, 0.9, 0.92, 0.94, 0.95, 1.0, 1.06, 1.15)
_WEEKDAYS: Final = (0.9, 0.88, 0.9, 0.95, 1.08, 1.18, 1.11)


def stream(seed: int, name: str, block: int) -> np.random.Generator:
    """The random stream of one block of one file, independent of all others."""
    key = int.from_bytes(name.encode(), "little")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, key, block])))


def chance(rng: np.random.Generator, rows: int, rate: float) -> Flags:
    """Flags of shape (rows,), each true with probability `rate`."""
    return rng.random(rows) < rate


def span(days: int, real: tuple[int, int, int]) -> tuple[int, int]:
    """First and last day of a span that the real set has, scaled to a period of `days`.

    Args:
        days: length of the period.
        real: the span's first and last day and the period's length in the real set.
    """
    first, last, period = real
    return -(-first * days // period), last * days // period


@dataclass(frozen=True)
class Choice:
    """One of some values, each with its weight.

    Attributes:
        values: at most 32,767 texts.
        weights: relative weights, one for each value; empty gives all the same.
    """

    values: tuple[str, ...]
    weights: tuple[float, ...] = ()

    @cached_property
    def _table(self) -> Codes:
        total = np.cumsum(self.weights or (1.0,) * len(self.values))
        bounds = np.round(total / total[-1] * _STEPS)
        return np.searchsorted(bounds, np.arange(_STEPS), side="right").astype(np.int16)

    def draw(self, rng: np.random.Generator, rows: int) -> Codes:
        """Positions in `values`, shape (rows,)."""
        return self._table[rng.integers(0, _STEPS, rows, dtype=np.uint16)]


@dataclass(frozen=True)
class Shape:
    """A distribution of numbers, as points (probability, value) joined by straight lines."""

    points: tuple[tuple[float, float], ...]

    def draw(self, rng: np.random.Generator, rows: int) -> Floats:
        """Values of shape (rows,), in the points' unit."""
        probabilities, values = zip(*self.points, strict=True)
        return np.asarray(np.interp(rng.random(rows), probabilities, values), np.float64)


@dataclass(frozen=True)
class Bands:
    """One of a few outcomes, with weights that depend on the row.

    Attributes:
        weights: shape (bands, outcomes), each row summing to 1.
    """

    weights: Floats

    def draw(self, rng: np.random.Generator, band: Values) -> Codes:
        """Outcomes of shape (rows,), by each row's band."""
        bounds = np.cumsum(self.weights, axis=1)
        uniform = rng.random(len(band))
        outcome = np.zeros(len(band), np.int16)
        for column in range(bounds.shape[1] - 1):
            outcome += uniform >= bounds[band, column]
        return outcome


@dataclass(frozen=True)
class Scatter:
    """A fixed shuffle of 0..count-1, so that popular things are not the first ids."""

    count: int

    @cached_property
    def _factor(self) -> int:
        factor = max(1, int(self.count * _GOLDEN))
        while gcd(factor, self.count) != 1:
            factor += 1
        return factor

    def apply(self, ranks: Integers) -> Integers:
        """Ids of shape (rows,) for ranks of the same shape."""
        return (ranks * self._factor + self.count // 3) % self.count


@dataclass(frozen=True)
class Popularity:
    """Zipf-Mandelbrot popularity of titles: weight 1 / (rank + 3.7), rank from 0."""

    count: int

    @cached_property
    def _bounds(self) -> Floats:
        weights = 1.0 / (np.arange(self.count) + 3.7)
        total = np.cumsum(weights)
        return np.asarray(total / total[-1], np.float64)

    def draw(self, rng: np.random.Generator, rows: int) -> Integers:
        """Title indices of shape (rows,)."""
        ranks = np.searchsorted(self._bounds, rng.random(rows), side="right")
        return Scatter(self.count).apply(ranks.astype(np.int64))


@dataclass(frozen=True)
class Activity:
    """Heavy-tailed activity of users.

    The density of rank share x follows x = 0.04 u + 0.96 u^3: the busiest user has 25 times
    the mean, the busiest tenth nearly half of all rows, the idlest a third of the mean.
    """

    count: int

    def draw(self, rng: np.random.Generator, rows: int) -> Integers:
        """User indices of shape (rows,)."""
        uniform = rng.random(rows)
        share = uniform * (0.04 + 0.96 * uniform * uniform)
        ranks = np.minimum((share * self.count).astype(np.int64), self.count - 1)
        return Scatter(self.count).apply(ranks)


@dataclass(frozen=True)
class Rhythm:
    """How facts spread over the days: seasons and weekdays.

    Attributes:
        start: day 0.
        days: length of the period.
    """

    start: date
    days: int

    @cached_property
    def _bounds(self) -> Floats:
        weights = [_weight(self.start + timedelta(days=day)) for day in range(self.days)]
        total = np.cumsum([0.0, *weights])
        return np.asarray(total / total[-1], np.float64)

    def draw(self, rng: np.random.Generator, floor: Values) -> Integers:
        """Days since the start, shape (rows,), none before the row's floor.

        A floor before the start means no floor, one after the end gives the last day.
        """
        bounds = self._bounds
        lowest = bounds[np.clip(floor, 0, self.days - 1)]
        place = lowest + rng.random(len(floor)) * (1.0 - lowest)
        days = np.searchsorted(bounds, place, side="right") - 1
        return np.asarray(np.minimum(days, self.days - 1), np.int64)


def _weight(day: date) -> float:
    return _MONTHS[day.month - 1] * _WEEKDAYS[day.weekday()]
