"""The parts of a platform as data: what is started, where it listens, how it may end."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from functools import partial
from pathlib import Path

from playhead.config import Address, Settings
from playhead.errors import SettingError
from playhead.platform.records import RunFolder

SILENCE = timedelta(seconds=60)
"""A part that has beaten and then says nothing for so long hangs."""

SPARK_SILENCE = timedelta(minutes=3)
"""The same where Spark works: its own patience with an executor that is silent is two minutes."""

STARTING = timedelta(minutes=10)
"""The speed layer may read the ids of a day before it first beats."""

_BASE_TAKES = timedelta(minutes=5)
_READ_STATES = {"batch", "api", "dashboard"}

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


class Role(IntEnum):
    """In which turn a part is told to stop; a turn waits for the one before."""

    TAKES_IN = 0
    WORKS_BESIDE = 1
    MAKES_ANSWERS = 2
    ANSWERS = 3


@dataclass(frozen=True)
class Part:
    """One process of the platform.

    Attributes:
        name: unique in the platform.
        command: what is run; `--alive FD` is added, and `--listen FD` if it has a socket.
        role: when it stops.
        socket: the name of the socket that it listens at; parts may share one.
        environment: variables besides those of the supervisor.
        silence: with no heartbeat for so long it hangs, and is killed.
        starting: the same before its first heartbeat.
    """

    name: str
    command: tuple[str, ...]
    role: Role
    socket: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    silence: timedelta = SILENCE
    starting: timedelta = STARTING

    @property
    def kind(self) -> str:
        """What it is: "gateway" for each of the gateway's workers."""
        kind, _, number = self.name.rpartition("-")
        return kind if number.isdigit() else self.name


def _command(workspace: Path, name: str, *more: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "playhead", "-w", str(workspace), "part", name, *more)


def standard_parts(workspace: Path, settings: Settings) -> list[Part]:
    """The gateway's workers, the speed layer, the batch layer, the API and the dashboards."""
    command = partial(_command, workspace)
    workers = settings.gateway.workers
    shared = {MULTIPROCESS: str(RunFolder(workspace).metrics)}
    gateways = [
        Part(name, command(name, "--workers", str(workers)), Role.TAKES_IN, "gateway", shared)
        for name in (f"gateway-{number}" for number in range(1, workers + 1))
    ]
    speed = Part(
        "speed",
        command("speed"),
        Role.MAKES_ANSWERS,
        silence=(SPARK_SILENCE if settings.speed.engine == "spark" else SILENCE)
        + 2 * settings.trigger,
    )
    dashboard = Part("dashboard", command("dashboard"), Role.ANSWERS, "dashboard")
    return [
        *gateways,
        speed,
        Part("batch", command("batch"), Role.WORKS_BESIDE),
        Part("api", command("api"), Role.ANSWERS, "api"),
        *([dashboard] if settings.dashboard.address else []),
    ]


def chosen_parts(parts: Sequence[Part], kinds: Sequence[str]) -> list[Part]:
    """Those parts that are of these kinds, all of them where none is named.

    Raises:
        SettingError: no part is of a kind.
    """
    known = list(dict.fromkeys(part.kind for part in parts))
    for kind in kinds:
        if kind not in known:
            raise SettingError(
                f"no part {kind!r} in this platform", hint=f"There are {', '.join(known)}."
            )
    return [part for part in parts if not kinds or part.kind in kinds]


def parts_to_run(workspace: Path, settings: Settings, kinds: Sequence[str]) -> list[Part]:
    """The standard parts, or those of some kinds with what they cannot do without.

    Where the speed layer's states are in the lake, a machine that reads them and does not run the
    speed layer itself has the part "states", which brings them to it.

    Raises:
        SettingError: no part is of a kind.
    """
    parts = standard_parts(workspace, settings)
    if settings.speed.engine != "spark" or not kinds:
        return chosen_parts(parts, kinds)
    states = Part("states", _command(workspace, "states"), Role.MAKES_ANSWERS, silence=_BASE_TAKES)
    chosen = chosen_parts([*parts, states], kinds)
    found = {part.kind for part in chosen}
    if found & _READ_STATES and not found & {"speed", "states"}:
        chosen.append(states)
    return chosen


def standard_addresses(settings: Settings) -> dict[str, Address]:
    """Where the sockets of the standard parts listen, by name."""
    sections = {
        "gateway": settings.gateway.address,
        "api": settings.api.address,
        "dashboard": settings.dashboard.address,
    }
    return {name: Address.parse(text) for name, text in sections.items() if text}


def secure_sockets(settings: Settings) -> tuple[str, ...]:
    """Names of the sockets that speak TLS."""
    sections = {
        "gateway": settings.gateway.tls_key,
        "api": settings.api.tls_key,
        "dashboard": settings.dashboard.tls_key,
    }
    return tuple(name for name, key in sections.items() if key)
