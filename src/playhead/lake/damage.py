"""Where a damaged Parquet file is damaged: by the checksums of its pages.

Readers of Parquet trust the numbers in a file's headers, and a flipped bit there can end the
whole process. So a file that is suspected is read by another one: this file, as a program that
writes a JSON list of places.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

_ROWS = 65_536
_MOST_S = 600


def parquet_damage(path: str) -> list[str]:
    """Where a file's pages fail their checksums or cannot be decoded; empty if all can be.

    Each place names row group, column and the bytes of the file that hold it. Pages of files
    that other programs wrote without checksums are decoded, and no more.
    """
    program = [sys.executable, "-P", __file__, path]
    try:
        done = subprocess.run(program, capture_output=True, text=True, timeout=_MOST_S, check=True)
        return [str(place) for place in json.loads(done.stdout)]
    except subprocess.TimeoutExpired:
        return [f"its headers mislead their reader, which did not end in {_MOST_S} s"]
    except subprocess.CalledProcessError as error:
        return [f"its headers mislead their reader ({_end(error)})"]


def _end(error: subprocess.CalledProcessError) -> str:
    """How the reading process ended, in a few words."""
    if error.returncode < 0:
        return f"ended by {signal.Signals(-error.returncode).name}"
    last: str = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
    return last


def places(path: str) -> list[str]:
    """What `parquet_damage` gives, read by this very process."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return list(_damaged(file))
    except (pa.ArrowException, OSError, ValueError) as error:
        return [f"the footer at the end of the file cannot be read ({_brief(error)})"]


def _damaged(file: pq.ParquetFile) -> Iterator[str]:
    for group in range(file.metadata.num_row_groups):
        chunks = file.metadata.row_group(group)
        for column in range(chunks.num_columns):
            chunk = chunks.column(column)
            try:
                path = chunk.path_in_schema
                for _ in file.iter_batches(_ROWS, row_groups=[group], columns=[path]):
                    pass
            except (pa.ArrowException, OSError, ValueError) as error:
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                end = start + chunk.total_compressed_size
                yield (
                    f"bytes {start} to {end}: row group {group}, column {chunk.path_in_schema} "
                    f"({_brief(error)})"
                )


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(places(sys.argv[1])))
