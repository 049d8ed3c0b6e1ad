"""Ids of the dedupe window in files, so that the next start need not read and hash them again.

A copy: whatever is missing or damaged is recalled from the lake and the event log. What it tells
stands as of one micro-batch. A start believes it only if the last owner of the state wrote it and
the state has read at least as far, so no id in it can be of an event that is still to be counted.
"""

import json
import logging
import threading
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from playhead.speed.dedupe import Run, merged

logger = logging.getLogger(__name__)

_FORMAT = 1
_HALF = np.dtype("<u8")
_SMALL_IDS = 131_072
"""Runs below this size are written together, anew each time."""
_SPAN = timedelta(hours=1)
"""Ids of one file came within this time of each other, unless their run is longer."""


@dataclass(frozen=True)
class Remembered:
    """What is remembered of a topic as of one micro-batch.

    Attributes:
        runs: the ids, the oldest first.
        next: by partition, the offset up to which the event log's ids are in `runs`.
        loads: the last load of the lake whose ids are.
    """

    runs: Sequence[Run]
    next: Mapping[int, int]
    loads: int


@dataclass(frozen=True)
class _File:
    """A run on disk: the first halves of its hashes, then the second ones, little endian.

    Attributes:
        arrived: when its last id came into the event log.
        span_s: the seconds from its first to its last id.
    """

    name: str
    ids: int
    crc32: int
    arrived: str
    span_s: float


class IdFiles:
    """The files of one folder: a list a topic, and the runs that it names.

    Nothing is synced: what a power cut spoils fails its checksum. Safe for one thread at a time.

    Args:
        folder: made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: WeakKeyDictionary[Run, _File] = WeakKeyDictionary()
        self._failing = False

    def keep(self, topic: str, remembered: Remembered, owner: str) -> None:
        """Write what is not in files yet, and make the rest go.

        A disk that refuses is told of once: the next start then takes longer, and no more.

        Args:
            owner: whoever owns the state.
        """
        try:
            self._folder.mkdir(exist_ok=True)
            files = [self._written(topic, run) for run in _gathered(remembered.runs, self._files)]
            self._write_list(topic, remembered, owner, files)
            self._sweep(topic, {file.name for file in files})
            self._failing = False
        except OSError as error:
            if not self._failing:
                logger.warning("ids of %s are not kept in %s: %s", topic, self._folder, error)
            self._failing = True

    def load_all(self, owner: str | None, at: datetime) -> dict[str, Remembered]:
        """What was kept by an owner, by topic; see `load`."""
        topics = sorted(path.stem for path in self._folder.glob("*.json"))
        found = {topic: self.load(topic, owner, at) for topic in topics}
        return {topic: kept for topic, kept in found.items() if kept is not None}

    def load(self, topic: str, owner: str | None, at: datetime) -> Remembered | None:
        """What was kept of a topic by an owner; None if there is nothing whole.

        Args:
            at: when the last of the ids counts as remembered, and the others as much before it as
                they came before it.
        """
        try:
            listed = self._read_list(topic)
            if owner is None or listed is None or listed["owner"] != owner:
                return None
            files = [_File(**file) for file in listed["files"]]
            last = max((datetime.fromisoformat(file.arrived) for file in files), default=at)
            runs = [self._read(file, at - last) for file in files]
            after = {int(partition): int(offset) for partition, offset in listed["next"].items()}
            return Remembered(runs, after, int(listed["loads"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning(
                "ids of %s in %s cannot be used and are made anew: %s", topic, self._folder, error
            )
            return None

    def _written(self, topic: str, run: Run) -> _File:
        if run in self._files:
            return self._files[run]
        name = f"{topic}-{uuid.uuid4().hex[:12]}.ids"
        halves = [np.ascontiguousarray(half, _HALF) for half in (run.first, run.second)]
        crc32 = 0
        with (self._folder / name).open("xb") as file:
            for half in halves:
                file.write(half.data)
                crc32 = zlib.crc32(half.data, crc32)
        span_s = (run.newest - run.oldest).total_seconds()
        made = _File(name, len(run), crc32, run.arrived.isoformat(), span_s)
        self._files[run] = made
        return made

    def _read(self, file: _File, later: timedelta) -> Run:
        path = self._folder / file.name
        halves = np.fromfile(path, _HALF)
        if len(halves) != 2 * file.ids or zlib.crc32(halves.data) != file.crc32:
            raise ValueError(f"{path} fails its checksum")
        first, second = halves[: file.ids], halves[file.ids :]
        arrived = datetime.fromisoformat(file.arrived)
        newest = arrived + later
        run = Run(first, second, newest - timedelta(seconds=file.span_s), newest, arrived)
        self._files[run] = file
        return run

    def _write_list(
        self, topic: str, remembered: Remembered, owner: str, files: Sequence[_File]
    ) -> None:
        text = json.dumps(
            {
                "format": _FORMAT,
                "owner": owner,
                "next": remembered.next,
                "loads": remembered.loads,
                "files": [asdict(file) for file in files],
            }
        )
        new = self._list_of(topic).with_suffix(".new")
        new.write_text(f"{zlib.crc32(text.encode()):08x} {text}\n", encoding="utf-8")
        new.replace(self._list_of(topic))

    def _read_list(self, topic: str) -> dict[str, Any] | None:
        path = self._list_of(topic)
        if not path.exists():
            return None
        crc32, _, text = path.read_text(encoding="utf-8").strip().partition(" ")
        if int(crc32, 16) != zlib.crc32(text.encode()):
            raise ValueError(f"{path} fails its checksum")
        listed: dict[str, Any] = json.loads(text)
        return listed if listed["format"] == _FORMAT else None

    def _list_of(self, topic: str) -> Path:
        return self._folder / f"{topic}.json"

    def _sweep(self, topic: str, wanted: set[str]) -> None:
        for path in self._folder.glob(f"{topic}-*.ids"):
            if path.name not in wanted:
                # Another process that was fenced off may sweep as well.
                with suppress(FileNotFoundError):
                    path.unlink()


def _gathered(runs: Sequence[Run], known: "WeakKeyDictionary[Run, _File]") -> Iterator[Run]:
    """The runs to have in files: those that are, large ones, and small ones put together."""
    small: list[Run] = []
    for run in runs:
        if run in known or len(run) >= _SMALL_IDS:
            yield run
            continue
        if small and run.newest - small[0].oldest > _SPAN:
            yield merged(small)
            small = []
        small.append(run)
    if small:
        yield merged(small)


class IdKeeper:
    """What is to be kept of each topic: noted by one thread, written by another.

    Args:
        files: used by nobody else meanwhile.
    """

    def __init__(self, files: IdFiles) -> None:
        self._files = files
        self._wanted: dict[str, tuple[Remembered, str]] = {}
        self._turn = threading.Lock()

    def want(self, topic: str, remembered: Remembered, owner: str) -> None:
        """Have this written, in the place of what was to be written of the topic before."""
        with self._turn:
            self._wanted[topic] = (remembered, owner)

    def write(self) -> None:
        """Write what is wanted."""
        with self._turn:
            wanted, self._wanted = self._wanted, {}
        for topic, (remembered, owner) in wanted.items():
            self._files.keep(topic, remembered, owner)
