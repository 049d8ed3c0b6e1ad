"""A lake's files in an object store (S3, GCS), read through a folder of this machine.

Files never change, so each is fetched once and then read here, by DuckDB as any other file: no
engine needs the store's keys, and a query within a folder needs no network. The folder is bounded;
what was not read for the longest time goes first.
"""

import logging
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from posixpath import basename, dirname
from threading import Lock
from typing import BinaryIO

import pyarrow as pa
from pyarrow import fs
from pyiceberg.io import PY_IO_IMPL
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.manifest import DataFile

from playhead.errors import LakeError, SettingError
from playhead.lake.checksums import VERIFIED, Checksum
from playhead.lake.files import Files, Opener, Stored, moved
from playhead.lake.reaching import is_store_away, unusable
from playhead.lake.storage import TrackedIO, remove_folder

__all__ = ["ObjectFiles", "ObjectIO", "s3_keys"]

logger = logging.getLogger(__name__)

SCHEMES = ("s3", "gs")
_THREADS = 8
_PIECE_BYTES = 4 << 20
_READ_LATELY_S = 600.0
"""What was asked for so recently stays, as a query may be about to open it."""
_LOOK_EVERY_BYTES = 64 << 20
_REGION = "us-east-1"


_Properties = tuple[tuple[str, str], ...]


@lru_cache(maxsize=16)
def _store(scheme: str, bucket: str | None, properties: _Properties) -> fs.FileSystem:
    """The store as Arrow reaches it, one client for all that have the same properties."""
    return PyArrowFileIO(dict(properties))._initialize_fs(scheme, bucket)


class ObjectIO(TrackedIO, PyArrowFileIO):
    """PyIceberg's access to an object store, of which each knows what was written by it."""

    def _initialize_fs(self, scheme: str, netloc: str | None = None) -> fs.FileSystem:
        told = {k: v for k, v in self.properties.items() if k.startswith((f"{scheme}.", "gcs."))}
        return _store(scheme, netloc, tuple(sorted(told.items())))

    def new_input(self, location: str) -> PyArrowFile:
        return PyArrowFileIO.new_input(self, location)

    def new_output(self, location: str) -> PyArrowFile:
        self.created.append(location)
        return PyArrowFileIO.new_output(self, location)


