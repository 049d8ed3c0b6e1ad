"""Tables as single values, so that processes exchange many rows as one."""

from collections.abc import Iterable

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
