"""Cuts text files into records, so that every record knows its physical line.

Blocks without fault are cut by array operations; only a block that holds a fault (a stray or open
quote, bytes that are no UTF-8, an overlong or blank line) is walked record by record.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["Records", "Reject", "Splitter", "first_record", "read_records"]

BLOCK_BYTES = 4 << 20
MAX_RECORD_BYTES = 1 << 20
_NEWLINE, _RETURN, _QUOTE, _COMMA = b'\n\r",'
_NONE = np.empty(0, dtype=np.int64)

_VALUE = rb'(?>"(?:[^"]++|"")*+"|[^",\r\n]*+)'
_RECORD = re.compile(rb"%b(?>,%b)*+\r?\n" % (_VALUE, _VALUE))
_OPEN_RECORD = re.compile(rb'(?>%b,)*+(?>"(?:[^"]++|"")*+"?+\r?|[^",\r\n]*+\r?)' % _VALUE)
_LINE = re.compile(rb"[^\n]*+\n")


@dataclass(frozen=True)
class Reject:
    """A record that cannot be read: its physical line (from 1), the reason, and its text."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class Records:
    """The whole records of one block.

    `body` holds the good ones, each ending in a newline and none blank; `lines` is `(n,)`, the
    physical line on which each of them starts.
    """

    body: bytes
    lines: NDArray[np.int64]
    rejects: list[Reject] = field(default_factory=list)


class Splitter:
    """Cuts consecutive chunks of bytes into records; what a chunk leaves open waits for the next.

    Args:
        quoted: whether a quoted value may hold newlines (CSV by RFC 4180) or not (JSON Lines).
        line: physical line of the first byte.
    """

    def __init__(self, *, quoted: bool, line: int = 1) -> None:
        self._quoted = quoted
        self._line = line
        self._tail = b""
        self._discarding = False

    def feed(self, chunk: bytes, *, final: bool = False) -> Records:
        """The records that `chunk` completes; with `final`, all that is left."""
        buffer = self._tail + chunk
        if final and buffer and not buffer.endswith(b"\n"):
            buffer += b"\n"
        if self._discarding:
            buffer = self._after_overlong_line(buffer)
        return self._split_at_once(buffer, final=final) or self._walk(buffer, final=final)

    def _after_overlong_line(self, buffer: bytes) -> bytes:
        end = buffer.find(b"\n") + 1
        if not end:
            return b""
        self._discarding = False
        self._line += 1
        return buffer[end:]

    def _split_at_once(self, buffer: bytes, *, final: bool) -> Records | None:
        """All records of a block without fault, or None where the block needs a closer look."""
        data = np.frombuffer(buffer, dtype=np.uint8)
        newlines = np.flatnonzero(data == _NEWLINE)
        closing, quotes = np.arange(newlines.size), _NONE
        if self._quoted and b'"' in buffer:
            quotes = np.flatnonzero(data == _QUOTE)
            closing = np.flatnonzero((np.searchsorted(quotes, newlines) & 1) == 0)
        ends = newlines[closing]
        end = int(ends[-1]) + 1 if ends.size else 0
        if len(buffer) - end > MAX_RECORD_BYTES or (final and end < len(buffer)):
            return None
        body = buffer[:end]
        if not _sizes_fit(ends, data) or not _is_utf8(body):
            return None
        if self._quoted and not _quotes_fit(body, data[:end], quotes[quotes < end]):
            return None
        firsts = np.concatenate([np.zeros(min(ends.size, 1), np.int64), closing[:-1] + 1])
        records = Records(body, self._line + firsts)
        self._line += int(closing[-1]) + 1 if ends.size else 0
        self._tail = buffer[end:]
        return records

    def _walk(self, buffer: bytes, *, final: bool) -> Records:
        """Record by record: a faulty one costs its first physical line, and the next is tried."""
        good: list[bytes] = []
        lines: list[int] = []
        rejects: list[Reject] = []
        pattern = _RECORD if self._quoted else _LINE
        position = 0
        while position < len(buffer):
            match = pattern.match(buffer, position)
            if match is None and not final and self._may_go_on(buffer, position):
                break
            record = match[0] if match else b""
            if not 0 < len(record) <= MAX_RECORD_BYTES:
                record = buffer[position : buffer.find(b"\n", position) + 1 or len(buffer)]
                rejects.append(_reject(self._line, record))
            elif not _is_utf8(record):
                rejects.append(_reject(self._line, record))
            elif record not in (b"\n", b"\r\n"):
                good.append(record)
                lines.append(self._line)
            position += len(record)
            self._line += record.count(b"\n")
        self._discarding = position > 0 and buffer[position - 1] != _NEWLINE
        self._tail = buffer[position:]
        return Records(b"".join(good), np.array(lines, dtype=np.int64), rejects)

    def _may_go_on(self, buffer: bytes, position: int) -> bool:
        """Whether more bytes could still make a whole record, or a whole line, of the rest."""
        if len(buffer) - position > MAX_RECORD_BYTES:
            return False
        if buffer.find(b"\n", position) < 0:
            return True
        return self._quoted and _OPEN_RECORD.fullmatch(buffer, position) is not None


