"""Bodies of events of all topics: bytes in, one Arrow table a topic out, bad events named.

A body is decoded twice at most. First quickly: a chunk's events in one go, then column by
column. Where that finds a fault, or cannot be sure to be exact, the chunk's events are decoded
one by one, so that only the bad ones are refused.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Union

import msgspec
import pyarrow as pa

from playhead.contracts.arrival import SENT_AT, Arrival, Limits
from playhead.contracts.arrowbody import fit, read_stream, routed_rows, row_json, unrouted
from playhead.contracts.base import Contract
from playhead.contracts.bodies import (
    Json,
    has_lone_surrogate,
    is_object,
    refuse_more,
    split_array,
    split_lines,
    without_mark,
)
from playhead.contracts.columns import (
    Bad,
    UnsureError,
    exact,
    quick,
    without_rows,
)
from playhead.contracts.registry import TOPICS
from playhead.contracts.structs import DECODE_ERRORS, explain, explain_route, routed_structs
from playhead.contracts.validate import Rejected

__all__ = ["Decoded", "Limits", "MixedDecoder", "Refused"]

# Decoding an event costs two thirds more when a batch's objects outgrow the CPU's cache.
_CHUNK_EVENTS = 1000
_CHUNK_BYTES = 512 * 1024
_TUPLES = 600

_LIMITS = Limits()
_astuple = msgspec.structs.astuple
_LETTERS = "dead_letters"
_UNSURE = (*DECODE_ERRORS, UnsureError, pa.ArrowException, OverflowError)


@dataclass(frozen=True)
class Refused(Rejected):
    """An event that is refused.

    Attributes:
        topic: the one that its event_type names; None if it names none.
        version: of that topic's contract.
    """

    topic: str | None = None
    version: int | None = None


@dataclass(frozen=True)
class Decoded:
    """What became of one body.

    Attributes:
        tables: by topic, the good events in the order in which they came, with the contract's
            schema; only topics that have some.
        rejected: the others, by index.
        count: how many there were, good and bad.
    """

    tables: Mapping[str, pa.Table]
    rejected: Sequence[Refused]
    count: int


class MixedDecoder:
    """Decodes bodies of events of all topics, routed by event_type.

    An event is an object with the fields of its topic's contract, and perhaps `sent_at`: when it
    was sent by the clock that its event_time is of. Holds no state between calls; one may serve
    several threads.
    """

    def __init__(
        self, contracts: Mapping[str, Contract] | None = None, *, limits: Limits = _LIMITS
    ) -> None:
        """Make a decoder.

        Args:
            contracts: of the topics by name; all but the dead letters by default.
            limits: what a body may ask for.
        """
        if contracts is None:
            contracts = {name: c for name, c in TOPICS.items() if name != _LETTERS}
        self.limits = limits
        self._contracts = dict(contracts)
        self._topic_of = {
            value: name
            for name, contract in contracts.items()
            for value in contract.field("event_type").values
        }
        self._quick = _Lane(contracts.values(), quickly=True)
        self._exact = _Lane(contracts.values(), quickly=False)

    def array(self, body: bytes, received: datetime, sent_at: datetime | None = None) -> Decoded:
        """The events of a JSON array, or of the one JSON object that the body is.

        Args:
            body: UTF-8, perhaps with a byte order mark.
            received: when it came, naive UTC.
            sent_at: when it was sent by its sender's clock, naive UTC; an event's own goes first.

        Raises:
            BodyTooLargeError: it holds more events than the limit.
            ContractError: it cannot be read; the message names the byte.
        """
        body = without_mark(body)
        arrival = Arrival(received, sent_at, self.limits)
        tried = len(body) <= _CHUNK_BYTES and not is_object(body)
        if tried:
            try:
                events = self._quick.many(body)
                refuse_more(len(events), self.limits.max_events)
                return _gathered([(self._tables(events, arrival), [])], len(events))
            except _UNSURE:
                pass
        items = list(enumerate(split_array(body, self.limits.max_events)))
        return self._decoded(items, arrival, self._each if tried else self._chunk)

    def lines(self, body: bytes, received: datetime, sent_at: datetime | None = None) -> Decoded:
        """The events of NDJSON; indexes are numbers of lines from 0, blank ones counted too.

        For the arguments and errors see `array`; a line that cannot be read is refused alone.
        """
        lines = split_lines(without_mark(body), self.limits.max_events)
        return self._decoded(lines, Arrival(received, sent_at, self.limits), self._chunk)

    def arrow(self, body: bytes, received: datetime, sent_at: datetime | None = None) -> Decoded:
        """The events of an Arrow IPC stream, which has a column event_type.

        Columns are cast to the contracts' types; a column that is not in an event's contract is
        to be null in its row. What is refused is told by its row as a JSON object.

        For the arguments and errors see `array`.

        Raises:
            ContractError: it is no whole stream, or a column's type cannot be cast.
        """
        table = read_stream(body, self.limits.max_events)
        arrival = Arrival(received, sent_at, self.limits)
        batches, refused = {}, []
        for topic, rows in routed_rows(table, self._topic_of).items():
            bad: Bad = {}
            if topic is None:
                bad = unrouted(table, rows, list(self._topic_of))
            else:
                part = fit(self._contracts[topic], table.take(rows), arrival, bad)
                batches[topic] = without_rows(part, bad)
            for row, reason in bad.items():
                index = rows[row].as_py()
                refused.append(self._named(index, row_json(table, index), reason, topic))
        return _gathered([(batches, refused)], table.num_rows)

    def _decoded(
        self,
        items: Sequence[tuple[int, Json]],
        arrival: Arrival,
        decode: Callable[[Sequence[tuple[int, Json]], Arrival], "_Chunk"],
    ) -> Decoded:
        starts = range(0, len(items), _CHUNK_EVENTS)
        chunks = [decode(items[start : start + _CHUNK_EVENTS], arrival) for start in starts]
        return _gathered(chunks, len(items))

    def _chunk(self, items: Sequence[tuple[int, Json]], arrival: Arrival) -> "_Chunk":
        try:
            events = [self._quick.one(raw) for _, raw in items]
            return self._tables(events, arrival), []
        except _UNSURE:
            return self._each(items, arrival)

    def _tables(self, events: Sequence[Any], arrival: Arrival) -> dict[str, pa.RecordBatch]:
        """The columns of quickly decoded events.

        Raises:
            UnsureError: one might be refused, or not be exact.
        """
        batches = {}
        for topic, group in self._quick.by_topic(events).items():
            bad: Bad = {}
            batches[topic] = self._quick.batch(topic, group, arrival, bad)
            if bad:
                raise UnsureError(f"{topic}: {len(bad)} events are refused")
        return batches

    def _each(self, items: Sequence[tuple[int, Json]], arrival: Arrival) -> "_Chunk":
        """The columns of the good events, and those that are refused."""
        events, kept, refused = [], [], []
        for index, raw in items:
            try:
                events.append(self._exact.one(raw))
                kept.append((index, raw))
            except DECODE_ERRORS as error:
                refused.append(self._refused(index, raw, error))
        batches = {}
        groups = self._exact.by_topic(events)
        places = self._exact.by_topic(events, kept)
        for topic, group in groups.items():
            bad: Bad = {}
            batch = self._exact.batch(topic, group, arrival, bad)
            for row, reason in bad.items():
                index, raw = places[topic][row]
                refused.append(self._named(index, raw, reason, topic))
            batches[topic] = without_rows(batch, bad)
        return batches, refused

    def _refused(self, index: int, raw: Json, error: Exception) -> Refused:
        topic = self._topic_of.get(_event_type(raw))
        if has_lone_surrogate(raw):
            reason = "half of a surrogate pair, such as \\ud800, stands without the other"
        elif topic is None:
            reason = explain_route(error, list(self._topic_of))
        else:
            reason = explain(error, self._contracts[topic])
        return self._named(index, raw, reason, topic)

    def _named(self, index: int, raw: Json, reason: str, topic: str | None) -> Refused:
        version = None if topic is None else self._contracts[topic].version
        return Refused(index, bytes(raw), reason, topic, version)


_Chunk = tuple[Mapping[str, pa.RecordBatch], Sequence[Refused]]


class _Lane:
    """One way to decode: quickly, or exactly."""

    def __init__(self, contracts: Iterable[Contract], *, quickly: bool) -> None:
        of = quick if quickly else exact
        self._contracts = {contract.name: contract for contract in contracts}
        self._build = {
            contract.name: [of(f) for f in contract.fields if f.name != "event_type"]
            for contract in self._contracts.values()
        }
        self._build_sent = of(SENT_AT)
        self._routes: dict[type, tuple[str, str]] = {}
        for contract in self._contracts.values():
            for value, struct in routed_structs(contract, quick=quickly).items():
                self._routes[struct] = (contract.name, value)
        union: Any = Union[tuple(self._routes)]  # noqa: UP007
        self.one = msgspec.json.Decoder(union).decode
        self.many = msgspec.json.Decoder(list[union]).decode

    def by_topic(
        self, events: Sequence[Any], values: Sequence[Any] | None = None
    ) -> dict[str, Sequence[Any]]:
        """The values, by the topic of the event in the same place; the events by default."""
        values = events if values is None else values
        topics = {self._routes[kind][0] for kind in set(map(type, events))}
        if len(topics) < 2:
            return dict.fromkeys(topics, values)
        groups: dict[str, list[Any]] = {name: [] for name in self._contracts if name in topics}
        add = {
            kind: groups[name].append for kind, (name, _) in self._routes.items() if name in groups
        }
        for event, value in zip(events, values, strict=True):
            add[type(event)](value)
        return groups  # type: ignore[return-value]

    def batch(
        self, topic: str, events: Sequence[Any], arrival: Arrival, bad: Bad
    ) -> pa.RecordBatch:
        """Events of one topic as columns; `bad` gets the rows that are refused."""
        contract = self._contracts[topic]
        *columns, sent = _values(events)
        built = (
            build(column, bad) for build, column in zip(self._build[topic], columns, strict=True)
        )
        arrays = {
            name: self._event_types(events) if name == "event_type" else next(built)
            for name in contract.schema.names
        }
        said = None if sent.count(None) == len(sent) else self._build_sent(sent, bad)
        arrays["event_time"] = arrival.corrected(arrays["event_time"], said, bad)
        batch = pa.RecordBatch.from_arrays(list(arrays.values()), schema=contract.schema)
        arrival.refuse_large(contract, batch, bad)
        return batch

    def _event_types(self, events: Sequence[Any]) -> pa.Array:
        kinds = list(map(type, events))
        if kinds.count(kinds[0]) == len(kinds):
            return pa.repeat(self._routes[kinds[0]][1], len(kinds))
        return pa.array([self._routes[kind][1] for kind in kinds], pa.string())


def _values(events: Sequence[Any]) -> Sequence[Sequence[Any]]:
    """The events' fields, field by field.

    More than 700 tuples at once would wake the garbage collector, which costs as much again.
    """
    if len(events) <= _TUPLES:
        return list(zip(*map(_astuple, events), strict=True))
    first, rest = _values(events[:_TUPLES]), _values(events[_TUPLES:])
    return [(*some, *others) for some, others in zip(first, rest, strict=True)]


class _Kind(msgspec.Struct):
    """An event of which only one field matters."""

    event_type: str | None = None


_kind = msgspec.json.Decoder(_Kind)


def _event_type(raw: Json) -> str:
    try:
        return _kind.decode(raw).event_type or ""
    except DECODE_ERRORS:
        return ""


def _gathered(chunks: Sequence[_Chunk], count: int) -> Decoded:
    batches: dict[str, list[pa.RecordBatch]] = defaultdict(list)
    rejected: list[Refused] = []
    for tables, refused in chunks:
        for topic, batch in tables.items():
            if batch.num_rows:
                batches[topic].append(batch)
        rejected += refused
    rejected.sort(key=lambda event: event.index)
    return Decoded({t: pa.Table.from_batches(b) for t, b in batches.items()}, rejected, count)
