"""Which file of a folder holds which table: CSV, Parquet or JSON Lines, whole or in parts."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playhead.errors import LoadError

__all__ = ["Format", "Source", "find_source", "find_sources"]

Format = Literal["csv", "json", "parquet"]

FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
_SUFFIX = re.compile(r"(\.csv|\.jsonl|\.ndjson|\.json)(\.gz)?$|\.parquet$")


@dataclass(frozen=True)
class Source:
    """One table's data on disk: a file, or the part files of a folder in order of their names."""

    table: str
    place: Path
    parts: tuple[Path, ...]
    format: Format

    @property
    def name(self) -> str:
        """What messages and reports call it: the file's or the folder's own name."""
        return self.place.name

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, compressed where the files are."""
        return sum(part.stat().st_size for part in self.parts)

    def part_name(self, part: Path) -> str:
        """`users.csv`, or `users/part-0001.csv` for a part."""
        if part == self.place:
            return part.name
        return part.relative_to(self.place.parent).as_posix()

    def sha256(self) -> str:
        """Of the file's bytes; of the names and digests of the parts where there are several."""
        if self.parts == (self.place,):
            return _digest(self.place)
        listing = "".join(f"{_digest(part)}  {self.part_name(part)}\n" for part in self.parts)
        return hashlib.sha256(listing.encode()).hexdigest()

    def fingerprint(self) -> tuple[tuple[int, int], ...]:
        """Size and time of change of every part: cheap to compare before and after reading."""
        return tuple((stat.st_size, stat.st_mtime_ns) for stat in map(Path.stat, self.parts))


def find_sources(folder: Path, tables: Iterable[str]) -> dict[str, Source]:
    """The tables that `folder` holds, by name; a table without a file is left out.

    A table is `NAME.csv`, `.parquet`, `.jsonl`, `.ndjson` or `.json` (all but Parquet also with
    `.gz`), a folder of such files by one of these names or `NAME/`, folders `NAME-*/`, or files
    `NAME.part-*`.

    Raises:
        LoadError: no such folder; two candidates for one table; parts of different formats.
    """
    if not folder.is_dir():
        raise LoadError(
            f"{folder} is no folder",
            hint="Give the folder that holds users.csv, watch_history.csv and the rest.",
        )
    sources = (_source(folder, table) for table in tables)
    return {source.table: source for source in sources if source is not None}


def find_source(path: Path, tables: Iterable[str], *, default: str | None = None) -> Source | None:
    """The one table that a file, or a folder of part files, holds by its name; else None.

    Args:
        default: the table of a data file that has another name.

    Raises:
        LoadError: the parts are of different formats.
    """
    parts = [path] if _is_data(path) else _data_files([path])
    names = [t for t in tables if re.match(rf"{re.escape(t)}($|[.-])", _SUFFIX.sub("", path.name))]
    table = max(names, key=len, default=default)
    return _of_parts(table, path, parts) if table is not None and parts else None


def _source(folder: Path, table: str) -> Source | None:
    candidates = _candidates(folder, table)
    if not candidates:
        return None
    if len(candidates) > 1:
        names = " and ".join(sorted(place.name for place, _ in candidates))
        raise LoadError(
            f"{folder}: {names} are both candidates for the table {table}",
            hint="Keep one of them in the folder that you load.",
        )
    place, parts = candidates[0]
    return _of_parts(table, place, parts)


def _of_parts(table: str, place: Path, parts: Sequence[Path]) -> Source:
    formats = {_format(part) for part in parts}
    if len(formats) > 1:
        raise LoadError(
            f"{place}: its parts are of several formats ({', '.join(sorted(formats))})",
            hint="Keep the parts of one format in the folder.",
        )
    return Source(table, place, tuple(parts), formats.pop())


def _candidates(folder: Path, table: str) -> list[tuple[Path, Sequence[Path]]]:
    named = sorted(path for path in folder.iterdir() if _SUFFIX.sub("", path.name) == table)
    grouped = [
        *((path, [path] if _is_data(path) else _data_files([path])) for path in named),
        (folder / f"{table}-*", _data_files(sorted(folder.glob(f"{table}-*")))),
        (folder / f"{table}.part-*", sorted(filter(_is_data, folder.glob(f"{table}.part-*")))),
    ]
    return [(place, parts) for place, parts in grouped if parts]


def _data_files(folders: Sequence[Path]) -> list[Path]:
    """Data files below the folders; names that start with `_` or `.` are other tools' notes."""
    return sorted(
        path
        for folder in folders
        if folder.is_dir()
        for path in folder.rglob("*")
        if _is_data(path) and not path.name.startswith(("_", "."))
    )


def _is_data(path: Path) -> bool:
    return path.is_file() and _SUFFIX.search(path.name) is not None


def _format(path: Path) -> Format:
    return FORMATS[path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
