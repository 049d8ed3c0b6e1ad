"""The files of a running platform, `W/run/`: who runs, where it listens, how it is."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from playhead.platform.identity import ProcessId

Record = TypeVar("Record")


@dataclass(frozen=True)
class Beat:
    """What a part says of itself, about once a second.

    Attributes:
        since: when its process began to work, UTC.
        at: when it said this, UTC.
        health: how it is, for people.
        figures: the same in numbers, such as "lag".
    """

    name: str
    process: ProcessId
    since: datetime
    at: datetime
    address: str
    health: str
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PartRecord:
    """What the supervisor knows of a part.

    Attributes:
        state: "starting", "running", "restarting" (waits for its next start) or "stopped".
        process: None while none runs.
        since: when it came into this state, UTC.
        restarts: since the platform started.
        reason: why it was last restarted; empty if it never was.
    """

    name: str
    state: str
    process: ProcessId | None
    since: datetime
    restarts: int
    address: str
    reason: str


@dataclass(frozen=True)
class PlatformRecord:
    """What the supervisor tells of the platform.

    Attributes:
        state: "starting", "ready" (everything that has an address answers) or "stopping".
        addresses: where it listens, by socket ("gateway", "api").
        secure: which of these speak TLS.
    """

    process: ProcessId
    state: str
    since: datetime
    version: str
    addresses: Mapping[str, str]
    secure: tuple[str, ...]
    parts: tuple[PartRecord, ...]

    @property
    def urls(self) -> dict[str, str]:
        """The addresses as links, by socket."""
        return {
            name: f"{'https' if name in self.secure else 'http'}://{address}"
            for name, address in self.addresses.items()
        }


@dataclass(frozen=True)
class RunFolder:
    """Where the files are."""

    workspace: Path

    @property
    def path(self) -> Path:
        return self.workspace / "run"

    @property
    def platform(self) -> Path:
        """The supervisor's record; it is gone after a clean stop."""
        return self.path / "platform.json"

    @property
    def lock(self) -> Path:
        return self.path / "platform.lock"

    @property
    def log(self) -> Path:
        return self.path / "platform.log"

    @property
    def metrics(self) -> Path:
        """Files by which the processes of one part add up their metrics."""
        return self.path / "metrics"

    @property
    def batch(self) -> Path:
        """When the batch layer last ran."""
        return self.path / "last-batch.json"

    def beat(self, name: str) -> Path:
        """A part's heartbeat file."""
        return self.path / f"{name}.json"

    def beats(self) -> list[Beat]:
        """The last heartbeat of every part that ever ran here and was not cleared away."""
        own = {self.platform, self.batch}
        files = [path for path in sorted(self.path.glob("*.json")) if path not in own]
        return [beat for path in files if (beat := read_record(path, Beat)) is not None]


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """What a file says; None if it is missing, or was written by another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def write_record(path: Path, record: object) -> None:
    """Write a file so that a reader sees the old one or the new one.

    Nothing of it needs to survive the machine, so nothing is forced to the disk.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
