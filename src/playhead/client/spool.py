"""Events that wait on disk: they outlive the process, killed at any byte.

The folder holds segments, numbered files of frames. A frame is the event's length and a CRC-32
over both (4 bytes each, little-endian), then the event. A frame is written before `append`
returns, so that the system has it when the process dies; it is not synced, so a machine that
loses power may lose the last seconds. What is delivered is noted in `delivered`; a segment of
which everything is delivered is deleted.
"""

import fcntl
import logging
import os
import struct
import weakref
import zlib
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from playhead.client.errors import SpoolError
from playhead.client.waiting import Waiting

__all__ = ["Spool"]

logger = logging.getLogger(__name__)

_FRAME = struct.Struct("<II")
_MARK = struct.Struct("<QQI")
_LEAST_SEGMENT = 64 << 10
_MOST_SEGMENT = 8 << 20
_SUFFIX = ".events"
_DAMAGED = ".damaged"


class _Segment:
    """One file: whole frames up to `size` bytes."""

    def __init__(self, number: int, path: Path) -> None:
        self.number = number
        self.path = path
        self.size = 0


class Spool(Waiting):
    """The queue in a folder, of one process at a time.

    Events of an earlier process are the oldest. A frame that was being written when that
    process died is no event yet: its `append` never returned. Such a rest of a segment, or one
    after damage, is logged and kept beside it as `*.damaged`.

    Args:
        folder: made if missing.
        max_bytes: that all files together may take.

    Raises:
        SpoolError: another process uses the folder, or it cannot be written.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = min(max(max_bytes // 16, _LEAST_SEGMENT), _MOST_SEGMENT)
        self._segments: deque[_Segment] = deque()
        self._offset = self._held = 0
        self._file: int | None = None
        self._mark: int | None = None
        self._lock: int | None = None
        self._is_whole = False
        _OPEN.add(self)
        try:
            self._open()
        except OSError as error:
            self.close()
            raise self._failure(error) from error
        except SpoolError:
            self.close()
            raise

    # -- the queue -------------------------------------------------------------------------

    def append(self, record: bytes) -> bool:
        frame = _FRAME.pack(len(record), zlib.crc32(record, len(record))) + record
        try:
            if not self._has_room(len(frame)):
                return False
            segment = self._room_for(len(frame))
            # At its place: what a write left that failed half-way is written over.
            count = os.pwrite(self._writing(), frame, segment.size)
            if count < len(frame):
                raise OSError(f"{count} of {len(frame)} bytes were written")
        except OSError as error:
            raise self._failure(error, " The event was not taken.") from error
        segment.size += len(frame)
        self.events += 1
        self.size_bytes += len(frame)
        self._held += len(frame)
        return True

    def take(self, max_events: int, max_bytes: int) -> list[bytes]:
        try:
            while self._segments and self._offset >= self._segments[0].size:
                if len(self._segments) == 1:
                    return []
                self._delete_first()
            return self._read(max_events, max_bytes) if self._segments else []
        except OSError as error:
            raise self._failure(error) from error

    def drop(self, records: Sequence[bytes]) -> None:
        size = sum(map(len, records)) + _FRAME.size * len(records)
        self._offset += size
        self.events -= len(records)
        self.size_bytes -= size
        try:
            if not self.events and self._segments[-1].size >= _LEAST_SEGMENT:
                self._delete_all()
            elif self._segments:
                self._note(self._segments[0].number, self._offset)
        except OSError as error:
            # What is delivered would be sent once more by the next process: no harm is done.
            logger.warning("%s", self._failure(error).message)

    def close(self) -> None:
        if self._is_whole and not self.events:
            # What stays is known as delivered by its mark, or is sent once more.
            with suppress(OSError):
                for path in (*self._paths(), self._folder / "delivered"):
                    path.unlink(missing_ok=True)
        self._let_go()

    def _let_go(self) -> None:
        """Close the files, and with them end the lock."""
        self._stop_writing()
        self._is_whole = False
        # Forgotten first: a fork in between would close what has the number by then.
        files, self._mark, self._lock = (self._mark, self._lock), None, None
        for file in files:
            if file is not None:
                os.close(file)

    # -- opening ---------------------------------------------------------------------------

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        number, offset = self._delivered()
        for path in self._paths():
            segment = _Segment(int(path.stem), path)
            if segment.number < number:
                path.unlink()
                continue
            start = offset if segment.number == number else 0
            self._check(segment, start)
            if not self._segments:
                self._offset = start
            self._segments.append(segment)
            self._held += segment.size
        # Above what was set aside, too: that is not to be written over.
        used = (int(path.stem) for path in self._paths(_DAMAGED))
        self._next = max([number, *(one.number for one in self._segments), *used]) + 1
        self._is_whole = True

    def _take_lock(self) -> None:
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 32).decode(errors="replace").strip() or "unknown"
            raise SpoolError(
                f"{self._folder}: another producer uses this spool (process {holder})",
                hint="Give each process, and each producer in it, a folder of its own.",
            ) from None
        # The lock holds without its holder's name, which a full disk may not take.
        with suppress(OSError):
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def _paths(self, suffix: str = _SUFFIX) -> list[Path]:
        return sorted(path for path in self._folder.glob(f"*{suffix}") if path.stem.isdecimal())

    def _delivered(self) -> tuple[int, int]:
        """Number of the first segment that is not wholly delivered, and the offset in it."""
        self._mark = os.open(self._folder / "delivered", os.O_RDWR | os.O_CREAT, 0o600)
        found = os.pread(self._mark, _MARK.size, 0)
        if len(found) == _MARK.size:
            number, offset, crc = _MARK.unpack(found)
            if crc == zlib.crc32(found[:16]):
                return number, offset
        return 0, 0

    def _check(self, segment: _Segment, start: int) -> None:
        """Find the end of a segment's whole frames, and count those that wait."""
        data = memoryview(segment.path.read_bytes())[start:]
        records, end = _frames(data, len(data), len(data))
        self.events += len(records)
        self.size_bytes += end
        segment.size = start + end
        if end < len(data):
            try:
                self._set_aside(segment, start + end, bytes(data[end:]))
            except OSError as error:
                # What is whole goes out all the same: on a full disk, that makes room.
                logger.error(
                    "%s is damaged at byte %d, and what follows cannot be kept: %s",
                    segment.path,
                    start + end,
                    error.strerror,
                )

    def _set_aside(self, segment: _Segment, offset: int, rest: bytes) -> None:
        kept = segment.path.with_suffix(_DAMAGED)
        file = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(file, "wb") as out:  # noqa: PTH123 - of a descriptor
            out.write(rest)
        logger.error(
            "%s is damaged, or was cut off by the end of its process, at byte %d: %d bytes from "
            "there on are not sent, and are kept in %s",
            segment.path,
            offset,
            len(rest),
            kept.name,
        )

    # -- files -----------------------------------------------------------------------------

    def _read(self, max_events: int, max_bytes: int) -> list[bytes]:
        segment = self._segments[0]
        rest = segment.size - self._offset
        with segment.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(min(rest, max_bytes + _FRAME.size))
            length = _FRAME.unpack_from(data)[0] if len(data) >= _FRAME.size else 0
            if len(data) < length + _FRAME.size <= rest:
                data += file.read(length + _FRAME.size - len(data))
        records, _ = _frames(memoryview(data), max_events, max_bytes)
        if not records:
            self._cut(segment)
        return records

    def _cut(self, segment: _Segment) -> None:
        """Leave the rest of a segment that was damaged after it had been checked."""
        self._stop_writing()
        self._set_aside(segment, self._offset, segment.path.read_bytes()[self._offset :])
        self._held -= segment.size - self._offset
        segment.size = self._offset
        self.events = self.size_bytes = 0
        for other in list(self._segments)[1:]:
            data = memoryview(other.path.read_bytes())[: other.size]
            self.events += len(_frames(data, len(data), len(data))[0])
            self.size_bytes += other.size

    def _has_room(self, size: int) -> bool:
        if self._held + size > self._max_bytes and not self.events:
            self._delete_all()
        return self._held + size <= self._max_bytes

    def _room_for(self, size: int) -> _Segment:
        """The segment to write to: the last one, unless it is full or of an earlier process."""
        if self._file is not None and self._segments:
            last = self._segments[-1]
            if last.size + size <= self._segment_bytes or not last.size:
                return last
        self._stop_writing()
        segment = _Segment(self._next, self._folder / f"{self._next:016d}{_SUFFIX}")
        self._file = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._next += 1
        if not self._segments:
            self._offset = 0
        self._segments.append(segment)
        return segment

    def _writing(self) -> int:
        if self._file is None:
            raise OSError("the spool is closed")
        return self._file

    def _stop_writing(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _delete_all(self) -> None:
        self._stop_writing()
        while self._segments:
            self._delete_first()

    def _delete_first(self) -> None:
        first = self._segments.popleft()
        self._offset = 0
        self._held -= first.size
        # A full disk may not take the mark; that the file is gone says the same.
        with suppress(OSError):
            self._note(first.number + 1, 0)
        first.path.unlink(missing_ok=True)

    def _note(self, number: int, offset: int) -> None:
        if self._mark is not None:
            place = struct.pack("<QQ", number, offset)
            os.pwrite(self._mark, place + struct.pack("<I", zlib.crc32(place)), 0)

    def _failure(self, error: OSError, more: str = "") -> SpoolError:
        return SpoolError(
            f"{self._folder}: {error.strerror or error}",
            hint=f"Is the disk full, or may this user not write there?{more}",
        )


def _frames(data: memoryview, max_events: int, max_bytes: int) -> tuple[list[bytes], int]:
    """Whole frames from the start of `data`, up to these bounds: events, and where they end."""
    records: list[bytes] = []
    at = size = 0
    while len(records) < max_events and at + _FRAME.size <= len(data):
        length, crc = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + length
        size += length
        if end > len(data) or (records and size > max_bytes):
            break
        record = bytes(data[at + _FRAME.size : end])
        if not length or zlib.crc32(record, length) != crc:
            break
        records.append(record)
        at = end
    return records, at


_OPEN: "weakref.WeakSet[Spool]" = weakref.WeakSet()


def _let_go_all() -> None:
    """A forked child lets go of its parent's locks, which it would hold beyond the parent's end."""
    for one in list(_OPEN):
        one._let_go()


os.register_at_fork(after_in_child=_let_go_all)
