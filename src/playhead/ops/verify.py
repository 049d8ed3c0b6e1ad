"""Walks a workspace and says what is wrong with it; changes nothing."""

import logging
from collections.abc import Callable, Iterator

import duckdb

from playhead.assemble import Workspace
from playhead.errors import PlayheadError
from playhead.ops.findings import Finding, Scope, Told, VerifyReport, from_error, session
from playhead.ops.offsets import check_clean, check_offsets
from playhead.ops.states import check_coverage, check_states
from playhead.ops.stores import check_lake, check_log, check_state

logger = logging.getLogger(__name__)

Check = Callable[[Scope], Iterator[Finding]]

_ALWAYS: tuple[tuple[str, Check], ...] = (
    ("event log", check_log),
    ("lake", check_lake),
    ("speed state", check_state),
    ("log against lake", check_offsets),
    ("coverage", check_coverage),
)
_THOROUGH: tuple[tuple[str, Check], ...] = (
    ("clean against raw", check_clean),
    ("states", check_states),
)


def verify(workspace: Workspace, *, quick: bool = False, told: Told | None = None) -> VerifyReport:
    """Check everything that lasts: files, offsets, and states against recomputation.

    May run beside every other process. Memory is bounded: files are read in pieces, events by
    the month or by what the speed layer holds, and DuckDB spills.

    Args:
        quick: leave out what reads all bytes or recomputes: sizes, offsets and tables only.
        told: told how far it is.
    """
    findings: list[Finding] = []
    with session(workspace) as connection:
        scope = Scope(workspace, connection, told or _silent, quick, set(), {})
        for place, check in (*_ALWAYS, *(() if quick else _THOROUGH)):
            scope.told(place, 0, None, "")
            findings += _run(scope, place, check)
    return VerifyReport(tuple(dict.fromkeys(findings)), scope.checked)


def _run(scope: Scope, place: str, check: Check) -> Iterator[Finding]:
    """A check's findings; a store that cannot be opened at all is one, too."""
    try:
        yield from check(scope)
    except PlayheadError as error:
        yield from_error(place, error)
    except duckdb.Error as error:
        logger.debug("%s", place, exc_info=True)
        yield Finding.error(place, f"cannot be read: {str(error).splitlines()[0]}")


def _silent(_part: str, _done: float, _total: float | None, _words: str) -> None:
    """Nobody wants to be told."""
