"""The last whole answer of each view: there at once, also for a process that was started since.

An answer has a mark, which says what it was made of: the text of its view, the batch states, the
speed layer's blocks by number and checksum, the dimensions. The same mark, in any process, means
the same answer; and a mark is known without reading any states.
"""

import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from playhead.errors import StateError
from playhead.serving.answer import Answer
from playhead.serving.coverage import Coverage
from playhead.speed.blocks import decode, encode
from playhead.views import View

logger = logging.getLogger(__name__)

LARGEST_BYTES = 64 << 20
"""An answer that takes more memory is not kept."""

SLOW_S = 0.3
"""An answer that took longer is kept in a file, too."""

_ALL_BYTES = 256 << 20
_FORMAT = 1
_CRC_BYTES = 4
_TOLD = b"playhead.answer"
_ANSWER, _UNKEPT, _PART = ".answer", ".unkept", ".part"
_LEFT_AFTER_S = 3_600
_UNKEPT_S = 86_400

_Key = tuple[str, str]
Stamp = tuple[int, int]


@dataclass(frozen=True)
class LastAnswer:
    """A view's whole answer as it was made some time ago.

    Attributes:
        coverage: what it is made of.
        mark: the same for the same answer.
        made_at: when making it began, naive UTC.
        seconds: how long that took.
        watermark: event time up to which its windows are final; None if no event was seen.
        revisions: (revision, late events) by start of the windows that have any.
        is_current: the view's answer is still this one, and equals plain recomputation; False
            where it is not, or where to know that would be dear.
    """

    table: pa.Table
    coverage: tuple[Coverage, ...]
    mark: str
    made_at: datetime
    seconds: float
    watermark: datetime | None = None
    revisions: Mapping[datetime, tuple[int, int]] = field(default_factory=dict)
    is_current: bool = False


class LastView(Answer):
    """A view's answer as it was made some time ago.

    Attributes:
        made_at, seconds, is_current: as `LastAnswer` has them.
    """

    def __init__(self, view: View, last: LastAnswer) -> None:
        revisions = dict(last.revisions)
        super().__init__(view, last.table, last.coverage, last.watermark, revisions)
        self.made_at, self.seconds, self.is_current = last.made_at, last.seconds, last.is_current


