"""From the bodies of requests to tables of their events, many small bodies at once.

Decoding has a fixed cost, which for a single event is most of it. So the bodies that wait for the
same append are cut into the bytes of their events and decoded as one; what is refused is given
back to its own request.
"""

import asyncio
from bisect import bisect_right
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TypeVar

import msgspec
import pyarrow as pa

from playhead.config import GatewaySettings
from playhead.contracts.mixed import Decoded, Limits, MixedDecoder, Refused
from playhead.errors import BodyTooLargeError, ContractError, RequestRefusedError
from playhead.gateway import letters
from playhead.gateway.answers import Request
from playhead.gateway.bodies import Encoding, Form, Lease, decompress
from playhead.gateway.quota import Quotas
from playhead.keys import Key

Made = TypeVar("Made")

# A larger body is decoded in a thread of its own, so that small ones do not wait for it.
LARGE_BYTES = 512 << 10
_LARGE_COMPRESSED_BYTES = 64 << 10
_JOINED_BYTES = 64 << 10

_SENT_AT = b"playhead-sent-at"
_CUT_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def limits_of(settings: GatewaySettings) -> Limits:
    """What the settings allow a body of events."""
    return Limits(
        max_events=settings.max_events,
        max_field_bytes=settings.max_field_kb << 10,
        max_future=timedelta(seconds=settings.max_future_seconds),
        max_past=timedelta(days=settings.max_past_days),
        max_skew=timedelta(seconds=settings.max_skew_seconds),
    )


@dataclass(frozen=True)
class Body:
    """A body without its compression.

    Attributes:
        received: when it was whole, naive UTC.
        sent_at: when its sender says to have sent it, naive UTC.
        key: that it came with.
        decoded: the events in it, if it was too large to be decoded beside others.
    """

    content: bytes
    form: Form
    received: datetime
    sent_at: datetime | None = None
    key: Key | None = None
    decoded: Decoded | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a body's events: how many there were, and which of them were refused."""

    count: int
    rejected: Sequence[Refused]


@dataclass(frozen=True)
class Batch:
    """Bodies that were decoded together.

    Attributes:
        outcomes: of each body, in the order given; or why it is refused as a whole.
        tables: the good events of all of them, and their dead letters, by topic.
        reasons: how many were refused, by class of reason.
    """

    outcomes: Sequence[Outcome | RequestRefusedError]
    tables: dict[str, pa.Table]
    reasons: "Tally[str]"


