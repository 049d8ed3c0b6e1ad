"""Local files as PyIceberg reads and writes them: durable once closed, and remembered."""

import ctypes
import io
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.typedef import EMPTY_DICT, Properties

logger = logging.getLogger(__name__)

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
    """A new file that is on disk, with its name, when `close` returns."""

    def close(self) -> None:
        if self.closed:
            return
        os.fsync(self.fileno())
        super().close()
        sync(Path(os.fsdecode(self.name)).parent)


class LocalInput(InputFile):
    """A file to read."""

    def __len__(self) -> int:
        return Path(local_path(self.location)).stat().st_size

    def exists(self) -> bool:
        return Path(local_path(self.location)).exists()

    def open(self, seekable: bool = True) -> InputStream:
        return Path(local_path(self.location)).open("rb")


class LocalOutput(OutputFile):
    """A file to write."""

    def __len__(self) -> int:
        return len(self.to_input_file())

    def exists(self) -> bool:
        return self.to_input_file().exists()

    def to_input_file(self) -> LocalInput:
        return LocalInput(self.location)

    def create(self, overwrite: bool = False) -> OutputStream:
        path = Path(local_path(self.location))
        make_folder(path.parent)
        return io.BufferedWriter(_DurableFile(path, "wb" if overwrite else "xb"))


class LocalIO(FileIO):
    """PyIceberg's view of the local disk.

    Lighter than its PyArrow one (which takes a second to import), and durable. Every table
    object has one of its own, so `created` is what one commit attempt has written.
    """

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        self.created: list[str] = []

    def new_input(self, location: str) -> LocalInput:
        return LocalInput(location)

    def new_output(self, location: str) -> LocalOutput:
        self.created.append(location)
        return LocalOutput(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        remove(local_path(location if isinstance(location, str) else location.location))

    def discard(self) -> None:
        """Delete what this object wrote: its commit did not land."""
        for location in self.created:
            self.delete(location)
        self.created.clear()
