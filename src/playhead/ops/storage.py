"""What a workspace takes on disk: each table of the lake, each file and folder beside it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from playhead.assemble import Workspace
from playhead.errors import LakeError
from playhead.lake import Lake, Snapshot

__all__ = [
    "GROUPS",
    "PathSize",
    "Storage",
    "TableSize",
    "bytes_free",
    "file_bytes",
    "measure_storage",
]

GROUPS = ("raw", "clean", "dim", "state", "quality")
"""Groups of the lake's tables, in the order in which rows move on; other names follow these."""

_JOURNALS = ("", "-wal")
_FOLDERS = ("cache", "ids", "tmp")


@dataclass(frozen=True)
class TableSize:
    """One table of the lake as it is now; older snapshots and metadata are not counted.

    Attributes:
        changed_at: when its rows changed last (naive UTC); None: never.
        problem: why nothing else is known of it; empty if all is.
    """

    name: str
    rows: int = 0
    bytes: int = 0
    files: int = 0
    changed_at: datetime | None = None
    problem: str = ""

    @classmethod
    def of(cls, snapshot: Snapshot) -> "TableSize":
        """The size of what a snapshot holds."""
        return cls(
            snapshot.name,
            snapshot.rows,
            sum(file.bytes for file in snapshot.files),
            len(snapshot.files),
            snapshot.changed_at,
        )

    @property
    def group(self) -> str:
        """Which of the groups it belongs to."""
        return self.name.split(".")[0]


@dataclass(frozen=True)
class PathSize:
    """A file with its journal, or a folder with all below it; relative to the workspace.

    Attributes:
        changed_at: when it was written last (naive UTC); None for a folder.
    """

    name: str
    bytes: int
    files: int
    changed_at: datetime | None = None


@dataclass(frozen=True)
class Storage:
    """What a workspace takes on disk.

    Attributes:
        tables: of the lake, by group and name.
        paths: databases, then folders of what can be computed again.
        free_bytes: on the disk that the workspace is on.
    """

    tables: tuple[TableSize, ...]
    paths: tuple[PathSize, ...]
    free_bytes: int

    @property
    def groups(self) -> dict[str, TableSize]:
        """The sums of each group of tables, under its name."""
        found: dict[str, list[TableSize]] = {}
        for table in self.tables:
            found.setdefault(table.group, []).append(table)
        return {group: _sum(group, tables) for group, tables in found.items()}

    @property
    def lake_bytes(self) -> int:
        """Of the data files of all tables."""
        return sum(table.bytes for table in self.tables)


def measure_storage(workspace: Workspace) -> Storage:
    """What the workspace takes on disk now.

    Costs a look at every table's metadata and at every file of the folders for scratch; a table
    whose metadata is damaged says so in its `problem`.

    Raises:
        LakeError: the lake's catalog cannot be read.
        OSError: the workspace's folder cannot be read.
    """
    lake = workspace.lake
    tables = sorted((_table(lake, name) for name in lake.tables()), key=_place)
    return Storage(tuple(tables), tuple(_paths(workspace.path)), bytes_free(workspace.path))


def file_bytes(path: Path) -> int:
    """Bytes of a SQLite file with its journal; 0 if it is not there."""
    return sum(_size(path.with_name(path.name + suffix)) for suffix in _JOURNALS)


def bytes_free(path: Path) -> int:
    """What may still be written where a path is."""
    return shutil.disk_usage(path).free


def _table(lake: Lake, name: str) -> TableSize:
    try:
        return TableSize.of(lake.snapshot(name))
    except LakeError as error:
        return TableSize(name, problem=error.message)


def _place(table: TableSize) -> tuple[int, str]:
    known = table.group in GROUPS
    return (GROUPS.index(table.group) if known else len(GROUPS), table.name)


def _sum(group: str, tables: list[TableSize]) -> TableSize:
    changes = [table.changed_at for table in tables if table.changed_at is not None]
    return TableSize(
        group,
        sum(table.rows for table in tables),
        sum(table.bytes for table in tables),
        sum(table.files for table in tables),
        max(changes, default=None),
        "; ".join(table.problem for table in tables if table.problem),
    )


def _paths(folder: Path) -> Iterator[PathSize]:
    for path in (*sorted(folder.glob("*.db")), folder / "lake" / "catalog.db"):
        if path.exists():
            changed = max(_changed(path), _changed(path.with_name(f"{path.name}-wal")))
            yield PathSize(str(path.relative_to(folder)), file_bytes(path), 1, changed)
    for name in _FOLDERS:
        sizes = [_size(path) for path in (folder / name).rglob("*") if path.is_file()]
        yield PathSize(name, sum(sizes), len(sizes))


def _size(path: Path) -> int:
    """Bytes of a file; 0 if it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _changed(path: Path) -> datetime:
    """When a file was written last (naive UTC); long ago if it is gone."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
    except FileNotFoundError:
        return datetime(1970, 1, 1)