class BodyDecoder:
    """Decodes bodies; one large one beside the others.

    Args:
        quotas: is asked whether a body's events may come, once they are counted.
        max_bytes: of a body, once it is decompressed.
    """

    def __init__(self, decoder: MixedDecoder, quotas: Quotas, max_bytes: int) -> None:
        self._decoder = decoder
        self._quotas = quotas
        self._max_bytes = max_bytes
        self._beside = ThreadPoolExecutor(1, "gateway-large")
        self._cut = msgspec.json.Decoder(list[msgspec.Raw])

    async def unpack(self, body: Body, encoding: Encoding, lease: Lease) -> Body:
        """The body without its compression, and decoded if it is large.

        Raises:
            RequestRefusedError: 400: it cannot be read; 413 or 503: it is too large once it is
                decompressed, for the limit or for the memory that is left.
        """
        if encoding != "identity":
            is_large = len(body.content) > _LARGE_COMPRESSED_BYTES
            packed = body.content
            content = await self._call(
                is_large, lambda: decompress(packed, encoding, self._max_bytes)
            )
            lease.grow(len(content))
            body = replace(body, content=content)
        if body.form == "text":
            body = replace(body, form=_form_of_text(body.content))
        if len(body.content) > LARGE_BYTES:
            whole = body
            decoded = await self._call(True, lambda: self._decoded(whole))
            body = replace(body, decoded=decoded)
        return body

    def batch(self, bodies: Sequence[Body], *, is_again: bool = False) -> Batch:
        """The events of bodies, to be appended together; the small ones decoded together.

        Args:
            is_again: they were counted against their keys' quotas before.
        """
        outcomes: dict[int, Outcome | RequestRefusedError] = {}
        parts: list[Decoded] = []
        joined = list(self._joinable(bodies))
        if len(joined) > 1 and not is_again:
            parts += self._join(bodies, joined, outcomes)
        for place, body in enumerate(bodies):
            if place in outcomes:
                continue
            try:
                decoded = body.decoded or self._decoded(body)
                if not is_again:
                    self._quotas.take(body.key, decoded.count)
            except RequestRefusedError as refused:
                outcomes[place] = refused
            else:
                outcomes[place] = Outcome(decoded.count, decoded.rejected)
                parts.append(decoded)
        ordered = [outcomes[place] for place in range(len(bodies))]
        return self._batch(bodies, ordered, parts)

    def warm(self) -> None:
        """Do what otherwise the first request would wait for: Arrow loads pandas late."""
        self.batch([Body(b"[{}]", "array", datetime(1970, 1, 1))])

    def close(self) -> None:
        """End the thread; may be called twice."""
        self._beside.shutdown(wait=False)

    async def _call(self, is_large: bool, work: Callable[[], Made]) -> Made:
        if not is_large:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._beside, work)

    def _decoded(self, body: Body) -> Decoded:
        decode = getattr(self._decoder, body.form)
        try:
            decoded: Decoded = decode(body.content, received=body.received, sent_at=body.sent_at)
        except ContractError as error:
            status = 413 if isinstance(error, BodyTooLargeError) else 400
            raise RequestRefusedError(error.message, status=status, hint=error.hint) from error
        return decoded

    def _joinable(self, bodies: Sequence[Body]) -> Iterator[tuple[int, list[msgspec.Raw]]]:
        """The places of small bodies, each whole JSON by itself, with their events' bytes."""
        room_bytes, room_events = LARGE_BYTES, self._decoder.limits.max_events
        for place, body in enumerate(bodies):
            content = body.content
            if len(content) > min(_JOINED_BYTES, room_bytes) or not _is_plain(body):
                continue
            try:
                items = self._cut.decode(content if content[:1] == b"[" else b"[%b]" % content)
            except _CUT_ERRORS:
                continue
            # "{},{}" is no JSON before the brackets are put around it.
            if (content[:1] == b"[" or len(items) == 1) and 0 < len(items) <= room_events:
                room_bytes, room_events = room_bytes - len(content), room_events - len(items)
                yield place, items

    def _join(
        self,
        bodies: Sequence[Body],
        joined: Sequence[tuple[int, list[msgspec.Raw]]],
        outcomes: dict[int, Outcome | RequestRefusedError],
    ) -> list[Decoded]:
        """Decode the events of several bodies as those of one, and say what became of each."""
        allowed = []
        for place, items in joined:
            try:
                self._quotas.take(bodies[place].key, len(items))
                allowed.append((place, items))
            except RequestRefusedError as refused:
                outcomes[place] = refused
        if not allowed:
            return []
        content = b"[%b]" % b",".join([item for _, items in allowed for item in items])
        decoded = self._decoded(Body(content, "array", bodies[allowed[-1][0]].received))
        ends = list(accumulate(len(items) for _, items in allowed))
        rejected: list[list[Refused]] = [[] for _ in allowed]
        for one in decoded.rejected:
            number = bisect_right(ends, one.index)
            start = ends[number] - len(allowed[number][1])
            rejected[number].append(replace(one, index=one.index - start))
        for number, (place, items) in enumerate(allowed):
            outcomes[place] = Outcome(len(items), rejected[number])
        return [decoded]

    def _batch(
        self,
        bodies: Sequence[Body],
        outcomes: Sequence[Outcome | RequestRefusedError],
        parts: Sequence[Decoded],
    ) -> Batch:
        tables: dict[str, list[pa.Table]] = {}
        for part in parts:
            for topic, table in part.tables.items():
                if table.num_rows:
                    tables.setdefault(topic, []).append(table)
        reasons: Tally[str] = Tally()
        for body, outcome in zip(bodies, outcomes, strict=True):
            if isinstance(outcome, Outcome) and outcome.rejected:
                key_id = None if body.key is None else body.key.id
                refused = outcome.rejected
                table = letters.letters(refused, body.received, key_id, body.sent_at)
                tables.setdefault(letters.TOPIC, []).append(table)
                reasons.update(letters.reason_class(one.reason) for one in outcome.rejected)
        whole = {topic: pa.concat_tables(several) for topic, several in tables.items()}
        return Batch(outcomes, whole, reasons)


def _is_plain(body: Body) -> bool:
    """Whether a body's events mean the same among those of other bodies."""
    if body.decoded is not None or body.sent_at is not None:
        return False
    is_line = body.form == "lines" and b"\n" not in body.content.rstrip()
    return body.content[:1] in (b"[", b"{") and (body.form == "array" or is_line)


def sent_at_of(request: Request) -> datetime | None:
    """When the sender says to have sent the request: the Playhead-Sent-At header, or `sent_at`
    behind the question mark, in RFC 3339; naive UTC.

    Raises:
        RequestRefusedError: 400: it is no time.
    """
    text = request.header(_SENT_AT) or request.query.get("sent_at", "")
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    except (ValueError, OverflowError):
        raise RequestRefusedError(
            f"Playhead-Sent-At is {text[:60]!r}, which is no time",
            status=400,
            hint='Send RFC 3339, such as "2025-06-01T18:00:00.000Z".',
        ) from None


def _form_of_text(content: bytes) -> Form:
    """JSON Lines unless it begins as an array: a line may hold a whole object too."""
    return "array" if content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") else "lines"
