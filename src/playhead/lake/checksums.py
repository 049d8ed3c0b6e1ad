"""Checksums of the lake's files: written with them, checked before the first byte is used.

A data file carries the CRC-32 of its bytes in its own name. Metadata, manifest lists and
manifests, whose names Iceberg chooses, have theirs in the catalog, set in the transaction that
makes them current. A file is read for it once per process, as long as it does not change.
"""

import os
import re
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock

from playhead import disk
from playhead.errors import LakeError

BUSY_TIMEOUT_S = 30
REMEMBERED_FILES = 200_000
THREADS = min(4, os.cpu_count() or 1)
REBUILD = "Run `playhead verify` to see what is lost, and `playhead rebuild --all` to mend it."

_READ_BYTES = 4 << 20
_NAMED = re.compile(r"-crc([0-9a-f]{8})\.parquet$")
_TABLE = (
    "CREATE TABLE IF NOT EXISTS checksums "
    "(path TEXT PRIMARY KEY, bytes INTEGER NOT NULL, crc32 INTEGER NOT NULL) STRICT, WITHOUT ROWID"
)


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file's bytes have to be.

    Attributes:
        crc32: None for a file of another program, of which only the size is known.
    """

    bytes: int
    crc32: int | None = None


def data_file_name(stem: str, crc32: int) -> str:
    """The name of a data file with these bytes."""
    return f"{stem}-crc{crc32:08x}.parquet"


def named_crc32(path: str) -> int | None:
    """The checksum that a data file's name carries; None if another program named it."""
    found = _NAMED.search(path)
    return int(found.group(1), 16) if found else None


def file_crc32(path: str | Path) -> int:
    """CRC-32 of a file's bytes, read in pieces."""
    crc32 = 0
    with Path(path).open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        # A buffer is filled with zeros first: most files need a small one.
        buffer = memoryview(bytearray(min(size + 1, _READ_BYTES)))
        while count := file.readinto(buffer):
            crc32 = zlib.crc32(buffer[:count], crc32)
    return crc32


class Verified:
    """Remembers which files were found sound, as they were then; shared by all threads."""

    def __init__(self, capacity: int = REMEMBERED_FILES) -> None:
        self._capacity = capacity
        self._known: OrderedDict[str, tuple[int, int, int]] = OrderedDict()
        self._lock = Lock()

    def damage(self, files: Mapping[str, Checksum]) -> dict[str, str]:
        """What is wrong with each file that is not as it has to be, by path.

        Unchanged files that were sound before cost a look at their folder's entry. Reads the
        others in a few threads.
        """
        wrong: dict[str, str] = {}
        unread: dict[str, Checksum] = {}
        for path, wanted in files.items():
            try:
                stamp = _stamp(path)
            except OSError as error:
                wrong[path] = f"cannot be read: {error.strerror}"
                continue
            if stamp[2] != wanted.bytes:
                wrong[path] = f"has {stamp[2]} bytes, not {wanted.bytes}"
            elif wanted.crc32 is not None and self._known.get(path) != stamp:
                unread[path] = wanted
        wrong.update(self._read(unread))
        return wrong

    def remember(self, path: str) -> None:
        """Note that a file is sound as it is now."""
        with self._lock:
            self._known[path] = _stamp(path)
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)

    def forget(self) -> None:
        """Read every file again, as another process would."""
        with self._lock:
            self._known.clear()

    def _read(self, files: Mapping[str, Checksum]) -> dict[str, str]:
        paths = iter(files)
        wrong: dict[str, str] = {}
        with ThreadPoolExecutor(THREADS, thread_name_prefix="lake-check") as pool:
            while some := list(islice(paths, 1_000)):
                found = pool.map(self._read_one, some, (files[path] for path in some))
                wrong.update((path, what) for path, what in zip(some, found, strict=True) if what)
        return wrong

    def _read_one(self, path: str, wanted: Checksum) -> str:
        try:
            if file_crc32(path) != wanted.crc32:
                return "fails its checksum"
            self.remember(path)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return ""


VERIFIED = Verified()
"""Of this process: whoever reads a file of a lake asks here first."""


def _stamp(path: str) -> tuple[int, int, int]:
    found = Path(path).stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


class Checksums:
    """The checksums of metadata files, a table of the catalog's SQLite file.

    Args:
        path: the catalog.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, connection: sqlite3.Connection) -> None:
        """Make the table; it may be there."""
        connection.execute(_TABLE)

    def of(self, location: str) -> Checksum | None:
        """What a file has to be; None if another program wrote it."""
        return self.all([location]).get(location)

    def all(self, paths: Sequence[str] | None = None) -> dict[str, Checksum]:
        """What files have to be, of those that are known; None asks for every one.

        Raises:
            LakeError: the catalog cannot be read.
        """
        if not self.path.exists():
            return {}
        try:
            with closing(disk.connect(self.path, timeout_s=BUSY_TIMEOUT_S)) as connection:
                query = "SELECT path, bytes, crc32 FROM checksums"
                if paths is None:
                    rows = connection.execute(query).fetchall()
                else:
                    rows = [
                        row
                        for path in paths
                        for row in connection.execute(f"{query} WHERE path = ?", (path,))
                    ]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return {}
            raise self._failed(error) from error
        except sqlite3.Error as error:
            raise self._failed(error) from error
        return {path: Checksum(size, crc32) for path, size, crc32 in rows}

    def set(self, files: Mapping[str, Checksum]) -> None:
        """Note what files are; replaces what is known of them."""
        rows = [(path, known.bytes, known.crc32) for path, known in files.items()]
        self._write("INSERT OR REPLACE INTO checksums VALUES (?, ?, ?)", rows)

    def forget(self, paths: Iterable[str]) -> None:
        """Forget files that are gone."""
        self._write("DELETE FROM checksums WHERE path = ?", [(path,) for path in paths])

    def forget_folder(self, folder: str) -> None:
        """Forget all files of a folder."""
        low = folder.rstrip("/") + "/"
        # The character after "/": every path in the folder sorts between the two.
        self._write("DELETE FROM checksums WHERE path >= ? AND path < ?", [(low, low[:-1] + "0")])

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        if not rows:
            return
        try:
            with closing(disk.connect(self.path, timeout_s=BUSY_TIMEOUT_S)) as connection:
                self.create(connection)
                connection.executemany(statement, rows)
                connection.commit()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> LakeError:
        return LakeError(
            f"the catalog {self.path} cannot be used: {error}", hint=disk.advice(error) or REBUILD
        )


class NoChecksums(Checksums):
    """Of a lake whose store checks what it holds by itself: none are kept."""

    def __init__(self) -> None:
        super().__init__(Path())

    def all(self, paths: Sequence[str] | None = None) -> dict[str, Checksum]:
        return {}

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Keep nothing."""
