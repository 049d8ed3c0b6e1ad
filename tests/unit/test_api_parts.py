"""The API's small parts: formats, sizes, bodies, Accept headers."""

import asyncio
import json
import threading
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from starlette.requests import Request

from playhead.api.asking import chosen_format, etag_matches
from playhead.api.bodies import Format, body
from playhead.api.cell import distinct
from playhead.api.cells import AllBusyError, Cells
from playhead.api.problems import ProblemError
from playhead.api.readiness import PATIENCE_S, Readiness
from playhead.api.service import bytes_of
from playhead.config import ApiSettings
from playhead.errors import PlayheadError, QueryTimeoutError

TABLE = pa.table(
    {
        "name": pa.array(["a", None, 'with "quotes", and commas']),
        "big": pa.array([2**63 - 1, None, -1], pa.int64()),
        "money": pa.array([Decimal("1.10"), None, Decimal("0.01")], pa.decimal128(9, 2)),
    }
)


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw})


@pytest.mark.parametrize(
    ("size", "count"),
    [("1GB", 10**9), ("1 GiB", 2**30), ("1.5 mb", 1_500_000), ("12B", 12), ("512KiB", 512 << 10)],
)
def test_sizes(size: str, count: int) -> None:
    assert bytes_of(size) == count


def test_the_default_size_is_one() -> None:
    assert bytes_of(ApiSettings().query_memory) == 2 * 10**9


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", Format.JSON),
        ("application/json", Format.JSON),
        ("text/csv", Format.CSV),
        ("text/*", Format.CSV),
        ("application/vnd.apache.arrow.stream", Format.ARROW),
        ("text/csv;q=0.1, application/json;q=0.5", Format.JSON),
        ("text/html, text/csv; q=0.2", Format.CSV),
        ("text/csv;q=x, */*;q=0.1", Format.JSON),
        ("TEXT/CSV", Format.CSV),
    ],
)
def test_what_is_accepted_is_sent(accept: str, kind: Format) -> None:
    assert chosen_format(None, request(accept=accept)) is kind
    assert chosen_format(Format.ARROW, request(accept=accept)) is Format.ARROW


@pytest.mark.parametrize("accept", ["image/png", "text/csv;q=0", "", ";;;,,,"])
def test_nothing_else_is_offered(accept: str) -> None:
    with pytest.raises(ProblemError, match="is offered"):
        chosen_format(None, request(accept=accept))


def test_tags() -> None:
    assert etag_matches(request(if_none_match='"x", W/"y"'), 'W/"y"')
    assert etag_matches(request(if_none_match="*"), 'W/"y"')
    assert not etag_matches(request(), 'W/"y"')


def _whole(kind: Format, table: pa.Table, **told: int) -> bytes:
    return b"".join(bytes(piece) for piece in body(table, kind, told))


def _rows(text: bytes) -> Sequence[dict[str, object]]:
    found: Sequence[dict[str, object]] = json.loads(text, parse_float=Decimal)["rows"]
    return found


def test_bodies_hold_every_digit() -> None:
    rows = _rows(_whole(Format.JSON, TABLE, count=3))
    assert rows[0] == {"name": "a", "big": 2**63 - 1, "money": Decimal("1.10")}
    assert rows[1] == {"name": None, "big": None, "money": None}
    text = b"".join(bytes(piece) for piece in body(TABLE, Format.JSON, {}, text=True))
    assert _rows(text)[0] == {"name": "a", "big": "9223372036854775807", "money": "1.10"}
    assert _rows(_whole(Format.JSON, TABLE.slice(0, 0))) == []


def test_numbers_as_text_are_plain_and_within_values_too() -> None:
    big, small = 2**53 + 1, Decimal("0.0000001")
    decimal = pa.decimal128(20, 10)
    table = pa.table(
        {
            "small": pa.array([small, None], decimal),
            "nothing": pa.array([Decimal(0), None], decimal),
            "list": pa.array([[small], None], pa.list_(decimal)),
            "object": pa.array([{"n": big, "i": 1}, None]),
            "map": pa.array([[("k", big)], None], pa.map_(pa.string(), pa.int64())),
            "i": pa.array([1, None], pa.int32()),
        }
    )
    text = b"".join(bytes(piece) for piece in body(table, Format.JSON, {}, text=True))
    first, second = _rows(text)
    assert first == {
        "small": "0.0000001000",
        "nothing": "0.0000000000",
        "list": ["0.0000001000"],
        "object": {"n": str(big), "i": str(1)},
        "map": {"k": str(big)},
        "i": 1,
    }
    assert set(second.values()) == {None}
    lines = b"".join(bytes(piece) for piece in body(table, Format.CSV, {}, text=True)).split(b"\n")
    assert lines[1].startswith(b'0.0000001000,0.0000000000,"[""0.0000001000""]"')


