"""What every reader gives: rows of text that know their file and line, and checked columns."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import duckdb

from playhead.batch.sources import Source
from playhead.batch.values import date_field
from playhead.contracts import Contract
from playhead.errors import LoadError

__all__ = ["Progress", "Reader", "Rows", "check_columns", "damaged", "source_columns"]


@dataclass(frozen=True)
class Progress:
    """How far the reading of one table is: rows, and bytes on disk of the total."""

    table: str
    rows: int
    bytes_read: int
    bytes_total: int


@dataclass
class Rows:
    """The rows of one table's files.

    `sql` stands in a FROM clause and can be read once; `unknown` are columns of the files that the
    contract does not have; `read` counts the records read so far, rejected ones included. The
    columns `typed` have the contract's own types in the files: their values stand in `sql` as they
    are, too, under `typed_name`.
    """

    sql: str = ""
    unknown: tuple[str, ...] = ()
    typed: frozenset[str] = frozenset()
    read: int = 0
    failure: LoadError | None = field(default=None, repr=False)


class Reader(ABC):
    """Reads the files of one table, once.

    Args:
        report: told the number of records and the bytes on disk that were read so far.
    """

    def __init__(
        self,
        source: Source,
        contract: Contract,
        *,
        ignore_unknown: bool,
        report: Callable[[int, int], None],
    ) -> None:
        self._source = source
        self._contract = contract
        self._ignore_unknown = ignore_unknown
        self._report = report
        self._columns = source_columns(contract)

    @abstractmethod
    def open(self, con: duckdb.DuckDBPyConnection, rows: Rows) -> None:
        """Check the columns, and make `rows.sql` readable in the session `con`.

        Raises:
            LoadError: see `check_columns`; or the files cannot be read.
        """

    @abstractmethod
    def close(self, con: duckdb.DuckDBPyConnection) -> None:
        """Take back what `open` put into the session; may be called twice."""

    def _check(self, label: str, found: Sequence[str]) -> tuple[str, ...]:
        return check_columns(label, found, self._contract, ignore_unknown=self._ignore_unknown)


def source_columns(contract: Contract) -> tuple[str, ...]:
    """The columns that a file of this contract may have, in the contract's order."""
    return tuple(dict.fromkeys(f.source for f in contract.fields if f.source is not None))


def damaged(label: str, error: Exception) -> LoadError:
    """The error for a file that cannot be read to its end."""
    return LoadError(
        f"{label}: cannot be read: {error}",
        hint="The file is damaged or was cut short; nothing of it was loaded.",
    )


def check_columns(
    label: str, found: Sequence[str], contract: Contract, *, ignore_unknown: bool
) -> tuple[str, ...]:
    """The columns of a file that the contract does not have.

    Raises:
        LoadError: a required column is missing, one is there twice, or one is unknown and
            `ignore_unknown` is not set; the hint names the likely slip.
    """
    known = source_columns(contract)
    dated = date_field(contract)
    needed = [
        f.source
        for f in contract.fields
        if f.source and (f.required or f == dated or f.name in {*contract.not_null, *contract.key})
    ]
    missing = [name for name in dict.fromkeys(needed) if name not in found]
    unknown = tuple(name for name in found if name not in known)
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise LoadError(f"{label}: column {twice[0]!r} is there twice", hint="Rename one of them.")
    if len(found) == 1 and len(found[0].split(";")) + len(found[0].split("\t")) > 2:
        raise LoadError(
            f"{label}: the header is one single column {found[0][:60]!r}",
            hint="Columns are separated by commas; this looks like semicolons or tabs.",
        )
    if missing:
        raise LoadError(
            f"{label}: column {missing[0]!r} is missing", hint=_slip(missing[0], unknown, known)
        )
    if unknown and not ignore_unknown:
        absent = [name for name in known if name not in found]
        raise LoadError(
            f"{label}: unknown column {unknown[0]!r}",
            hint=_slip(unknown[0], absent, known) + " Unknown columns can also be ignored.",
        )
    return unknown


def _slip(name: str, candidates: Sequence[str], known: Sequence[str]) -> str:
    folded = {candidate.casefold().strip(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.casefold().strip(), folded, n=1)
    if close:
        return f"Is {folded[close[0]]!r} the same column by another name?"
    return f"The columns are {', '.join(known)}."
