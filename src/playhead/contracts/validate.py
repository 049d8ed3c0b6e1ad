"""The JSON validator: bytes of JSON events in, Arrow columns out, bad events named one by one.

The struct that does the work is built from the contract, and decodes in C. Every field is
checked while it is decoded: presence, type, allowed values, 32-bit range. DECIMALs are read
from the number's own digits, never through a float.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from playhead.contracts.base import Contract
from playhead.contracts.bodies import Json
from playhead.contracts.columns import Bad, exact, without_rows
from playhead.contracts.structs import DECODE_ERRORS, event_struct, explain
from playhead.errors import ContractError

# Decoding an event costs two thirds more when a batch's objects outgrow the CPU's cache.
_CHUNK_EVENTS = 1000
_CHUNK_BYTES = 512 * 1024


@dataclass(frozen=True)
class Rejected:
    """An event that its contract refuses.

    Attributes:
        index: place in the array, or number of the line, counting from 0.
        raw: the event's bytes as they came.
        reason: the field and what is wrong with it.
    """

    index: int
    raw: bytes
    reason: str


class Validator:
    """Decodes JSON events of one contract into Arrow tables of `contract.schema`.

    A time with a zone is converted to UTC; one without is taken as UTC. DECIMALs with more
    digits than the scale are rounded half up; they may be JSON numbers or strings. Unknown
    fields are refused. Holds no state between calls; one may serve several threads.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        struct = event_struct(contract)
        self._one = msgspec.json.Decoder(struct)
        self._many = msgspec.json.Decoder(list[struct])  # type: ignore[valid-type]
        self._build = [exact(field) for field in contract.fields]
        self._raws = msgspec.json.Decoder(list[msgspec.Raw])

    def decode(self, body: bytes) -> pa.Table:
        """All events of a JSON array, in order; an empty array gives an empty table.

        Raises:
            ContractError: the body is no JSON array, or one event is refused.
        """
        if len(body) <= _CHUNK_BYTES:
            return self._table([self._batch(body)])
        return self._decode_items(self._split(body))

    def decode_each(self, body: bytes) -> tuple[pa.Table, list[Rejected]]:
        """The good events of a JSON array, in order, and the refused ones.

        Raises:
            ContractError: the body is no JSON array.
        """
        try:
            return self.decode(body), []
        except ContractError:
            return self._each(list(enumerate(self._split(body))))

    def decode_lines(self, body: bytes) -> pa.Table:
        """All events of JSON Lines, in order; blank lines are skipped.

        Raises:
            ContractError: a line is no JSON object, or is refused.
        """
        return self._decode_items([line for _, line in _lines(body)])

    def decode_lines_each(self, body: bytes) -> tuple[pa.Table, list[Rejected]]:
        """The good events of JSON Lines, in order, and the refused ones by line from 0."""
        try:
            return self.decode_lines(body), []
        except ContractError:
            return self._each(_lines(body))

    def decode_items_each(self, items: Sequence[Json]) -> tuple[pa.Table, list[Rejected]]:
        """The good ones of events that each came alone, in order, and the refused ones."""
        try:
            return self._decode_items(items), []
        except ContractError:
            return self._each(list(enumerate(items)))

    def _decode_items(self, items: Sequence[Json]) -> pa.Table:
        batches = []
        for start in range(0, len(items), _CHUNK_EVENTS):
            chunk = items[start : start + _CHUNK_EVENTS]
            batch = self._batch(b"[" + b",".join(chunk) + b"]", start)
            if batch.num_rows != len(chunk):
                raise ContractError(
                    f"{self.contract.name}, events {start} and up: an event is cut in two, "
                    "or two stand on one line",
                    hint="JSON Lines has one whole object on every line",
                )
            batches.append(batch)
        return self._table(batches)

    def _split(self, body: bytes) -> list[msgspec.Raw]:
        try:
            return self._raws.decode(body)
        except DECODE_ERRORS as error:
            raise ContractError(
                f"{self.contract.name}: the body is no JSON array of events: {error}",
                hint='send [{"event_id": ...}, ...]',
            ) from None

    def _batch(self, body: bytes, start: int = 0) -> pa.RecordBatch:
        """A JSON array as columns; `start` is the place of its first event in what was sent."""
        try:
            bad: Bad = {}
            batch = self._columns(self._many.decode(body), bad)
            if bad:
                raise ContractError(bad[min(bad)])
            return batch
        except (*DECODE_ERRORS, ContractError) as error:
            raise ContractError(
                f"{self.contract.name}: {explain(error, self.contract, start)}",
                hint=f"`playhead contracts {self.contract.name}` lists the fields",
            ) from None

    def _each(self, items: Sequence[tuple[int, Json]]) -> tuple[pa.Table, list[Rejected]]:
        batches: list[pa.RecordBatch] = []
        rejected: list[Rejected] = []
        for start in range(0, len(items), _CHUNK_EVENTS):
            chunk = items[start : start + _CHUNK_EVENTS]
            events, kept = [], []
            for index, raw in chunk:
                try:
                    events.append(self._one.decode(raw))
                    kept.append((index, raw))
                except DECODE_ERRORS as error:
                    rejected.append(Rejected(index, bytes(raw), explain(error, self.contract)))
            bad: Bad = {}
            batches.append(without_rows(self._columns(events, bad), bad))
            rejected += [Rejected(kept[r][0], bytes(kept[r][1]), bad[r]) for r in bad]
        return self._table(batches), sorted(rejected, key=lambda refused: refused.index)

    def _columns(self, events: list[Any], bad: Bad) -> pa.RecordBatch:
        rows = map(msgspec.structs.astuple, events)
        columns = list(zip(*rows, strict=True)) or [()] * len(self.contract.fields)
        pairs = zip(self._build, columns, strict=True)
        arrays = [build(column, bad) for build, column in pairs]
        return pa.RecordBatch.from_arrays(arrays, schema=self.contract.schema)

    def _table(self, batches: Sequence[pa.RecordBatch]) -> pa.Table:
        return pa.Table.from_batches(batches, schema=self.contract.schema)


def _lines(body: bytes) -> list[tuple[int, Json]]:
    """The lines that are not blank, each with its number from 0."""
    return [(i, line) for i, line in enumerate(body.split(b"\n")) if line.strip()]
