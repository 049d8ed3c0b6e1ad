"""What a load of events needs: gateways, brokers, Spark, storage and network, with the arithmetic.

Rates that something has to keep up with are those of the peak; what is stored is the mean.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from playhead.errors import SettingError
from playhead.ops import figures
from playhead.ops.figures import Measured

__all__ = ["CapacityPlan", "Limit", "Line", "Load", "plan"]

DAY_S = 86_400
CORES, MEMORY = "cores", "memory"
_BYTES = ("B", "KB", "MB", "GB", "TB", "PB", "EB")
_BITS = ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s")
_GIB = "GiB"


@dataclass(frozen=True)
class Load:
    """What comes in, and how long it is kept.

    Attributes:
        events_per_second: on average over a day.
        peak_factor: the highest rate, in averages.
        event_bytes: of one event as JSON, before compression.
        retention: how long brokers keep events.
        history: how long the lake does.
        users: distinct users whose dimension rows are looked up.
        replication: copies of an event on brokers.
        batch_every: from the start of one batch run to the next.

    Raises:
        SettingError: a value is not above 0 (users may be 0), or no number.
    """

    events_per_second: float
    peak_factor: float = 3.0
    event_bytes: float = 350.0
    retention: timedelta = timedelta(days=7)
    history: timedelta = timedelta(days=730)
    users: int = 1_000_000
    replication: int = 3
    batch_every: timedelta = timedelta(days=1)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number = value.total_seconds() if isinstance(value, timedelta) else value
            least = {"users": 0, "peak_factor": 1, "replication": 1}.get(name)
            too_small = number <= 0 if least is None else number < least
            if too_small or not math.isfinite(number):
                wanted = "above 0" if least is None else f"at least {least}"
                raise SettingError(
                    f"{name} = {value} is not {wanted}", hint="See playhead plan -h."
                )

    @property
    def peak(self) -> float:
        """Events a second at the peak."""
        return self.events_per_second * self.peak_factor

    @property
    def kept_events(self) -> float:
        """Events of all of the history."""
        return self.events_per_second * self.history.total_seconds()

    @property
    def sent_bytes(self) -> float:
        """Of one event, compressed, as it goes to a broker."""
        return self.event_bytes / figures.COMPRESSION.value


@dataclass(frozen=True)
class Line:
    """One line of a plan.

    Attributes:
        part: of the platform, such as "gateway".
        what: is needed of it, such as "cores".
        value: in `unit`; bytes and bits a second as such.
        arithmetic: the formula with the numbers put in.
    """

    part: str
    what: str
    value: float
    unit: str
    arithmetic: str

    @property
    def shown(self) -> str:
        """The value and its unit, as people read them."""
        return _shown(self.value, self.unit)


@dataclass(frozen=True)
class Limit:
    """How much of one limit of a single machine the load takes.

    Attributes:
        takes: in `unit`, as is `limit`.
    """

    what: str
    takes: float
    limit: float
    unit: str

    @property
    def is_kept(self) -> bool:
        return self.takes <= self.limit

    @property
    def shown(self) -> str:
        """Both, in words."""
        sign = "within" if self.is_kept else "above"
        return f"{self.what} {_shown(self.takes, self.unit)} {sign} {_shown(self.limit, self.unit)}"


@dataclass(frozen=True)
class CapacityPlan:
    """What a load needs.

    Attributes:
        lines: by part, in the order of the flow.
        one_machine: what a single machine that was measured would have to bear.
    """

    load: Load
    lines: tuple[Line, ...]
    one_machine: tuple[Limit, ...]

    @property
    def fits_one_machine(self) -> bool:
        return all(limit.is_kept for limit in self.one_machine)

    @property
    def verdict(self) -> str:
        """Whether one machine is enough, with the figures that say so."""
        if self.fits_one_machine:
            told = "; ".join(limit.shown for limit in self.one_machine)
            return f"One machine is enough, `playhead up`: {told}."
        told = "; ".join(limit.shown for limit in self.one_machine if not limit.is_kept)
        return f"More than one machine of the kind that was measured: {told}."

    def value(self, part: str, what: str) -> float:
        """What is needed of a part.

        Raises:
            KeyError: the plan has no such line.
        """
        return {(line.part, line.what): line.value for line in self.lines}[part, what]


def plan(load: Load) -> CapacityPlan:
    """What a load needs, line by line."""
    speed = _speed(load)
    lines = [
        *_gateway(load),
        *_brokers(load, int(speed[0].value)),
        *speed,
        *_batch(load),
        *_api(),
        *_lake(load),
        *_network(load),
    ]
    return CapacityPlan(load, (*lines, *_total(lines)), _one_machine(load))


# -- parts -------------------------------------------------------------------------------


def _gateway(load: Load) -> list[Line]:
    took, sends = figures.GATEWAY.value, figures.PRODUCER.value
    processes = max(
        math.ceil(load.peak * (1 / took + 1 / sends) / figures.BUSY.value),
        int(figures.REPLICAS.value),
    )
    rate = f"{_n(load.peak)} × (1/{_n(took)} + 1/{_n(sends)})"
    return [
        Line("gateway", CORES, processes, CORES, f"{rate} ÷ {_n(figures.BUSY.value)}, at least 2"),
        Line("gateway", "processes", processes, "", "one a core"),
        _memory("gateway", processes, figures.GATEWAY_MEMORY, "processes"),
    ]


def _brokers(load: Load, speed_cores: int) -> list[Line]:
    takes, share = figures.BROKER.value, figures.BUSY.value
    brokers = max(math.ceil(load.peak * load.replication / (takes * share)), load.replication)
    readers = math.ceil(load.peak / (figures.CONSUMER.value * share))
    least = max(readers, speed_cores)
    partitions = math.ceil(least / brokers) * brokers
    day = load.events_per_second * load.sent_bytes * DAY_S * load.replication
    days = load.retention.total_seconds() / DAY_S
    kept = day * days / figures.DISK_FULL.value
    written = f"{_n(load.event_bytes)} B ÷ {_n(figures.COMPRESSION.value)}"
    return [
        Line(
            "Kafka",
            "brokers",
            brokers,
            "",
            f"{_n(load.peak)} × {load.replication} copies ÷ ({_n(takes)} × {_n(share)}), "
            f"at least {load.replication}",
        ),
        Line(
            "Kafka",
            "partitions",
            partitions,
            "",
            f"the larger of {speed_cores} speed cores and {_n(load.peak)} ÷ "
            f"({_n(figures.CONSUMER.value)} × {_n(share)}), up to a multiple of {brokers}",
        ),
        _each("Kafka", CORES, brokers, figures.BROKER_CORES, "brokers"),
        _memory("Kafka", brokers, figures.BROKER_MEMORY, "brokers"),
        Line(
            "Kafka",
            "disk a day",
            day,
            "B",
            f"{_n(load.events_per_second)} × {written} × {_n(DAY_S)} s × {load.replication} copies",
        ),
        Line(
            "Kafka",
            "disk",
            kept,
            "B",
            f"{_shown(day, 'B')} × {_n(days)} days ÷ {_n(figures.DISK_FULL.value)}",
        ),
        Line(
            "Kafka",
            "disk a broker",
            kept / brokers,
            "B",
            f"{_shown(kept, 'B')} ÷ {brokers} brokers",
        ),
    ]


def _speed(load: Load) -> list[Line]:
    rate, share = figures.SPARK_SPEED.value, figures.BUSY.value
    cores = max(math.ceil(load.peak / (rate * share)), 1)
    driver = figures.SPARK_DRIVER.value
    return [
        *_spark("speed", load, cores, f"{_n(load.peak)} ÷ ({_n(rate)} × {_n(share)})"),
        Line(
            "speed",
            "the driver's time",
            load.peak / driver,
            "",
            f"{_n(load.peak)} ÷ {_n(driver)}: with more than 1, the only driver does not keep up",
        ),
    ]


def _batch(load: Load) -> list[Line]:
    interval = load.batch_every.total_seconds()
    new = load.events_per_second * interval
    rate, cleans = figures.SPARK_BATCH.value, figures.SPARK_CLEANS.value
    ids, share = figures.IDS.value, figures.BATCH_BUSY.value
    work_s = new / rate + new / cleans + load.kept_events / ids
    cores = max(math.ceil(work_s / (interval * share)), 1)
    told = (
        f"({_n(new)} new ÷ {_n(rate)} + {_n(new)} cleaned ÷ {_n(cleans)} + "
        f"{_n(load.kept_events)} ids ÷ {_n(ids)}) "
        f"÷ ({_n(interval)} s × {_n(share)})"
    )
    again = load.kept_events / (rate * cores)
    return [
        *_spark("batch", load, cores, told),
        Line(
            "batch",
            "all of history anew",
            again / DAY_S,
            "days",
            f"{_n(load.kept_events)} ÷ ({_n(rate)} × {cores} cores)",
        ),
    ]


def _spark(part: str, load: Load, cores: int, arithmetic: str) -> list[Line]:
    """Cores and memory of one Spark application."""
    driver = int(figures.DRIVER_CORES.value)
    executors = math.ceil(cores / figures.EXECUTOR_CORES.value)
    users = load.users * figures.USER.value
    task, own = figures.TASK_MEMORY.value, figures.DRIVER_MEMORY.value
    return [
        Line(part, "executor cores", cores, CORES, arithmetic),
        Line(
            part,
            "executors",
            executors,
            "",
            f"{cores} cores ÷ {_n(figures.EXECUTOR_CORES.value)}",
        ),
        Line(part, CORES, cores + driver, CORES, f"{cores} of executors + {driver} of the driver"),
        Line(
            part,
            MEMORY,
            cores * (task + users) + own,
            _GIB,
            f"{cores} × ({_shown(task, _GIB)} + {_n(load.users)} users × "
            f"{_n(figures.USER.value)} B) + {_shown(own, _GIB)}",
        ),
    ]


def _api() -> list[Line]:
    replicas = int(figures.REPLICAS.value)
    return [
        Line("API", "replicas", replicas, "", "one may be gone; questions are not planned here"),
        _each("API", CORES, replicas, figures.API_CORES, "replicas"),
        _memory("API", replicas, figures.API_MEMORY, "replicas"),
    ]


def _lake(load: Load) -> list[Line]:
    event, state = 2 * figures.LAKE_EVENT.value, figures.STATE_EVENT.value
    day = load.events_per_second * DAY_S * (event + state)
    days = load.history.total_seconds() / DAY_S
    told = f"(2 × {_n(figures.LAKE_EVENT.value)} B raw and clean + {_n(state)} B of states)"
    return [
        Line("lake", "a day", day, "B", f"{_n(load.events_per_second)} × {_n(DAY_S)} s × {told}"),
        Line("lake", "history", day * days, "B", f"{_shown(day, 'B')} × {_n(days)} days"),
    ]


def _network(load: Load) -> list[Line]:
    peak, sent = load.peak, load.sent_bytes
    told = f"{_n(load.event_bytes)} B ÷ {_n(figures.COMPRESSION.value)}"
    return [
        Line(
            "network",
            "into gateways",
            peak * load.event_bytes * 8,
            "bit/s",
            f"{_n(peak)} × {_n(load.event_bytes)} B × 8",
        ),
        Line(
            "network",
            "into brokers",
            peak * sent * 8 * load.replication,
            "bit/s",
            f"{_n(peak)} × {told} × 8 × {load.replication} copies",
        ),
        Line("network", "out to Spark", peak * sent * 8, "bit/s", f"{_n(peak)} × {told} × 8"),
    ]


def _total(lines: Iterable[Line]) -> list[Line]:
    found = []
    for what, unit in ((CORES, CORES), (MEMORY, _GIB)):
        parts = [line for line in lines if line.what == what]
        told = " + ".join(f"{line.shown} {line.part}" for line in parts)
        found.append(Line("total", what, sum(line.value for line in parts), unit, told))
    return found


# -- one machine -------------------------------------------------------------------------


def _one_machine(load: Load) -> tuple[Limit, ...]:
    interval = load.batch_every.total_seconds()
    ids = figures.ONE_MACHINE_IDS.value
    cleans = figures.ONE_MACHINE_CLEANS.value
    run_s = load.events_per_second * interval / cleans + load.kept_events / ids
    per_event = 2 * figures.LAKE_EVENT.value + figures.STATE_EVENT.value
    return (
        Limit("a peak of", load.peak, figures.ONE_MACHINE.value, "events/s"),
        Limit("a batch run of", run_s / 60, interval * figures.BATCH_BUSY.value / 60, "minutes"),
        Limit("a lake of", load.kept_events * per_event, figures.ONE_MACHINE_DISK.value, "B"),
    )


# -- text --------------------------------------------------------------------------------


def _each(part: str, what: str, count: int, one: Measured, of: str) -> Line:
    return Line(part, what, count * one.value, CORES, f"{count} {of} × {_n(one.value)}")


def _memory(part: str, count: int, one: Measured, of: str) -> Line:
    told = f"{count} {of} × {_shown(one.value, _GIB)}"
    return Line(part, MEMORY, count * one.value, _GIB, told)


def _n(value: float) -> str:
    """A number as people write it: thousands apart, at most four digits of what is small."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _shown(value: float, unit: str) -> str:
    if unit == _GIB:
        return f"{_n(round(value / figures.GIB, 1))} GiB"
    for units in (_BYTES, _BITS):
        if unit == units[0]:
            return _scaled(value, units)
    return f"{_n(value)} {unit.removesuffix('s') if value == 1 else unit}".strip()


def _scaled(value: float, units: tuple[str, ...]) -> str:
    power = 0
    while value >= 1_000 and power < len(units) - 1:
        value, power = value / 1_000, power + 1
    return f"{value:.3g} {units[power]}" if value < 999.5 else f"{value:,.0f} {units[power]}"
