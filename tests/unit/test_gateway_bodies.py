"""Bodies are read within bounds, whatever they claim to be."""

import gzip
import zlib
from contextlib import suppress
from datetime import datetime

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from playhead.errors import RequestRefusedError
from playhead.gateway.answers import Request
from playhead.gateway.bodies import (
    BodyLimits,
    Budget,
    Encoding,
    Lease,
    decompress,
    encoding_of,
    form_of,
    length_of,
)
from playhead.gateway.decoding import sent_at_of

MAX = 10_000
TEXT = b'[{"event_id": "e1"}]' * 100


def gzipped(text: bytes) -> bytes:
    # Without the time of day, by which two processes would name the tests differently.
    return gzip.compress(text, mtime=0)


def raw_deflate(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(text) + packer.flush()


def streamed_zstd(text: bytes) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(text) + packer.flush()


def request(query: bytes = b"", **headers: str) -> Request:
    async def nothing() -> dict[str, object]:
        return {"type": "http.disconnect"}

    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    scope = {"method": "POST", "path": "/v1/events", "query_string": query}
    return Request(scope, nothing, "r1", named)


def status_of(call: object, *arguments: object) -> int:
    with pytest.raises(RequestRefusedError) as refused:
        call(*arguments)  # type: ignore[operator]
    return refused.value.status


PACKED: list[tuple[Encoding, bytes]] = [
    ("identity", TEXT),
    ("gzip", gzipped(TEXT)),
    ("gzip", gzipped(TEXT[:700]) + gzipped(TEXT[700:])),
    ("deflate", zlib.compress(TEXT)),
    ("deflate", raw_deflate(TEXT)),
    ("zstd", zstandard.compress(TEXT)),
    ("zstd", streamed_zstd(TEXT)),
    ("zstd", zstandard.compress(TEXT[:700]) + streamed_zstd(TEXT[700:])),
]
BOMBS: list[tuple[Encoding, bytes]] = [
    ("gzip", gzipped(b"a" * 100_000_000)),
    ("deflate", raw_deflate(b"a" * 100_000_000)),
    ("zstd", zstandard.compress(b"a" * 100_000_000)),
    ("zstd", streamed_zstd(b"a" * 100_000_000)),
    ("gzip", gzipped(b"a" * MAX) * 2),
    ("zstd", zstandard.compress(b"a" * MAX) * 2),
    ("zstd", zstandard.compress(b"a") + streamed_zstd(b"a" * 100_000_000)),
]


@pytest.mark.parametrize(("encoding", "packed"), PACKED)
def test_every_encoding_comes_back(encoding: Encoding, packed: bytes) -> None:
    assert decompress(packed, encoding, MAX) == TEXT


@pytest.mark.parametrize(("encoding", "packed"), PACKED[1:])
@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-1], lambda b: b[:3], lambda b: b"", lambda b: b"x" + b]
)
def test_damaged_bodies_are_refused(encoding: Encoding, packed: bytes, spoil: object) -> None:
    assert status_of(decompress, spoil(packed), encoding, MAX) == 400  # type: ignore[operator]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_junk_behind_the_end_is_refused(encoding: Encoding) -> None:
    packed = dict(PACKED)[encoding]
    assert status_of(decompress, packed + b"junk", encoding, MAX) == 400


@pytest.mark.parametrize(("encoding", "packed"), BOMBS)
def test_bombs_are_refused(encoding: Encoding, packed: bytes) -> None:
    assert status_of(decompress, packed, encoding, MAX) == 413


@pytest.mark.parametrize(("encoding", "packed"), PACKED[1:])
def test_the_bound_itself_is_allowed(encoding: Encoding, packed: bytes) -> None:
    assert decompress(packed, encoding, len(TEXT)) == TEXT
    assert status_of(decompress, packed, encoding, len(TEXT) - 1) == 413


@pytest.mark.parametrize(
    ("encoding", "frame"), [("gzip", gzipped(b"")), ("zstd", zstandard.compress(b""))]
)
def test_a_body_of_countless_frames_is_refused(encoding: Encoding, frame: bytes) -> None:
    assert decompress(frame * 64, encoding, MAX) == b""
    assert status_of(decompress, frame * 65, encoding, MAX) == 400


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "zstd"]))
def test_any_bytes_are_read_or_refused(content: bytes, encoding: Encoding) -> None:
    with suppress(RequestRefusedError):
        assert len(decompress(content, encoding, MAX)) <= MAX


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("", "array"),
        ("application/json", "array"),
        ("Application/JSON; charset=UTF-8", "array"),
        ("application/x-ndjson", "lines"),
        ("text/plain;charset=utf-8", "text"),
        ("application/vnd.apache.arrow.stream", "arrow"),
    ],
)
def test_media_types_name_the_form(content_type: str, form: str) -> None:
    assert form_of(content_type) == form


@pytest.mark.parametrize("content_type", ["text/html", "application/json; charset=latin-1", "json"])
def test_other_media_types_are_refused(content_type: str) -> None:
    assert status_of(form_of, content_type) == 415


@pytest.mark.parametrize("content_encoding", ["br", "gzip, gzip", "compress"])
def test_other_encodings_are_refused(content_encoding: str) -> None:
    assert status_of(encoding_of, content_encoding) == 415


def test_a_length_is_needed_unless_the_body_comes_in_chunks() -> None:
    limits = BodyLimits(100, 1.0)
    assert length_of(request(content_length="100"), limits) == 100
    assert length_of(request(transfer_encoding="chunked"), limits) is None
    assert status_of(length_of, request(), limits) == 411
    assert status_of(length_of, request(content_length="101"), limits) == 413


def test_memory_is_bounded_over_all_bodies() -> None:
    budget = Budget(100)
    with Lease(budget) as first, Lease(budget) as second:
        first.grow(60)
        second.check(40)
        assert status_of(second.check, 41) == 503
        second.grow(40)
        assert status_of(second.grow, 1) == 503
        assert budget.used_bytes == 100
    assert budget.used_bytes == 0


def test_one_body_alone_may_be_larger_than_the_memory() -> None:
    with Lease(Budget(100)) as lease:
        lease.check(200)
        lease.grow(150)
        lease.grow(150)


def test_when_a_request_was_sent_is_a_header_or_behind_the_question_mark() -> None:
    noon = datetime(2025, 6, 1, 12)
    assert sent_at_of(request()) is None
    assert sent_at_of(request(playhead_sent_at="2025-06-01T14:00:00+02:00")) == noon
    assert sent_at_of(request(b"sent_at=2025-06-01T12:00:00Z")) == noon
    assert status_of(sent_at_of, request(playhead_sent_at="yesterday")) == 400
    assert status_of(sent_at_of, request(b"sent_at=0001-01-01T00:00:00%2B01:00")) == 400
