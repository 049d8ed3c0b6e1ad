"""The journal: changes of the speed layer's state in their order, as a table of the lake.

It begins with a base, a whole state file, so that any machine can make the state of the journal
alone. One commit of the table adds operations, and only where the last one is still the one that
the writer knows: of several speed layers one goes on.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from playhead.errors import StateError
from playhead.lake import Lake, Snapshot
from playhead.lake.snapshot import LakeFile
from playhead.lake.tables import TableSpec
from playhead.speed.blocks import decode
from playhead.speed.changes import Change, heard
from playhead.speed.records import Encoded, Part

TABLE = "speed.journal"
SEQ, BASE, BY = "playhead.journal.seq", "playhead.journal.base", "playhead.journal.by"
BASE_KIND = "base"

PIECE_BYTES = 16 << 20
"""Of a base in one row."""

_ANEW = (
    "The state here stays as it is. The next base that the speed layer writes takes the place of "
    "this row, at the latest after some two thousand micro-batches."
)
_READ_BYTES = 64 << 20
_ROWS = 256
_SCHEMA = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("piece", pa.int32(), nullable=False),
        pa.field("pieces", pa.int32(), nullable=False),
        pa.field("store", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("what", pa.string(), nullable=False),
        pa.field("body", pa.binary()),
        pa.field("crc32", pa.int64(), nullable=False),
    ]
)
_SPEC = TableSpec(TABLE, _SCHEMA)


@dataclass(frozen=True)
class Head:
    """Where the journal ends.

    Attributes:
        seq: the last operation; 0: there is none.
        base: the operation up to which the base holds all.
        by: who wrote last, as `author` has it.
    """

    seq: int = 0
    base: int = 0
    by: str = ""

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> Self:
        """What the table says of itself."""
        return cls(
            int(properties.get(SEQ, 0)), int(properties.get(BASE, 0)), properties.get(BY, "")
        )


@dataclass(frozen=True)
class Entry:
    """One operation, as a state file is to take it.

    Attributes:
        store, number: the file that made it, and that file's own count.
        change: None: it is a base.
        base: the file in which the base is; read before the next entry is asked for.
    """

    seq: int
    store: str
    number: int
    change: Change | None = None
    base: Path | None = None


@dataclass(frozen=True)
class Told:
    """One operation, as it is told.

    Attributes:
        number: the own count of the file that made it.
        what: its arguments as JSON text.
    """

    number: int
    kind: str
    what: str
    parts: tuple[Encoded, ...] = ()


class Journal:
    """The journal in a lake. For one thread at a time.

    Args:
        connection: a DuckDB session of its own.
        scratch: a folder of its own for bases on their way.
    """

    def __init__(self, lake: Lake, connection: duckdb.DuckDBPyConnection, scratch: Path) -> None:
        self._lake = lake
        self._connection = connection
        self._scratch = scratch
        self._is_there = False

    def head(self) -> Head:
        """Where the journal ends now: one look into the catalog.

        Raises:
            LakeError: the catalog is away.
        """
        if not self._is_there and not self._lake.exists(TABLE):
            return Head()
        self._is_there = True
        return Head.of(self._lake.properties(TABLE))

    def scratch(self, name: str) -> Path:
        """Where a base may be while it is on its way."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch / name

    # -- writing -------------------------------------------------------------------------

    def append(
        self, told: Sequence[Told], store: str, *, after: int, properties: Mapping[str, str]
    ) -> bool:
        """Add operations, all or none; False if the last one is not `after` any more.

        Args:
            store: who made them.
            properties: for people who look at the table.

        Raises:
            LakeError: the lake refused; whether anything was kept shows in `head`.
        """
        rows = [row for n, one in enumerate(told) for row in _rows(after + 1 + n, store, one)]
        seq = after + len(told)
        marks = {**properties, SEQ: str(seq), BY: author(store, told[-1].number)}
        with self._lake.draft(TABLE) as draft:
            batch = pa.RecordBatch.from_pylist(rows, schema=draft.schema)
            draft.add(self._connection, None, [[batch]])
            written = self._lake.publish(
                TABLE, draft, properties=marks, guard=lambda now: Head.of(now).seq == after
            )
        return not written.skipped

    def begin(self, base: Path, told: Told, store: str, *, after: Head, seq: int) -> bool:
        """Put a base in the place of all that there is; False if that does not end there any more.

        Args:
            base: a state file that nobody writes to.
            told: that it is one.
            after: where the journal ends.
            seq: the operation that the base is.
        """
        _SPEC.create_in(self._lake)
        marks = {SEQ: str(seq), BASE: str(seq), BY: author(store, told.number)}
        with self._lake.draft(TABLE) as draft:
            draft.add(self._connection, None, [self._pieces(base, told, store, seq, draft.schema)])
            written = self._lake.publish(
                TABLE,
                draft,
                partitions=None,
                properties=marks,
                guard=lambda now: Head.of(now) == after,
            )
        return not written.skipped

    def shorten(
        self, base: Path, told: Told, store: str, *, seq: int, turn: AbstractContextManager[object]
    ) -> bool:
        """Put a base in the place of the operations up to `seq`; False if there is a newer one.

        Args:
            base: a state file that nobody writes to, as it stood at `seq`.
            told: that it is one.
            turn: taken while the table is changed, but not while the base is written.
        """
        with self._lake.draft(TABLE) as draft:
            draft.add(self._connection, None, [self._pieces(base, told, store, seq, draft.schema)])
            with turn:
                written = self._lake.publish(
                    TABLE,
                    draft,
                    upto={"seq": seq},
                    properties={BASE: str(seq)},
                    guard=lambda now: Head.of(now).base < seq <= Head.of(now).seq,
                )
        return not written.skipped

    @staticmethod
    def _pieces(
        base: Path, told: Told, store: str, seq: int, schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        pieces = max(1, -(-base.stat().st_size // PIECE_BYTES))
        with base.open("rb") as file:
            for piece in range(pieces):
                body = file.read(PIECE_BYTES)
                row = _row(seq, store, told, piece, pieces, body=body, crc32=zlib.crc32(body))
                yield pa.RecordBatch.from_pylist([row], schema=schema)

    def forget(self, older_than: timedelta) -> None:
        """Let go of what the table was made of before, if nobody can be reading it any more."""
        self._lake.expire(TABLE, older_than=older_than)

    def sizes(self) -> tuple[int, int]:
        """Bytes of the base, and of the operations after it."""
        head, snapshot = self.head(), self._lake.snapshot(TABLE)
        later = sum(file.bytes for file in snapshot.beyond(seq=head.base).files)
        return sum(file.bytes for file in snapshot.files) - later, later

    # -- reading -------------------------------------------------------------------------

    def entries(self, after: int) -> Iterator[Entry]:
        """The operations after one, in their order; a base first, if there is one after it.

        Reads the files of the table that hold them, and keeps few rows in memory.

        Raises:
            StateError: a row is damaged, or rows are missing.
            LakeError: the lake is away, or a file is missing or damaged.
        """
        rows = self._read(self._lake.snapshot(TABLE).beyond(seq=after), after)
        for seq, pieces in groupby(rows, key=lambda row: int(row["seq"])):
            yield self._entry(seq, _whole(seq, pieces))

    def _read(self, snapshot: Snapshot, after: int) -> Iterator[dict[str, Any]]:
        files = sorted(snapshot.files, key=lambda file: (_seq(snapshot, file), file.path))
        for together in _up_to(files, _READ_BYTES):
            scan = replace(snapshot, files=tuple(together)).scan()
            asked = f"SELECT * FROM {scan} WHERE seq > {after} ORDER BY seq, piece"
            for batch in self._connection.execute(asked).to_arrow_reader(_ROWS):
                yield from batch.to_pylist()

    def _entry(self, seq: int, rows: Iterator[dict[str, Any]]) -> Entry:
        first = next(rows)
        store, number, kind = first["store"], first["number"], first["kind"]
        if kind == BASE_KIND:
            path = self.scratch("base-read.db")
            with path.open("wb") as file:
                file.writelines(row["body"] for row in chain([first], rows))
            return Entry(seq, store, number, base=path)
        parts = [_part(row) for row in rows]
        return Entry(seq, store, number, heard(kind, first["what"], parts, _place(seq, 0)))


def author(store: str, number: int) -> str:
    """Who has written last: the file, and which of its operations."""
    return f"{store} {number}"


def _rows(seq: int, store: str, told: Told) -> Iterator[dict[str, Any]]:
    """One operation as rows: itself, then its parts."""
    pieces = 1 + len(told.parts)
    yield _row(seq, store, told, 0, pieces, what=told.what, crc32=zlib.crc32(told.what.encode()))
    for piece, encoded in enumerate(told.parts, 1):
        part = encoded.part
        of = {"states": part.states, "kind": part.kind, "us": [part.first_us, part.last_us]}
        yield _row(
            seq,
            store,
            told,
            piece,
            pieces,
            what=json.dumps(of),
            body=encoded.body,
            crc32=encoded.crc32,
        )


def _row(seq: int, store: str, told: Told, piece: int, pieces: int, **more: Any) -> dict[str, Any]:
    row = {"seq": seq, "store": store, "number": told.number, "kind": told.kind}
    return {**row, "what": told.what, "piece": piece, "pieces": pieces, "body": None, **more}


def _whole(seq: int, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of one operation, if none is missing or damaged."""
    expected, pieces = 0, 1
    for row in rows:
        place, pieces = _place(seq, row["piece"]), row["pieces"]
        body = row["what"].encode() if row["body"] is None else row["body"]
        if row["piece"] != expected:
            raise StateError(f"{place} stands where row {expected} should", hint=_ANEW)
        if zlib.crc32(body) != row["crc32"]:
            raise StateError(f"{place} is damaged: its bytes fail their checksum", hint=_ANEW)
        expected += 1
        yield row
    if expected != pieces:
        raise StateError(f"{_place(seq, expected)} and what follows is missing", hint=_ANEW)


def _part(row: Mapping[str, Any]) -> Encoded:
    """A part with its rows, which are decoded: whoever keeps it knows that it can be read."""
    of, body, crc32 = json.loads(row["what"]), row["body"], row["crc32"]
    rows = decode(body, crc32, _place(row["seq"], row["piece"]))
    return Encoded(Part(tuple(of["states"]), rows, of["kind"], *of["us"]), body, crc32)


def _place(seq: int, piece: int) -> str:
    return f"{TABLE}: row {piece} of operation {seq}"


def _seq(snapshot: Snapshot, file: LakeFile) -> int:
    """The last operation of which a file holds rows."""
    return snapshot.most(file, "seq") or 0


def _up_to(files: Sequence[LakeFile], most_bytes: int) -> Iterator[list[LakeFile]]:
    """The files in turn, as many at once as have so many bytes."""
    together: list[LakeFile] = []
    for file in files:
        if together and sum(one.bytes for one in together) + file.bytes > most_bytes:
            yield together
            together = []
        together.append(file)
    if together:
        yield together
