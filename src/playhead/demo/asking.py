"""Answers as everybody gets them: over HTTP, from the read API."""

from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

import msgspec
import pyarrow as pa

from playhead.errors import CoverageError, PlayheadError

__all__ = ["Api"]

_ARROW = "application/vnd.apache.arrow.stream"
_TIMEOUT_S = 660.0
_CONFLICT = 409


class Api:
    """Asks a read API over one connection.

    Args:
        url: such as "http://127.0.0.1:8601".
        key: with scope read; None where none is needed.
        rows: at most so many are asked for at once.
    """

    def __init__(self, url: str, key: str | None = None, *, rows: int = 1_000_000) -> None:
        where = urlsplit(url)
        self._url = url
        self._rows = rows
        self._headers = {"Accept": _ARROW}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._connection = HTTPConnection(
            where.hostname or "", where.port or 80, timeout=_TIMEOUT_S
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def view(self, name: str) -> pa.Table:
        """A view's merged answer: all rows, with the types that the view gives them.

        Raises:
            CoverageError: it has no exact answer now.
            PlayheadError: the API gives none.
        """
        pages = [self._page(name, 0)]
        while pages[-1][1]:
            pages.append(self._page(name, sum(page.num_rows for page, _ in pages)))
        return pa.concat_tables([page for page, _ in pages])

    def _page(self, name: str, offset: int) -> tuple[pa.Table, bool]:
        """Rows from a place on, and whether others follow."""
        path = f"/v1/views/{quote(name)}?limit={self._rows}&offset={offset}"
        try:
            self._connection.request("GET", path, headers=self._headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            told = str(error) or type(error).__name__
            raise PlayheadError(f"no answer from {self._url}{path}: {told}") from error
        if response.status != 200:
            raise _refused(f"{self._url}{path}", response.status, body)
        with pa.ipc.open_stream(body) as stream:
            return stream.read_all(), response.getheader("Playhead-Truncated") == "true"


def _refused(where: str, status: int, body: bytes) -> PlayheadError:
    try:
        problem = msgspec.json.decode(body, type=dict[str, object])
    except msgspec.DecodeError:
        problem = {}
    detail = str(problem.get("detail") or f"{where}: status {status}")
    hint = problem.get("hint")
    kind = CoverageError if status == _CONFLICT else PlayheadError
    return kind(detail, hint=str(hint) if hint else None)