class ObjectFiles(Files):
    """Files below an address of an object store.

    Keys come from where the store's own tools take them (AWS_ACCESS_KEY_ID and its like, a
    profile, the machine's role), never from a setting.

    Args:
        address: such as "s3://bucket/lake".
        cache: a folder of this machine; made if it is not there.
        cache_bytes: what may be kept there.
        endpoint: of a store other than Amazon's, such as "http://127.0.0.1:8333".
        keys: PyIceberg's properties with keys and region, of a process that has been given
            another one's (`opener`).

    Raises:
        SettingError: it is no address of a store that is known.
    """

    def __init__(
        self,
        address: str,
        cache: Path,
        cache_bytes: int,
        *,
        endpoint: str = "",
        keys: Mapping[str, str] | None = None,
    ) -> None:
        scheme, _, path = address.partition("://")
        if scheme not in SCHEMES or not path.strip("/"):
            raise SettingError(
                f"lake.warehouse: {address!r} is no address of an object store",
                hint='Write it as "s3://bucket/folder" or "gs://bucket/folder".',
            )
        self.root, self.readable = address.rstrip("/"), cache
        self._cache_bytes = cache_bytes
        self._endpoint, self._scheme, self._keys = endpoint, scheme, dict(keys or {})
        cache.mkdir(parents=True, exist_ok=True)
        self._io = ObjectIO(self.properties)
        self._lock = Lock()
        self._unlooked = cache_bytes

    @property
    def properties(self) -> dict[str, str]:
        told = {PY_IO_IMPL: f"{ObjectIO.__module__}.{ObjectIO.__name__}"}
        if self._is_s3:
            # Without a region, Arrow would ask Amazon for the bucket's.
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            told["s3.region"] = region or _REGION
            if self._endpoint:
                told["s3.endpoint"] = self._endpoint
        elif self._endpoint:
            told["gcs.service.host"] = self._endpoint
        return {**told, **self._keys}

    def opener(self) -> Opener:
        keys = {**s3_keys(), "s3.region": self.properties["s3.region"]} if self._is_s3 else {}
        return partial(_opened, self.root, self._cache_bytes, self._endpoint, keys)

    @property
    def _is_s3(self) -> bool:
        return self._scheme == "s3"

    # -- writing ---------------------------------------------------------------------------

    def scratch(self, location: str) -> Path:
        return self._cached(location)

    def keep(self, location: str, entries: Sequence[DataFile]) -> list[DataFile]:
        targets = [f"{location}/{Path(entry.file_path).name}" for entry in entries]
        self._each(self._upload, [entry.file_path for entry in entries], targets)
        self._bound(sum(entry.file_size_in_bytes for entry in entries))
        pairs = zip(entries, targets, strict=True)
        return [moved(entry, path, entry.spec_id, entry.sort_order_id) for entry, path in pairs]

    def _upload(self, source: str, target: str) -> None:
        store, path = self._at(target)
        with Path(source).open("rb") as file, store.open_output_stream(path) as stream:
            shutil.copyfileobj(file, stream, _PIECE_BYTES)
        VERIFIED.remember(source)

    def copy(self, sources: Sequence[str], folder: str) -> list[str]:
        targets = [f"{folder}/{basename(source)}" for source in sources]
        self._each(self._copy, sources, targets)
        return targets

    def _copy(self, source: str, target: str) -> None:
        store, path = self._at(target)
        store.copy_file(self._at(source)[1], path)

    @staticmethod
    def _each(
        work: Callable[[str, str], None], sources: Sequence[str], targets: Sequence[str]
    ) -> None:
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="lake-store") as pool:
            list(pool.map(work, sources, targets))

    # -- reading ---------------------------------------------------------------------------

    def local(self, files: Mapping[str, Checksum]) -> tuple[dict[str, str], dict[str, str]]:
        paths = {location: str(self._cached(location)) for location in files}
        known = {paths[at]: wanted for at, wanted in files.items()}
        missing = set(VERIFIED.damage({p: w for p, w in known.items() if _touch(p)}))
        missing |= {path for path in known if not os.path.exists(path)}  # noqa: PTH110
        wanted = [location for location, path in paths.items() if path in missing]
        wrong: dict[str, str] = {}
        if wanted:
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="lake-fetch") as pool:
                told = pool.map(lambda at: self._fetch(at, Path(paths[at]), files[at]), wanted)
                wrong = {at: what for at, what in zip(wanted, told, strict=True) if what}
            self._bound(sum(files[location].bytes for location in wanted))
        return paths, wrong

    def _fetch(self, location: str, path: Path, wanted: Checksum) -> str:
        """Bring a file here; what is wrong with it, or nothing."""
        new = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            store, where = self._at(location)
            with store.open_input_stream(where) as stream, new.open("wb") as file:
                found = _copied(stream, file)
            if what := _differs(found, wanted):
                return what
            new.replace(path)
            VERIFIED.remember(str(path))
        except (OSError, pa.ArrowException) as error:
            if is_store_away(error):
                raise unusable(f"{location} cannot be read: {error}", error) from error
            return f"cannot be read: {error}"
        finally:
            new.unlink(missing_ok=True)
        return ""

    def damage(self, files: Mapping[str, Checksum], *, quick: bool = False) -> dict[str, str]:
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="lake-check") as pool:
            told = pool.map(lambda at: self._damage(at, files[at], quick=quick), files)
            return {at: what for at, what in zip(files, told, strict=True) if what}

    def _damage(self, location: str, wanted: Checksum, *, quick: bool) -> str:
        store, path = self._at(location)
        try:
            if quick or wanted.crc32 is None:
                (info,) = store.get_file_info([path])
                if info.type != fs.FileType.File:
                    return "cannot be read: there is no such file"
                return _differs(Checksum(info.size), Checksum(wanted.bytes))
            with store.open_input_stream(path) as stream:
                return _differs(_copied(stream, None), wanted)
        except OSError as error:
            if is_store_away(error):
                raise unusable(f"{location} cannot be read: {error}", error) from error
            return f"cannot be read: {error}"

    def exists(self, location: str) -> bool:
        store, path = self._at(location)
        (info,) = store.get_file_info([path])
        return bool(info.type == fs.FileType.File)

    # -- deleting --------------------------------------------------------------------------

    def remove(self, location: str) -> bool:
        with suppress(FileNotFoundError):
            self._cached(location).unlink()
        if not self.exists(location):
            return False
        store, path = self._at(location)
        store.delete_file(path)
        return True

    def remove_all(self, locations: Iterable[str]) -> int:
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="lake-store") as pool:
            return sum(pool.map(self.remove, locations))

    def remove_folder(self, location: str) -> None:
        remove_folder(self._cached(location))
        store, path = self._at(location)
        try:
            with suppress(FileNotFoundError):
                store.delete_dir(path)
        except OSError as error:
            logger.warning("cannot delete all of %s; sweep() will try again: %s", location, error)

    def remove_if_empty(self, location: str) -> None:
        store, path = self._at(location)
        # Arrow leaves an empty object in the place of a folder whose last file goes.
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        with suppress(OSError):
            if all(info.type != fs.FileType.File for info in store.get_file_info(selector)):
                store.delete_dir(path)

    def walk(self) -> Iterator[tuple[Stored, list[Stored]]]:
        store, path = self._at(self.root)
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        folders: dict[str, list[Stored]] = {}
        for info in store.get_file_info(selector):
            if info.type == fs.FileType.File:
                location = f"{self._scheme}://{info.path}"
                changed_s = info.mtime_ns / 1e9
                folders.setdefault(dirname(location), []).append(Stored(location, changed_s))
        for folder in sorted(folders, key=lambda name: (-name.count("/"), name)):
            files = folders[folder]
            yield Stored(folder, max(file.changed_s for file in files)), files

    # -- the folder of this machine --------------------------------------------------------

    def _at(self, location: str) -> tuple[fs.FileSystem, str]:
        scheme, bucket, path = PyArrowFileIO.parse_location(location)
        return self._io.fs_by_scheme(scheme, bucket), path

    def _cached(self, location: str) -> Path:
        scheme, _, path = location.partition("://")
        if ".." in path.split("/"):
            raise LakeError(f"the file {location} has an address that leads elsewhere")
        return self.readable / scheme / path

    def _bound(self, added: int) -> None:
        """Keep the folder within its bound; looked at only now and then."""
        with self._lock:
            self._unlooked += added
            if self._unlooked < min(_LOOK_EVERY_BYTES, self._cache_bytes):
                return
            self._unlooked = 0
            self._evict()

    def _evict(self) -> None:
        found = sorted(_sizes(self.readable))
        over = sum(size for _, size, _ in found) - self._cache_bytes
        for read_s, size, path in found:
            if over <= 0 or time.time() - read_s < _READ_LATELY_S:
                return
            with suppress(FileNotFoundError):
                Path(path).unlink()
            over -= size


