"""When a replayed event is due: so many a second, on the events' own clock, or at once."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from playhead.errors import SettingError

__all__ = ["AtOnce", "Pace", "Rate", "Speed", "Times", "read_pace"]

Times = NDArray[np.int64]
"""Event times in microseconds since 1970 UTC, shape (n,), ascending."""

_SPEED = re.compile(r"([0-9]*\.?[0-9]+)\s*x?")


class Pace(ABC):
    """Says when each event of a replay is due."""

    @abstractmethod
    def due_s(self, before: int, first_us: int, times: Times) -> NDArray[np.float64]:
        """Seconds from the start of the replay to each event, shape (n,), ascending.

        Args:
            before: how many events came before these.
            first_us: event time of the replay's first event.
        """


@dataclass(frozen=True)
class Rate(Pace):
    """The same number of events every second, whatever their event times.

    Raises:
        SettingError: not above zero.
    """

    events_per_second: float

    def __post_init__(self) -> None:
        _check_positive("rate", self.events_per_second)

    def due_s(self, before: int, first_us: int, times: Times) -> NDArray[np.float64]:
        return np.arange(before, before + len(times)) / self.events_per_second


@dataclass(frozen=True)
class Speed(Pace):
    """As the events once came, but `factor` times as fast.

    Raises:
        SettingError: not above zero.
    """

    factor: float

    def __post_init__(self) -> None:
        _check_positive("speed", self.factor)

    def due_s(self, before: int, first_us: int, times: Times) -> NDArray[np.float64]:
        return (times - first_us) / 1e6 / self.factor


@dataclass(frozen=True)
class AtOnce(Pace):
    """As fast as the event log takes them."""

    def due_s(self, before: int, first_us: int, times: Times) -> NDArray[np.float64]:
        return np.zeros(len(times))


def read_pace(rate: str | None, speed: str | None) -> Pace:
    """The pace that two options name: `rate` is `max` or events a second, `speed` like `60x`.

    Neither gives 5 events a second.

    Raises:
        SettingError: both are given, or one cannot be read.
    """
    if rate is not None and speed is not None:
        raise SettingError(
            f"replay: rate {rate} and speed {speed} exclude each other",
            hint="A rate ignores the events' own times, a speed follows them: give one.",
        )
    if speed is not None:
        match = _SPEED.fullmatch(speed.strip())
        if match is None:
            raise SettingError(f"replay: speed {speed!r} is no factor", hint="Write 60x, or 0.5x.")
        return Speed(float(match[1]))
    if rate == "max":
        return AtOnce()
    try:
        return Rate(5 if rate is None else float(rate))
    except ValueError:
        raise SettingError(
            f"replay: rate {rate!r} is no number", hint="Write events a second, such as 5, or max."
        ) from None


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise SettingError(
            f"replay: {name} = {value} cannot be used", hint="Give a number above zero."
        )
