"""Where the files of a lake are kept, and how this machine writes and reads them."""

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyiceberg.io import PY_IO_IMPL
from pyiceberg.manifest import DataFile

from playhead.lake.checksums import THREADS, VERIFIED, Checksum, Verified
from playhead.lake.storage import (
    CATALOG,
    LocalIO,
    make_folder,
    remove,
    remove_folder,
    sync_all,
)

__all__ = ["Files", "LocalFiles", "Opener", "Stored", "moved"]


@dataclass(frozen=True, slots=True)
class Stored:
    """A file as its store lists it.

    Attributes:
        changed_s: when it was written last, seconds since 1970.
    """

    path: str
    changed_s: float


class Files(ABC):
    """The files of a lake, named by their location: a path, or an address in an object store.

    A file is written whole and never changes, so a copy of it on this machine is as good.
    """

    root: str
    """Below it lie the tables."""

    readable: Path
    """The folder of this machine that all paths of `local` are in."""

    @property
    @abstractmethod
    def properties(self) -> dict[str, str]:
        """How PyIceberg reaches the files: of its catalog."""

    @abstractmethod
    def opener(self) -> "Opener":
        """What opens the same files in another process, maybe of another machine.

        It can be pickled, and then holds the store's keys that this process has from its
        environment: it is nothing to be kept.
        """

    @abstractmethod
    def scratch(self, location: str) -> Path:
        """A folder of this machine for new data files that are to be at a location."""

    @abstractmethod
    def keep(self, location: str, entries: Sequence[DataFile]) -> list[DataFile]:
        """Make files that were written into `scratch` durable at their location.

        Returns:
            their entries as a manifest has them.

        Raises:
            OSError: the store refused one; some may be there.
        """

    @abstractmethod
    def copy(self, sources: Sequence[str], folder: str) -> list[str]:
        """Copy files into a new folder under their own names, durably; where they are then."""

    @abstractmethod
    def local(self, files: Mapping[str, Checksum]) -> tuple[dict[str, str], dict[str, str]]:
        """Paths of this machine at which sound files can be read.

        Returns:
            the paths by location, and what is wrong with each file that is not as it has to be.
        """

    @abstractmethod
    def damage(self, files: Mapping[str, Checksum], *, quick: bool = False) -> dict[str, str]:
        """What is wrong with each file that is not as it has to be in the store itself.

        Args:
            quick: look at presence and size only.
        """

    @abstractmethod
    def exists(self, location: str) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def remove(self, location: str) -> bool:
        """Delete a file that may be gone already; says whether it was there."""

    def remove_all(self, locations: Iterable[str]) -> int:
        """Delete some files; how many of them were there."""
        return sum(map(self.remove, locations))

    @abstractmethod
    def remove_folder(self, location: str) -> None:
        """Delete all files of a folder; what cannot be deleted is left for the sweep."""

    @abstractmethod
    def remove_if_empty(self, location: str) -> None:
        """Delete a folder, where there are such, unless something is in it."""

    @abstractmethod
    def walk(self) -> Iterator[tuple[Stored, list[Stored]]]:
        """Folders below the root, deepest first, each with its files."""

    def owns(self, location: str) -> bool:
        """Whether a file lies below the root: tables of a copied lake may lie elsewhere."""
        return location.startswith(f"{self.root}/")


Opener = Callable[[Path], Files]
"""Gives files, from a folder of its machine for copies of them."""


def moved(entry: DataFile, path: str, spec_id: int, sort_order_id: int | None) -> DataFile:
    """The entry of a data file that is at another place, and maybe in another table."""
    known: dict[str, Any] = {name: getattr(entry, name) for name in _KEPT}
    copied = DataFile.from_args(file_path=path, sort_order_id=sort_order_id, **known)
    copied.spec_id = spec_id
    return copied


# All that a manifest says of a file's content; its place and its order are the table's own.
_KEPT = (
    *("content", "file_format", "partition", "record_count", "file_size_in_bytes"),
    *("column_sizes", "value_counts", "null_value_counts", "nan_value_counts"),
    *("lower_bounds", "upper_bounds", "key_metadata", "split_offsets", "equality_ids"),
)


class LocalFiles(Files):
    """Files in a folder of this machine; their checksums are in a catalog beside it.

    Args:
        folder: made if it is not there.
        catalog: the catalog's file.
    """

    def __init__(self, folder: Path, catalog: Path) -> None:
        make_folder(folder)
        self.root, self.readable = str(folder), folder.parent
        self._catalog = catalog

    @property
    def properties(self) -> dict[str, str]:
        return {
            PY_IO_IMPL: f"{LocalIO.__module__}.{LocalIO.__name__}",
            CATALOG: str(self._catalog),
        }

    def opener(self) -> Opener:
        return partial(_same, Path(self.root), self._catalog)

    def scratch(self, location: str) -> Path:
        return Path(location)

    def keep(self, location: str, entries: Sequence[DataFile]) -> list[DataFile]:
        return list(entries)

    def copy(self, sources: Sequence[str], folder: str) -> list[str]:
        make_folder(Path(folder))
        targets = [f"{folder}/{Path(source).name}" for source in sources]
        with ThreadPoolExecutor(THREADS, thread_name_prefix="lake-copy") as pool:
            list(pool.map(shutil.copyfile, sources, targets))
        sync_all(Path(folder), targets)
        return targets

    def local(self, files: Mapping[str, Checksum]) -> tuple[dict[str, str], dict[str, str]]:
        return {path: path for path in files}, VERIFIED.damage(files)

    def damage(self, files: Mapping[str, Checksum], *, quick: bool = False) -> dict[str, str]:
        wanted = {p: Checksum(sum_.bytes) if quick else sum_ for p, sum_ in files.items()}
        # What this process has read before may have been damaged since.
        return Verified().damage(wanted)

    def exists(self, location: str) -> bool:
        return Path(location).exists()

    def remove(self, location: str) -> bool:
        return remove(location)

    def remove_folder(self, location: str) -> None:
        remove_folder(Path(location))

    def remove_if_empty(self, location: str) -> None:
        try:
            Path(location).rmdir()
        except OSError:
            return

    def walk(self) -> Iterator[tuple[Stored, list[Stored]]]:
        for folder, _, names in os.walk(self.root, topdown=False):
            paths = (f"{folder}/{name}" for name in names)
            yield _stored(folder), [_stored(path) for path in paths]


def _same(folder: Path, catalog: Path, _copies: Path) -> LocalFiles:
    return LocalFiles(folder, catalog)


def _stored(path: str) -> Stored:
    """A file or folder with when it changed; now, if it is just being deleted."""
    try:
        return Stored(path, Path(path).stat().st_mtime)
    except FileNotFoundError:
        return Stored(path, time.time())
