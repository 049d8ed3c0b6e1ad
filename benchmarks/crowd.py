"""A crowd of clients that posts playback events to a gateway, and remembers what was accepted."""

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.workload import Audience, playback_events

EVENTS = 1_000
_VARIANTS = 40
_HEAD = "POST /v1/events HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
_NUMBER, _TIME = b"#" * 12, b"!" * 27
_LONGEST_PAUSE_S = 1.0
_TEMPORARY = (408, 429, 503)


@dataclass(frozen=True)
class Pace:
    """How bodies are sent.

    Attributes:
        bodies: how many in all; None: as many as fit into `seconds`.
        connections: that send at once, each waiting for its answer.
        per_second: bodies that are due each second; 0: as soon as the last answer is there.
        seconds: no body begins later than this; None: all are sent, however long it takes.
    """

    bodies: int | None = None
    connections: int = 8
    per_second: float = 0.0
    seconds: float | None = None


@dataclass
class Sent:
    """What came of it.

    Attributes:
        due_s: when each body that was accepted was due, in the order of their answers.
        answer_s: how long each took from its first byte to its 202, repeats included.
        refused: answers that said to send it again.
        seconds: from the first body to the last answer.
    """

    due_s: list[float] = field(default_factory=list)
    answer_s: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Events accepted a second."""
        return len(self.answer_s) * EVENTS / self.seconds

    @property
    def p50_ms(self) -> float:
        return float(np.percentile(self.answer_s, 50)) * 1e3

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.answer_s, 99)) * 1e3


class Pool:
    """Requests of `EVENTS` events of an audience: made once, then given new ids and times."""

    def __init__(self, audience: Audience) -> None:
        self._variants = [_Variant(number, audience) for number in range(_VARIANTS)]

    def request(self, number: int) -> bytes:
        """Body number `number`, of this moment; its events' ids begin with that number."""
        return self._variants[number % _VARIANTS].request(number)


class _Variant:
    def __init__(self, number: int, audience: Audience) -> None:
        events = playback_events(number * EVENTS, EVENTS, audience, _VARIANTS * EVENTS)
        rows = events.drop_columns(["watch_date"]).to_pylist()
        told = [{name: value for name, value in row.items() if value is not None} for row in rows]
        for place, row in enumerate(told):
            row["event_id"] = f"{_NUMBER.decode()}-{place:03d}"
            row["event_time"] = _TIME.decode()
        body = msgspec.json.Encoder(decimal_format="number").encode(told)
        head = f"{_HEAD}Content-Length: {len(body)}\r\n\r\n".encode()
        self._bytes = np.frombuffer(bytearray(head + body), np.uint8)
        self._numbers = _places(self._bytes, _NUMBER)
        self._times = _places(self._bytes, _TIME)

    def request(self, number: int) -> bytes:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}".encode()
        self._bytes[self._numbers] = np.frombuffer(b"%012d" % number, np.uint8)
        self._bytes[self._times] = np.frombuffer(now, np.uint8)
        return self._bytes.tobytes()


def _places(text: npt.NDArray[np.uint8], mark: bytes) -> npt.NDArray[np.int64]:
    """Where the bytes of each mark are; shape (marks, len(mark))."""
    starts = [found.start() for found in re.finditer(re.escape(mark), text.tobytes())]
    return np.array(starts)[:, None] + np.arange(len(mark))


class Crowd:
    """Sends to one gateway.

    Attributes:
        numbers: bodies that were acknowledged.
    """

    def __init__(self, address: str, pool: Pool) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._pool = pool
        self._next = count()
        self.numbers: set[int] = set()

    @property
    def acknowledged(self) -> int:
        """Events, of all bodies so far."""
        return len(self.numbers) * EVENTS

    async def send(self, pace: Pace) -> Sent:
        """Send at a pace.

        Raises:
            SystemExit: the gateway refused a body for good, or some of its events.
        """
        sent, turns = Sent(), count()
        began_s = time.perf_counter()
        clients = [self._client(pace, began_s, turns, sent) for _ in range(pace.connections)]
        await asyncio.gather(*clients)
        sent.seconds = time.perf_counter() - began_s
        return sent

    async def _client(self, pace: Pace, began_s: float, turns: "count[int]", sent: Sent) -> None:
        """One connection: takes the next body that is due, until there is none."""
        line = _Line(self._host, self._port)
        for turn in turns:
            if pace.bodies is not None and turn >= pace.bodies:
                break
            now_s = time.perf_counter()
            due_s = began_s + turn / pace.per_second if pace.per_second else now_s
            if pace.seconds is not None and max(now_s, due_s) - began_s >= pace.seconds:
                break
            await asyncio.sleep(max(0.0, due_s - now_s))
            number = next(self._next)
            request = self._pool.request(number)
            at_s = time.perf_counter()
            sent.refused += await line.deliver(request)
            sent.answer_s.append(time.perf_counter() - at_s)
            sent.due_s.append(due_s)
            self.numbers.add(number)
        line.close()


class _Line:
    """A connection that is made again when it breaks."""

    def __init__(self, host: str, port: int) -> None:
        self._where = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def deliver(self, request: bytes) -> int:
        """Send until it is accepted; how often it was refused before."""
        refused = 0
        while True:
            try:
                status, pause_s, content = await self._ask(request)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.close()
                status, pause_s, content = 503, 0.1, b""
            if status == 202:
                if not content.startswith(b'{"accepted":%d,' % EVENTS):
                    raise SystemExit(f"events were rejected: {content[:300]!r}")
                return refused
            if status not in _TEMPORARY:
                raise SystemExit(f"the gateway answered {status}: {content[:300]!r}")
            refused += 1
            await asyncio.sleep(min(pause_s, _LONGEST_PAUSE_S))

    async def _ask(self, request: bytes) -> tuple[int, float, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._where)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        headers = dict(line.partition(": ")[::2] for line in head.split("\r\n")[1:])
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return int(head.split()[1]), float(headers.get("retry-after", "1")), content

    def close(self) -> None:
        """Hang up; the next request connects anew."""
        if self._streams is not None:
            with suppress(OSError):
                self._streams[1].close()
            self._streams = None
