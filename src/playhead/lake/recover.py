"""Makes a lake's catalog anew from the tables' own metadata files."""

import logging
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from pyiceberg.table import Table

from playhead.errors import LakeError
from playhead.lake.checksums import Checksum, file_crc32
from playhead.lake.filecatalog import FileCatalog
from playhead.lake.manifests import ManifestReader
from playhead.lake.storage import local_path, make_folder

logger = logging.getLogger(__name__)

_FOLDER = re.compile(r"(?P<table>.+)-[0-9a-f]{12}")
_SUFFIXES = ("", "-wal", "-shm")


def needs_recovery(root: Path) -> str:
    """Why the catalog under `root` cannot be opened; empty if it can."""
    try:
        with closing(FileCatalog(root)):
            return ""
    except LakeError as error:
        return error.message


def recover_catalog(root: Path, now: datetime) -> tuple[Path, list[str]]:
    """Put the catalog aside and make a new one that names each table's newest metadata.

    The newest file may be one that a killed writer never made current. It is whole all the same:
    its properties tell what it holds, by which writers go on.

    Returns:
        where the old catalog is, and the tables that were found.

    Raises:
        LakeError: no metadata of a table can be read; its folder is named.
    """
    aside = root / f"damaged-{now:%Y%m%d-%H%M%S}"
    make_folder(aside)
    for suffix in _SUFFIXES:
        path = root / f"catalog.db{suffix}"
        if path.exists():
            path.rename(aside / path.name)
    hidden = aside / "catalog.db"
    with closing(FileCatalog(root, found=True)) as catalog:
        for name, metadata in sorted(_newest(catalog.warehouse).items()):
            namespace, table = name.split(".")
            catalog.ensure_namespace(namespace)
            catalog.register_table((namespace, table), str(metadata))
            _note_checksums(catalog, name)
        return hidden, catalog.names()


def _newest(warehouse: Path) -> dict[str, Path]:
    """The newest metadata file of each table; of several folders of one, that written to last."""
    found: dict[str, Path] = {}
    for folder in sorted(warehouse.glob("*/*/metadata")):
        named = _FOLDER.fullmatch(folder.parent.name)
        files = sorted(folder.glob("*.metadata.json"))
        if named is None or not files:
            continue
        name = f"{folder.parent.parent.name}.{named['table']}"
        newest, known = files[-1], found.get(name)
        if known is None or newest.stat().st_mtime_ns > known.stat().st_mtime_ns:
            found[name] = newest
    return found


def _note_checksums(catalog: FileCatalog, name: str) -> None:
    """Take the checksums of what can be read now, so that later damage is found."""
    table = catalog.load(name)
    paths = {local_path(table.metadata_location), *_manifests(name, table)}
    catalog.checksums.set(
        {path: Checksum(Path(path).stat().st_size, file_crc32(path)) for path in paths}
    )


def _manifests(name: str, table: Table) -> Iterator[str]:
    reader = ManifestReader()
    for snapshot in table.metadata.snapshots:
        yield local_path(snapshot.manifest_list)
        for manifest in reader.manifests(name, snapshot, table.io):
            yield local_path(manifest.manifest_path)
