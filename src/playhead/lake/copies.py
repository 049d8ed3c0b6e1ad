"""Data files that a second table takes over as they are: nothing is sorted or encoded again."""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pyiceberg.manifest import DataFile

from playhead import disk
from playhead.errors import LakeError
from playhead.lake.parquet import Layout
from playhead.lake.storage import make_folder, sync_all

THREADS = min(4, (os.cpu_count() or 1) + 1)

# All that a manifest says of a file's content; its place and its order are the table's own.
_KEPT = (
    *("content", "file_format", "partition", "record_count", "file_size_in_bytes"),
    *("column_sizes", "value_counts", "null_value_counts", "nan_value_counts"),
    *("lower_bounds", "upper_bounds", "key_metadata", "split_offsets", "equality_ids"),
)


def copy_files(layout: Layout, files: Sequence[DataFile], folder: Path) -> list[DataFile]:
    """Copy files into a new folder, durably, under their own names, which hold their checksums.

    Args:
        layout: of the table that gets the copies; its columns, with their ids, are the files'.

    Returns:
        one entry per file, in order, that claims no sort order.

    Raises:
        LakeError: a file cannot be read or written. Copies may be left in `folder`.
    """
    if not files:
        return []
    targets = [folder / Path(file.file_path).name for file in files]
    try:
        make_folder(folder)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="lake-copy") as pool:
            list(pool.map(shutil.copyfile, [file.file_path for file in files], targets))
        sync_all(folder, [str(target) for target in targets])
    except OSError as error:
        raise LakeError(
            f"{layout.name}: cannot write to {folder}: {error}", hint=disk.advice(error)
        ) from error
    return [_entry(layout, *pair) for pair in zip(files, targets, strict=True)]


def _entry(layout: Layout, file: DataFile, target: Path) -> DataFile:
    known: dict[str, Any] = {name: getattr(file, name) for name in _KEPT}
    entry = DataFile.from_args(file_path=str(target), sort_order_id=None, **known)
    entry.spec_id = layout.spec_id
    return entry