def s3_keys() -> dict[str, str]:
    """The keys of this process's environment, by PyIceberg's names; empty: it has others."""
    names = {
        "s3.access-key-id": "AWS_ACCESS_KEY_ID",
        "s3.secret-access-key": "AWS_SECRET_ACCESS_KEY",
        "s3.session-token": "AWS_SESSION_TOKEN",
    }
    return {key: os.environ[name] for key, name in names.items() if os.environ.get(name)}


def _opened(
    address: str, cache_bytes: int, endpoint: str, keys: Mapping[str, str], copies: Path
) -> ObjectFiles:
    return ObjectFiles(address, copies, cache_bytes, endpoint=endpoint, keys=keys)


def _sizes(folder: Path) -> Iterator[tuple[float, int, str]]:
    """Files of a folder: when each was asked for last, its bytes, its path."""
    for here, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found = Path(here, name).stat()
                yield found.st_atime, found.st_size, f"{here}/{name}"


def _touch(path: str) -> bool:
    """Note that a file is asked for now; whether it is there."""
    try:
        found = Path(path).stat()
        if time.time() - found.st_atime > _READ_LATELY_S / 2:
            os.utime(path, ns=(time.time_ns(), found.st_mtime_ns))
    except FileNotFoundError:
        return False
    return True


def _copied(stream: pa.NativeFile, file: BinaryIO | None) -> Checksum:
    """Read a stream to its end, into a file if there is one."""
    size = crc32 = 0
    while piece := stream.read(_PIECE_BYTES):
        size, crc32 = size + len(piece), zlib.crc32(piece, crc32)
        if file is not None:
            file.write(piece)
    return Checksum(size, crc32)


def _differs(found: Checksum, wanted: Checksum) -> str:
    if found.bytes != wanted.bytes:
        return f"has {found.bytes} bytes, not {wanted.bytes}"
    return "fails its checksum" if wanted.crc32 not in (None, found.crc32) else ""
