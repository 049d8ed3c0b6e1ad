"""Files of a draft that other processes write: by the same code, with the same checksums.

A writer is sent to where the rows are. Each call writes files of its own into the draft's folder
and tells what a manifest has to know of them. What a killed, repeated or overtaken call leaves is
referred to by nothing.
"""

import pickle
import tempfile
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyiceberg.manifest import DataFile

from playhead.errors import LakeError
from playhead.lake import parquet
from playhead.lake.files import Opener

__all__ = ["RowWriter"]


@dataclass(frozen=True)
class RowWriter:
    """Writes rows into new files of a table; can be pickled.

    Attributes:
        layout: how the table's files look.
        folder: the location of the new files.
        files: opens the lake's files in the process that writes.
    """

    layout: parquet.Layout
    folder: str
    files: Opener

    def write(self, batches: Iterable[pa.RecordBatch]) -> bytes:
        """Write some rows, durably; what `entries` reads.

        Args:
            batches: as `playhead.lake.parquet.write_batches` takes them.

        Raises:
            LakeError: a row does not fit the table, or a file cannot be written.
        """
        with tempfile.TemporaryDirectory(prefix="playhead-rows-") as copies:
            place = self.files(Path(copies))
            tag = f"-{uuid.uuid4().hex[:12]}"
            new = parquet.write_batches(self.layout, batches, place.scratch(self.folder), tag)
            try:
                return pickle.dumps(place.keep(self.folder, new))
            except OSError as error:
                raise LakeError(
                    f"{self.layout.name}: cannot write to {self.folder}: {error}"
                ) from error

    def entries(self, told: bytes) -> list[DataFile]:
        """The entries of the files that a call of `write` made.

        Raises:
            LakeError: they are not of this writer.
        """
        # These bytes were made by this process's own tasks, and by nobody else.
        found: list[DataFile] = pickle.loads(told)  # noqa: S301
        if strays := [e.file_path for e in found if not e.file_path.startswith(f"{self.folder}/")]:
            raise LakeError(f"{self.layout.name}: the file {strays[0]} is none of {self.folder}")
        return found