def read_records(file: BinaryIO, splitter: Splitter) -> Iterator[Records]:
    """The file's records from where it stands, a block of `BLOCK_BYTES` at a time."""
    while chunk := file.read(BLOCK_BYTES):
        yield splitter.feed(chunk)
    yield splitter.feed(b"", final=True)


def _sizes_fit(ends: NDArray[np.int64], data: NDArray[np.uint8]) -> bool:
    """No record is blank or overlong."""
    if not ends.size:
        return True
    lengths = np.diff(ends, prepend=-1)
    short = ends[lengths == 2]
    blank = bool((lengths == 1).any()) or bool((data[short - 1] == _RETURN).any())
    return not blank and int(lengths.max()) <= MAX_RECORD_BYTES


def _quotes_fit(body: bytes, data: NDArray[np.uint8], quotes: NDArray[np.int64]) -> bool:
    """Quotes open only where a value starts and close only where it ends (RFC 4180, 2.5 to 2.7).

    Args:
        data: `(n,)` the bytes of `body`, which ends in a newline outside quotes.
        quotes: `(m,)` where they stand, m even.
    """
    if b"\r" in body and body.count(b"\r") != body.count(b"\r\n"):
        return False
    if not quotes.size:
        return True
    opening, closing = quotes[::2], quotes[1::2]
    before = np.where(opening > 0, data[opening - 1], _NEWLINE)
    after = data[closing + 1]
    return bool(
        np.isin(before, (_NEWLINE, _COMMA, _QUOTE)).all()
        and np.isin(after, (_NEWLINE, _RETURN, _COMMA, _QUOTE)).all()
    )


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _reject(line: int, record: bytes) -> Reject:
    if len(record) > MAX_RECORD_BYTES:
        reason = f"line is longer than {MAX_RECORD_BYTES} bytes"
    elif not _is_utf8(record):
        reason = "line holds bytes that are no UTF-8"
    elif record.count(b'"') % 2:
        reason = "a quote is opened and never closed, or stands inside a value without quotes"
    elif b'"' in record:
        reason = "text stands before or after a quoted value"
    else:
        reason = "a carriage return stands inside the line"
    text = record[:MAX_RECORD_BYTES].decode(errors="backslashreplace").rstrip("\r\n")
    return Reject(line, reason, text.replace("\0", "\\x00"))


def first_record(data: bytes) -> bytes | None:
    """The CSV record at the start of `data` with its newline, or None where it is malformed."""
    match = _RECORD.match(data if b"\n" in data else data + b"\n")
    return match[0] if match and _is_utf8(match[0]) else None
