"""Local files as PyIceberg reads and writes them: durable once closed, and remembered."""

import ctypes
import io
import logging
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.typedef import EMPTY_DICT, Properties

from playhead.errors import LakeError
from playhead.lake.checksums import REBUILD, VERIFIED, Checksum, Checksums

logger = logging.getLogger(__name__)

CATALOG = "playhead.catalog-file"
"""The property of the catalog by which file access finds it."""

_SYNCED_TOGETHER = 32


def local_path(location: str) -> str:
    """The path of a location, which other engines may have written as a `file:` URI."""
    if not location.startswith("file:"):
        return location
    path = location.removeprefix("file:")
    return "/" + path.lstrip("/")


def sync(path: str | Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    finally:
        os.close(descriptor)


def sync_all(folder: Path, files: Sequence[str]) -> None:
    """Make the files of a folder, and its entries, survive a power cut.

    Many small files cost one call for their whole file system, where it has that call (Linux):
    a call for each waits for the journal every time.
    """
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None or len(files) < _SYNCED_TOGETHER:
        for file in files:
            sync(file)
        sync(folder)
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and its parents so that they survive a power cut; may exist already."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def remove(path: str | Path) -> bool:
    """Delete a file that may be gone already; says whether it was there."""
    try:
        Path(path).unlink()
    except FileNotFoundError:
        return False
    return True


def remove_folder(path: Path) -> None:
    """Delete a folder and all that it holds; what cannot be deleted is left for the sweep."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        logger.warning("cannot delete all of %s; sweep() will try again", path)


class _DurableFile(io.FileIO):
    """A new file that is on disk, with its name, when `close` returns; its bytes are summed up."""

    def __init__(self, path: Path, mode: str, written: dict[str, Checksum]) -> None:
        super().__init__(path, mode)
        self._written = written
        self._bytes = self._crc32 = 0

    def write(self, data: Any, /) -> int:
        with self._named():
            count = super().write(data)
        self._bytes += count
        self._crc32 = zlib.crc32(memoryview(data)[:count], self._crc32)
        return count

    def close(self) -> None:
        if self.closed:
            return
        with self._named():
            try:
                os.fsync(self.fileno())
            finally:
                # The kernel tells of lost writes once: no later sync of this file may succeed.
                super().close()
        path = os.fsdecode(self.name)
        sync(Path(path).parent)
        self._written[path] = Checksum(self._bytes, self._crc32)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Give the system's errors the file's name, which those of an open file lack."""
        try:
            yield
        except OSError as error:
            error.filename = os.fsdecode(self.name)
            raise


class LocalInput(InputFile):
    """A file to read, if its bytes are what was written.

    Args:
        known: where the file's checksum is; None where nothing is known of it.
    """

    def __init__(self, location: str, known: Checksums | None = None) -> None:
        super().__init__(location)
        self._known = known

    def __len__(self) -> int:
        return Path(local_path(self.location)).stat().st_size

    def exists(self) -> bool:
        return Path(local_path(self.location)).exists()

    def open(self, seekable: bool = True) -> InputStream:
        path = local_path(self.location)
        wanted = None if self._known is None else self._known.of(path)
        if wanted is not None and (wrong := VERIFIED.damage({path: wanted})):
            raise LakeError(f"the metadata file {path} {wrong[path]}", hint=REBUILD)
        return Path(path).open("rb")


class LocalOutput(OutputFile):
    """A file to write.

    Args:
        written: gets the file's checksum when it is closed.
    """

    def __init__(self, location: str, written: dict[str, Checksum]) -> None:
        super().__init__(location)
        self._written = written

    def __len__(self) -> int:
        return len(self.to_input_file())

    def exists(self) -> bool:
        return self.to_input_file().exists()

    def to_input_file(self) -> LocalInput:
        return LocalInput(self.location)

    def create(self, overwrite: bool = False) -> OutputStream:
        path = Path(local_path(self.location))
        make_folder(path.parent)
        file = _DurableFile(path, "wb" if overwrite else "xb", self._written)
        return io.BufferedWriter(file)


class TrackedIO(FileIO):
    """PyIceberg's view of files, which knows what was written by it.

    Every table object has one of its own, so `created` is what one commit attempt has written,
    and `written` the checksums of that, where a catalog keeps them.
    """

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        self.created: list[str] = []
        self.written: dict[str, Checksum] = {}

    def discard(self) -> None:
        """Delete what this object wrote: its commit did not land."""
        for location in self.created:
            self.delete(location)
        self.created.clear()
        self.written.clear()


class LocalIO(TrackedIO):
    """The local disk: lighter than PyIceberg's own (which takes a second to import), and durable.

    Args:
        properties: the property `CATALOG` names the catalog that holds the files' checksums.
    """

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        catalog = properties.get(CATALOG)
        self._known = None if catalog is None else Checksums(Path(catalog))

    def new_input(self, location: str) -> LocalInput:
        return LocalInput(location, self._known)

    def new_output(self, location: str) -> LocalOutput:
        self.created.append(location)
        return LocalOutput(location, self.written)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        remove(local_path(location if isinstance(location, str) else location.location))
