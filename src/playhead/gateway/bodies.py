"""Bodies of requests: collected within bounds of size, time and memory, and decompressed."""

import asyncio
import zlib
from dataclasses import dataclass
from typing import Literal

import zstandard

from playhead.errors import RequestRefusedError
from playhead.gateway.answers import Request

Form = Literal["array", "lines", "arrow", "text"]
Encoding = Literal["identity", "gzip", "deflate", "zstd"]

MEDIA_TYPES: dict[str, Form] = {
    "application/json": "array",
    "application/x-ndjson": "lines",
    "application/vnd.apache.arrow.stream": "arrow",
    "text/plain": "text",
}
ENCODINGS: dict[str, Encoding] = {
    "": "identity",
    "identity": "identity",
    "gzip": "gzip",
    "x-gzip": "gzip",
    "deflate": "deflate",
    "zstd": "zstd",
}

# The window of a Zstandard frame is memory that its sender asks for (RFC 8878 advises 8 MB).
_ZSTD_WINDOW_BYTES = 8 << 20
# Each frame of a body costs a copy of all that comes behind it.
_MOST_FRAMES = 64
_BUSY_RETRY_S = 1


class ClientGoneError(Exception):
    """The client closed the connection before its body was whole; nobody waits for an answer."""


@dataclass(frozen=True)
class BodyLimits:
    """What one body may take.

    Attributes:
        max_bytes: before it is decompressed, and after.
        seconds: from its first byte to its last.
    """

    max_bytes: int
    seconds: float


class Budget:
    """Bytes of all bodies that a worker has in memory; used on the event loop only."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def has_room(self, more_bytes: int) -> bool:
        """Whether so much more fits; a single body always does."""
        return not self.used_bytes or self.used_bytes + more_bytes <= self.limit_bytes


class Lease:
    """One request's share of the budget, given back at the end of the `with` block."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held_bytes = 0

    def check(self, more_bytes: int) -> None:
        """Refuse (503) what would not fit now, without taking it."""
        if not self._held_bytes and not self._budget.has_room(more_bytes):
            raise RequestRefusedError(
                "too many events wait to be written; nothing was taken in",
                status=503,
                retry_after_s=_BUSY_RETRY_S,
            )

    def grow(self, more_bytes: int) -> None:
        """Take more; one that has begun may go on where it is alone.

        Raises:
            RequestRefusedError: 503: the budget is used up by others.
        """
        others_bytes = self._budget.used_bytes - self._held_bytes
        wanted_bytes = self._held_bytes + more_bytes
        if others_bytes and others_bytes + wanted_bytes > self._budget.limit_bytes:
            raise RequestRefusedError(
                "too many events wait to be written; nothing was taken in",
                status=503,
                retry_after_s=_BUSY_RETRY_S,
            )
        self._held_bytes = wanted_bytes
        self._budget.used_bytes += more_bytes

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.used_bytes -= self._held_bytes
        self._held_bytes = 0


