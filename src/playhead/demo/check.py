"""The check: every view's merged answer against its recomputation from all events."""

from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from playhead.assemble import Workspace
from playhead.clock import Clock
from playhead.engines import connect
from playhead.errors import CoverageError

__all__ = ["Verdict", "check_view", "compare"]


@dataclass(frozen=True)
class Verdict:
    """How one view's two answers compare.

    Attributes:
        answer: what the layers say together.
        rows: of the recomputation.
        differing: rows that only one of the two has, both sides counted.
        example: the first such row, and which side has it; empty if there is none.
        merged_s, full_s: seconds that each took.
        waits: why the view has no answer; then nothing was compared.
    """

    view: str
    answer: pa.Table
    rows: int = 0
    differing: int = 0
    example: str = ""
    merged_s: float = 0.0
    full_s: float = 0.0
    waits: str = ""

    @property
    def values(self) -> int:
        """Values that were compared."""
        return self.rows * int(self.answer.num_columns)

    @property
    def equal(self) -> bool:
        return not self.differing and not self.waits


def check_view(
    workspace: Workspace, name: str, clock: Clock, ask: Callable[[str], pa.Table] | None = None
) -> Verdict:
    """Ask for a view's two answers, and compare them.

    Args:
        ask: who gives the merged answer; None: the workspace itself.
    """
    ask = ask or (lambda view: workspace.view(view).to_arrow())
    started = clock.monotonic()
    try:
        answer = ask(name)
    except CoverageError as error:
        return Verdict(name, pa.table({}), waits=error.message)
    merged = clock.monotonic()
    full = workspace.full(name).to_arrow()
    done = clock.monotonic()
    differing, example = compare(answer, full)
    return Verdict(
        name,
        answer,
        full.num_rows,
        differing,
        example,
        merged_s=merged - started,
        full_s=done - merged,
    )


def compare(merged: pa.Table, full: pa.Table) -> tuple[int, str]:
    """Rows that only one of two tables has, as multisets, and an example.

    Equal means: the same columns of the same types, and every value to its last digit.
    """
    if merged.schema.equals(full.schema):
        if _sorted(merged).equals(_sorted(full)):
            return 0, ""
        with connect() as connection:
            return _differences(connection, merged, full)
    columns = f"columns differ: {merged.schema.to_string()} merged, {full.schema.to_string()} full"
    return max(merged.num_rows + full.num_rows, 1), " ".join(columns.split())


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in table.column_names]).combine_chunks()


def _differences(
    connection: duckdb.DuckDBPyConnection, merged: pa.Table, full: pa.Table
) -> tuple[int, str]:
    connection.register("merged", merged)
    connection.register("full_answer", full)
    sides = {
        "merged": "FROM merged EXCEPT ALL FROM full_answer",
        "recomputed": "FROM full_answer EXCEPT ALL FROM merged",
    }
    found = {side: connection.execute(sql).to_arrow_table() for side, sql in sides.items()}
    rows = [(side, row) for side, table in found.items() for row in table.slice(0, 1).to_pylist()]
    # Rows that sort apart but are the same to SQL, such as 0.0 and -0.0, still differ in digits.
    count = max(sum(table.num_rows for table in found.values()), 1)
    return count, "; ".join(f"only {side}: {row}" for side, row in rows)