class AnswerFiles:
    """Answers in files of a folder, one for each view.

    What cannot be written or read is made again: nothing here is needed.

    Args:
        folder: made on first use; None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def stamp(self, view: View) -> Stamp | None:
        """Differs for another file of a view; None if there is none, or it is none of ours."""
        found = self._stat(view, _ANSWER)
        if found is None or found.st_size > 2 * LARGEST_BYTES:
            return None
        return found.st_mtime_ns, found.st_size

    def get(self, view: View) -> LastAnswer | None:
        """The answer that was kept; None if there is none, or it is damaged."""
        if (path := self._path(view, _ANSWER)) is None:
            return None
        try:
            content = path.read_bytes()
            crc = int.from_bytes(content[:_CRC_BYTES], "little")
            return _read(decode(content[_CRC_BYTES:], crc, str(path)))
        except FileNotFoundError:
            return None
        except (OSError, StateError, ValueError, KeyError, TypeError) as error:
            logger.warning("the last answer of %s is not used: %s", view.name, error)
            return None

    def put(self, view: View, last: LastAnswer, names: Collection[str]) -> None:
        """Keep an answer in the place of the view's older one.

        Args:
            names: of all views that there are; files of others are removed.
        """
        path = self._path(view, _ANSWER)
        if path is None or _is_before(last.made_at, self.stamp(view)):
            return
        body, crc = encode(_written(last))
        part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_native_id()}{_PART}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(crc.to_bytes(_CRC_BYTES, "little") + body)
            # Which of two answers is the newer one is then known without reading them.
            made = _ns(last.made_at)
            os.utime(part, ns=(made, made))
            part.replace(path)
            self._tidy(path, names)
        except OSError as error:
            logger.debug("the last answer of %s is not kept: %s", view.name, error)
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def refuse(self, view: View) -> None:
        """Note that the whole answer is too large or too slow to be made unasked, for a day."""
        if (path := self._path(view, _UNKEPT)) is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            logger.debug("%s: %s", path, error)

    def is_refused(self, view: View) -> bool:
        """Whether that was noted within a day."""
        found = self._stat(view, _UNKEPT)
        return found is not None and abs(time.time() - found.st_mtime) < _UNKEPT_S

    def _tidy(self, kept: Path, names: Collection[str]) -> None:
        """Remove what is of no use any more, then the oldest answers beyond what all may take."""
        assert self._folder is not None  # noqa: S101 - a file was written into it
        view = kept.name.split("-")[0]
        for path in [*self._folder.glob(f"*-*-*{_ANSWER}"), *self._folder.glob(f"*-*-*{_UNKEPT}")]:
            name, *_ = path.name.split("-")
            if name not in names or (name == view and path.stem != kept.stem):
                path.unlink(missing_ok=True)
        for path in self._folder.glob(f"*{_ANSWER}.*{_PART}"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _LEFT_AFTER_S:
                    path.unlink()
        total = 0
        newest = sorted(_sizes(self._folder), key=lambda one: (one[2] != kept, -one[0]))
        for _, size, path in newest:
            total += size
            if total > _ALL_BYTES and path != kept:
                path.unlink(missing_ok=True)

    def _path(self, view: View, ending: str) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{view.name}-{view.hash}-{_FORMAT}{ending}"

    def _stat(self, view: View, ending: str) -> os.stat_result | None:
        path = self._path(view, ending)
        with suppress(OSError):
            return None if path is None else path.stat()
        return None


class LastAnswers:
    """The last whole answer of each view, in memory, and in files where making it took long.

    Threads may share it.

    Args:
        folder: of the files; None: there are none.
    """

    def __init__(self, folder: Path | None) -> None:
        self.files = AnswerFiles(folder)
        self._turn = threading.Lock()
        self._held: OrderedDict[_Key, LastAnswer] = OrderedDict()
        self._stamps: dict[_Key, Stamp | None] = {}

    def get(self, view: View) -> LastAnswer | None:
        """The newest answer that is known, whoever made it; None if there is none."""
        key = (view.name, view.hash)
        stamp = self.files.stamp(view)
        with self._turn:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
            if stamp is None or stamp == self._stamps.get(key):
                return held
        found = self.files.get(view)
        if found is not None:
            self._hold(key, found)
        with self._turn:
            self._stamps[key] = stamp
            return self._held.get(key, found)

    def keep(self, view: View, last: LastAnswer, names: Collection[str]) -> None:
        """Keep an answer, unless it is a large one.

        Args:
            names: of all views that there are.
        """
        if last.table.nbytes > LARGEST_BYTES:
            return
        key = (view.name, view.hash)
        self._hold(key, last)
        if last.seconds > SLOW_S:
            self.files.put(view, last, names)
            with self._turn:
                self._stamps[key] = self.files.stamp(view)

    def _hold(self, key: _Key, last: LastAnswer) -> None:
        with self._turn:
            held = self._held.get(key)
            if held is not None and _is_before(last.made_at, (_ns(held.made_at), 0)):
                return
            self._held[key] = last
            self._held.move_to_end(key)
            while sum(one.table.nbytes for one in self._held.values()) > _ALL_BYTES:
                gone, _ = self._held.popitem(last=False)
                # Its file may be read again.
                self._stamps.pop(gone, None)


def _sizes(folder: Path) -> list[tuple[int, int, Path]]:
    """(time, bytes, path) of the answers in a folder."""
    found = []
    for path in folder.glob(f"*-*-*{_ANSWER}"):
        with suppress(FileNotFoundError):
            told = path.stat()
            found.append((told.st_mtime_ns, told.st_size, path))
    return found


def _ns(time_utc: datetime) -> int:
    """Nanoseconds since 1970 of a naive UTC time."""
    past = time_utc.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return ((past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds) * 1_000


def _is_before(made_at: datetime, other: Stamp | None) -> bool:
    """Whether another answer is newer; one of the future was made before the clock was set back."""
    return other is not None and _ns(made_at) < other[0] <= time.time_ns()


def _written(last: LastAnswer) -> pa.Table:
    """The answer's table with everything else in its schema's metadata."""
    told = {
        "coverage": [vars(c) | {"dimensions": dict(c.dimensions)} for c in last.coverage],
        "mark": last.mark,
        "made_at": last.made_at.isoformat(),
        "seconds": last.seconds,
        "watermark": last.watermark and last.watermark.isoformat(),
        "revisions": [(start.isoformat(), *of) for start, of in last.revisions.items()],
    }
    metadata = {**(last.table.schema.metadata or {}), _TOLD: json.dumps(told).encode()}
    return last.table.replace_schema_metadata(metadata)


def _read(table: pa.Table) -> LastAnswer:
    """The answer of such a table; KeyError, TypeError or ValueError if it is none."""
    metadata = dict(table.schema.metadata or {})
    told: dict[str, Any] = json.loads(metadata.pop(_TOLD))
    watermark = told["watermark"]
    return LastAnswer(
        table.replace_schema_metadata(metadata or None),
        tuple(
            Coverage(**one | {"speed_epochs": tuple(one["speed_epochs"])})
            for one in told["coverage"]
        ),
        told["mark"],
        datetime.fromisoformat(told["made_at"]),
        float(told["seconds"]),
        None if watermark is None else datetime.fromisoformat(watermark),
        {datetime.fromisoformat(s): (revision, late) for s, revision, late in told["revisions"]},
    )