def form_of(content_type: str) -> Form:
    """How a body of this media type is read; JSON if none is given.

    Raises:
        RequestRefusedError: 415, with the list of those that can be read.
    """
    media_type, *parameters = [part.strip().lower() for part in content_type.split(";")]
    form = MEDIA_TYPES.get(media_type or "application/json")
    charsets = [p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset")]
    if form is None or any(charset not in ("utf-8", "utf8", "us-ascii") for charset in charsets):
        raise RequestRefusedError(
            f"a body of type {content_type[:100]!r} cannot be read",
            status=415,
            hint=f"Send {', '.join(MEDIA_TYPES)}, in UTF-8.",
            headers=(("Accept-Post", ", ".join(MEDIA_TYPES)),),
        )
    return form


def encoding_of(content_encoding: str) -> Encoding:
    """How a body is compressed.

    Raises:
        RequestRefusedError: 415, with the list of encodings that can be read.
    """
    encoding = ENCODINGS.get(content_encoding.lower())
    if encoding is None:
        raise RequestRefusedError(
            f"the encoding {content_encoding[:100]!r} cannot be read",
            status=415,
            hint="Send gzip, deflate, zstd or nothing, and one of them only.",
            headers=(("Accept-Encoding", "gzip, deflate, zstd"),),
        )
    return encoding


def length_of(request: Request, limits: BodyLimits) -> int | None:
    """The length that a body's header tells; None where it comes in chunks.

    Raises:
        RequestRefusedError: 411 if there is neither, 413 if it is too long.
    """
    if told := request.headers.get(b"content-length"):
        if int(told) > limits.max_bytes:
            raise _too_large(limits.max_bytes)
        return int(told)
    if b"transfer-encoding" not in request.headers:
        raise RequestRefusedError("a body needs a Content-Length", status=411)
    return None


async def collect(request: Request, limits: BodyLimits, lease: Lease) -> bytes:
    """The whole body as it came.

    Raises:
        RequestRefusedError: 408, 413 or 503: it came too slowly, is too long, or there is no
            memory for it now.
        ClientGoneError: it ends too early.
    """
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(limits.seconds):
            while request.is_unread:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                if part := message.get("body", b""):
                    request.bytes_read += len(part)
                    if request.bytes_read > limits.max_bytes:
                        raise _too_large(limits.max_bytes)
                    lease.grow(len(part))
                    parts.append(part)
                request.is_unread = message.get("more_body", False)
    except TimeoutError:
        raise RequestRefusedError(
            f"the body was not whole after {limits.seconds:g} s", status=408
        ) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decompress(body: bytes, encoding: Encoding, max_bytes: int) -> bytes:
    """The body without its compression.

    Memory is bounded by `max_bytes`, whatever the body claims to hold.

    Raises:
        RequestRefusedError: 400: it is damaged or ends too early; 413: it holds more.
    """
    if encoding == "identity":
        return body
    try:
        if encoding == "zstd":
            return _unzstd(body, max_bytes)
        return _inflate(body, encoding, max_bytes)
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise RequestRefusedError(
            f"the body is no {encoding}: {str(error) or 'it ends too early'}", status=400
        ) from None


def _inflate(body: bytes, encoding: Encoding, max_bytes: int) -> bytes:
    """RFC 1952 members one after another, or one stream of RFC 1950 or, as many send, 1951."""
    bits = 31 if encoding == "gzip" else 15 if _has_zlib_header(body) else -15
    parts: list[bytes] = []
    size = 0
    for _ in range(_MOST_FRAMES):
        inflater = zlib.decompressobj(bits)
        parts.append(inflater.decompress(body, max_bytes - size + 1))
        size += len(parts[-1])
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not inflater.eof:
            raise EOFError
        body = inflater.unused_data
        if not body:
            return b"".join(parts)
    raise _too_many(encoding)


def _has_zlib_header(body: bytes) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    """Frames of RFC 8878 one after another."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    parts: list[bytes] = []
    left = max_bytes
    for _ in range(_MOST_FRAMES):
        size = zstandard.frame_content_size(body)
        if size < 0:
            # A frame that was streamed does not tell its size, and only this way of reading it
            # stops in time, which on the other hand takes one that is cut off for a whole one.
            size = len(decompressor.stream_reader(body).read(left + 1))
        if size > left:
            raise _too_large(max_bytes)
        frame = decompressor.decompressobj()
        parts.append(frame.decompress(body))
        if not frame.eof:
            raise EOFError
        left -= len(parts[-1])
        body = frame.unused_data
        if not body:
            return b"".join(parts)
    raise _too_many("zstd")


def _too_many(encoding: Encoding) -> RequestRefusedError:
    return RequestRefusedError(
        f"the body is {encoding} of more than {_MOST_FRAMES} frames one after another", status=400
    )


def _too_large(max_bytes: int) -> RequestRefusedError:
    return RequestRefusedError(
        f"a body may have {max_bytes:,} bytes, before and after it is decompressed",
        status=413,
        hint="Send fewer events at once.",
    )
