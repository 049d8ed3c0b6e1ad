"""Distinct combinations of values, marked in a matrix where a GROUP BY would hash every row.

Most rows of most states are distinct combinations: of month and user, of genre and title. Where
each part of them has few values, a combination is a place in a matrix: a row for each group that
occurs, a column for each value of the largest part. To mark an event takes a few nanoseconds, a
tenth of what hashing its key takes, and what is marked comes out in order.

DuckDB turns values into codes, and so decides which are equal; 0 is NULL, which is a group, too.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

from playhead.batch.codes import Code, DimensionCodes, EventCodes
from playhead.views.leaf import BATCH_DAY, TAG, Part

if TYPE_CHECKING:
    import numpy.typing as npt

logger = logging.getLogger(__name__)

__all__ = ["Combinations", "mark"]

MAX_CELLS = 1 << 28
"""Cells, of one byte, of all matrices that are filled at once."""

MAX_GROUPS = 1 << 22
"""Groups that could be; four bytes are held for each, whether it occurs or not."""

OUTPUT_ROWS = 262_144

_BATCH_ROWS = 122_880


class Combinations:
    """The distinct combinations of a part's keys, in order of the first of them, the bucket.

    Args:
        codes: the codes of the part's keys, by state column; `column` names the largest one.
        max_cells: cells that the matrix may have.
    """

    def __init__(self, part: Part, codes: Mapping[str, Code], column: str, max_cells: int) -> None:
        self._part = part
        self._values = {name: code.values for name, code in codes.items()}
        self._column = codes[column]
        self._column_name = column
        self._width = len(codes[column].values)
        self._sizes = {name: len(x.values) for name, x in codes.items() if name != column}
        self._limit = max_cells // self._width
        self.where = f"CAST(coalesce({part.where or 'true'}, false) AS TINYINT)"
        self._steps = self._weighted(codes)
        self._groups = np.zeros(1, dtype=np.int64)
        # The row of each possible group, -1 before it occurs.
        self._row_of = np.full(math.prod(self._sizes.values()), -1, dtype=np.int32)
        self._seen = np.zeros((1, self._width), dtype=np.bool_)

    def _weighted(self, codes: Mapping[str, Code]) -> "dict[str, npt.NDArray[np.int32]]":
        """What each number of a row adds to that of its group; the first key counts most."""
        steps: dict[str, npt.NDArray[np.int32]] = {}
        weight = math.prod(self._sizes.values())
        for name, size in self._sizes.items():
            weight //= size
            step = codes[name].places * np.int32(weight)
            known = steps.get(codes[name].sql)
            steps[codes[name].sql] = step if known is None else known + step
        return steps

    @property
    def sql(self) -> set[str]:
        """The numbers of a row that `add` needs."""
        return {self.where, self._column.sql, *self._steps}

    @property
    def cells(self) -> int:
        """How many cells are held."""
        return self._seen.size

    def add(self, numbers: "Mapping[str, npt.NDArray[Any]]") -> bool:
        """Mark some rows, given the numbers of `sql`; False: out of room."""
        groups = sum(step[numbers[sql]] for sql, step in self._steps.items())
        kept = numbers[self.where]
        # Row 0 is for what is left out.
        rows = self._row_of[groups] * kept
        if rows.size and rows.min() < 0:
            if not self._open(np.unique(groups[rows < 0])):
                return False
            rows = self._row_of[groups] * kept
        columns = numbers[self._column.sql]
        if self._column.of is not None:
            columns = self._column.of[columns]
        self._seen.reshape(-1)[rows.astype(np.int64) * self._width + columns] = True
        return True

    def _open(self, groups: "npt.NDArray[np.int32]") -> bool:
        """Give new groups their rows."""
        known = len(self._groups)
        needed = known + len(groups)
        if needed > self._limit:
            return False
        self._row_of[groups] = np.arange(known, needed, dtype=np.int32)
        self._groups = np.concatenate([self._groups, groups])
        if needed > len(self._seen):
            larger = np.zeros((min(max(needed, 2 * known), self._limit), self._width), np.bool_)
            larger[:known] = self._seen[:known]
            self._seen = larger
        return True

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The combinations as rows of a state table: never two buckets in one batch.

        Args:
            schema: the table's; its columns that are no keys are NULL.
        """
        values = {name: held.cast(schema.field(name).type) for name, held in self._values.items()}
        order = np.argsort(self._groups[1:], kind="stable") + 1
        known, first = self._part.known, 0
        if known == self._column_name:
            first = 1
        elif known is not None:
            order = order[self._digit(known, order) > 0]
        buckets = self._digit(BATCH_DAY, order)
        rows: list[npt.NDArray[np.int64]] = []
        held = 0
        for place, row in enumerate(order):
            marked = np.flatnonzero(self._seen[row, first:]) + first
            rows.append(marked)
            held += len(marked)
            last = place + 1 == len(order) or buckets[place + 1] != buckets[place]
            if last or held >= OUTPUT_ROWS:
                yield self._batch(schema, values, order[place + 1 - len(rows) : place + 1], rows)
                rows, held = [], 0

    def _digit(self, name: str, rows: "npt.NDArray[np.int64]") -> "npt.NDArray[np.int64]":
        """The code of one key in some rows of the matrix."""
        names = list(self._sizes)
        below = math.prod(self._sizes[other] for other in names[names.index(name) + 1 :])
        digits: npt.NDArray[np.int64] = self._groups[rows] // below % self._sizes[name]
        return digits

    def _batch(
        self,
        schema: pa.Schema,
        values: Mapping[str, pa.Array],
        rows: "npt.NDArray[np.int64]",
        marked: "Sequence[npt.NDArray[np.int64]]",
    ) -> pa.RecordBatch:
        counts = [len(columns) for columns in marked]
        count = sum(counts)
        arrays = []
        for field in schema:
            if field.name == self._column_name:
                arrays.append(values[field.name].take(pa.array(np.concatenate(marked))))
            elif field.name in self._sizes:
                digits = np.repeat(self._digit(field.name, rows), counts)
                arrays.append(values[field.name].take(pa.array(digits)))
            elif field.name == TAG:
                arrays.append(pa.array(np.full(count, self._part.tag), field.type))
            else:
                arrays.append(pa.nulls(count, field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def mark(
    con: duckdb.DuckDBPyConnection,
    relation: str,
    parts: Sequence[Part],
    dimensions: DimensionCodes,
) -> list[Combinations | None]:
    """The combinations of some parts of states over one relation, read once for all of them.

    Args:
        relation: the name of a table of widened events, with the numbers of `dimensions`.
        parts: sets (`Part.is_set`), each with a bucket as its first key.

    Returns:
        one entry for each part; None where its values are too many, or too far apart.
    """
    codes = EventCodes(con, relation, dimensions)
    made: dict[int, Combinations] = {}
    try:
        found = codes.of({sql for part in parts for _, sql in part.keys})
        made = {i: one for i, part in enumerate(parts) if (one := _fitting(part, found))}
        if made:
            _fill(con, f"{relation}{codes.joins}", made)
    finally:
        codes.close()
    logger.debug("%s: %d of %d sets marked", relation, len(made), len(parts))
    return [made.get(i) for i in range(len(parts))]


def _fitting(part: Part, found: Mapping[str, Code]) -> Combinations | None:
    codes = {name: found[sql] for name, sql in part.keys if sql in found}
    if len(codes) < max(2, len(part.keys)):
        return None
    column = max((name for name in codes if name != BATCH_DAY), key=lambda n: len(codes[n].values))
    groups = math.prod(len(code.values) for name, code in codes.items() if name != column)
    if groups > MAX_GROUPS or len(codes[column].values) > MAX_CELLS:
        return None
    return Combinations(part, codes, column, MAX_CELLS)


def _fill(con: duckdb.DuckDBPyConnection, source: str, made: dict[int, Combinations]) -> None:
    """Mark all rows of the source; whoever finds no room is left out of `made`."""
    needed = sorted(set().union(*(one.sql for one in made.values())))
    items = ", ".join(f"{sql} AS c{i}" for i, sql in enumerate(needed))
    query = f"SELECT {items} FROM {source}"
    with closing(con.execute(query).to_arrow_reader(_BATCH_ROWS)) as reader:
        for batch in reader:
            arrays = (column.to_numpy() for column in batch.columns)
            numbers = dict(zip(needed, arrays, strict=True))
            for i, one in list(made.items()):
                fits = one.add(numbers)
                if not fits or sum(other.cells for other in made.values()) > MAX_CELLS:
                    del made[i]
