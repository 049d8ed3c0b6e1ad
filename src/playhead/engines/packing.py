"""Tables as single values, so that processes exchange many rows as one."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def pack(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream (LZ4)."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def unpack(body: pa.BinaryScalar | bytes) -> pa.Table:
    """The table of a value that `pack` has made."""
    with pa.ipc.open_stream(body if isinstance(body, bytes) else body.as_buffer()) as reader:
        return reader.read_all()


def unpack_all(bodies: Iterable[pa.BinaryScalar]) -> pa.Table:
    """The rows of several tables of one schema; at least one."""
    return pa.concat_tables([unpack(body) for body in bodies])


def split(table: pa.Table, numbers: npt.NDArray[np.integer]) -> Iterator[tuple[int, pa.Table]]:
    """The rows of a table by a whole number that each of them has, in their order; then the next.

    Args:
        numbers: shape (rows,).
    """
    order = np.argsort(numbers, kind="stable")
    table, numbers = table.take(pa.array(order)), numbers[order]
    if len(numbers):
        cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        for start, stop in pairwise(cuts):
            yield int(numbers[start]), table.slice(start, stop - start)
