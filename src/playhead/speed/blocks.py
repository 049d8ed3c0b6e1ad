"""State blocks: Arrow tables as checksummed bytes."""

import zlib

import pyarrow as pa

from playhead.errors import StateError


def encode(table: pa.Table) -> tuple[bytes, int]:
    """The table as an Arrow IPC stream (LZ4), and the stream's CRC-32."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    return body, zlib.crc32(body)


def decode(body: bytes, crc: int, place: str) -> pa.Table:
    """The table of a block.

    Raises:
        StateError: the bytes fail their checksum; `place` says which block it was.
    """
    if zlib.crc32(body) != crc:
        raise StateError(
            f"{place} is damaged: its bytes fail their checksum",
            hint="Run `playhead rebuild --all`: speed state is made anew from the lake and the "
            "event log.",
        )
    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            return reader.read_all()
    except (pa.ArrowException, OSError) as error:
        raise StateError(f"{place} cannot be read: {error}") from error