def test_arrow_bodies_are_streams() -> None:
    many = pa.table({"i": pa.array(range(200_000))})
    pieces = [bytes(piece) for piece in body(many, Format.ARROW, {})]
    assert len(pieces) > 3
    assert pa.ipc.open_stream(b"".join(pieces)).read_all().equals(many)
    empty = _whole(Format.ARROW, TABLE.slice(0, 0))
    assert pa.ipc.open_stream(empty).read_all().schema == TABLE.schema


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a_1", "a_2"]),
        (["a", "a", "a_1"], ["a", "a_2", "a_1"]),
        (["", ""], ["", "_1"]),
    ],
)
def test_no_name_comes_twice(names: list[str], told: list[str]) -> None:
    assert distinct(names) == told


# -- what waits for a process ---------------------------------------------------------------


def test_who_goes_away_while_waiting_gives_the_place_to_another(tmp_path: Path) -> None:
    async def ask() -> None:
        cells = Cells(tmp_path, memory=10**8, count=1, waiting=1)
        here, away = (lambda: _soon(False)), (lambda: _soon(True))
        cell = await cells._take(1, here)
        began = time.monotonic()
        with pytest.raises(QueryTimeoutError, match="cancelled"):
            await cells._take(60, away)
        assert time.monotonic() - began < 5
        waiting = asyncio.create_task(cells._take(60, here))
        await asyncio.sleep(0.05)
        with pytest.raises(AllBusyError):
            await cells._take(60, here)
        cells.give(cell, whole=True)
        assert await waiting is cell
        left = asyncio.create_task(cells._take(60, here))
        await asyncio.sleep(0.05)
        left.cancel()
        cells.give(cell, whole=True)
        assert await cells._take(60, here) is cell
        cells.close()

    asyncio.run(ask())


async def _soon(value: bool) -> bool:
    return value


# -- readiness -----------------------------------------------------------------------------


def readable(topics: Any) -> Any:
    """A workspace whose event log answers so; it is looked at in a thread."""
    return SimpleNamespace(
        log=SimpleNamespace(topics=topics),
        state=SimpleNamespace(open_epoch=lambda: 1),
        lake=SimpleNamespace(tables=list),
    )


def test_readiness_is_looked_up_once_a_second() -> None:
    looks: list[float] = []

    async def ask() -> None:
        readiness = Readiness(readable(lambda: looks.append(time.monotonic())), asyncio.Event())
        await asyncio.gather(*(readiness.check() for _ in range(20)))
        await readiness.check()
        readiness.close()

    asyncio.run(ask())
    assert len(looks) == 1


def test_readiness_is_refused_in_time_however_slow_the_disk_is() -> None:
    ends = threading.Event()

    async def ask() -> None:
        readiness = Readiness(readable(ends.wait), asyncio.Event())
        began = time.monotonic()
        with pytest.raises(PlayheadError, match="did not answer within 1 s"):
            await readiness.check()
        assert time.monotonic() - began < PATIENCE_S + 5
        ends.set()
        await readiness.check()
        readiness.close()

    asyncio.run(ask())


def test_readiness_tells_what_cannot_be_read_and_looks_again() -> None:
    def broken() -> None:
        raise PlayheadError("log.db: damaged")

    async def ask() -> None:
        stopping = asyncio.Event()
        readiness = Readiness(readable(broken), stopping)
        for _ in range(2):
            with pytest.raises(PlayheadError, match="damaged"):
                await readiness.check()
        stopping.set()
        with pytest.raises(PlayheadError, match="stops"):
            await readiness.check()
        readiness.close()

    asyncio.run(ask())
