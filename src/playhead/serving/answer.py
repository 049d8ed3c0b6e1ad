"""A view's answer as Python sees it: the table, and how final each part of it is."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from playhead.errors import PlayheadError, QueryError
from playhead.serving.coverage import Coverage
from playhead.speed.windows import end_of
from playhead.views import View
from playhead.views.leaf import Window

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Result:
    """A table that was asked for."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def to_arrow(self) -> pa.Table:
        """The answer as an Arrow table."""
        return self._table

    def to_pandas(self) -> "pd.DataFrame":
        """The answer as a pandas data frame; needs `playhead[pandas]`. DECIMALs stay exact."""
        _need("pandas")
        frame: pd.DataFrame = self._table.to_pandas()
        return frame

    def to_polars(self) -> "pl.DataFrame":
        """The answer as a Polars data frame; needs `playhead[polars]`."""
        frame: pl.DataFrame = _need("polars").from_arrow(self._table)
        return frame

    def __len__(self) -> int:
        return int(self._table.num_rows)


class Answer(Result):
    """A view's merged answer as of one moment.

    Attributes:
        view: the view.
        coverage: for each of its states, what came from batch and what from speed.
        watermark: event time up to which windows are final; None if no event was seen.
    """

    def __init__(
        self,
        view: View,
        table: pa.Table,
        coverage: tuple[Coverage, ...],
        watermark: datetime | None,
        revised: dict[datetime, tuple[int, int]],
    ) -> None:
        super().__init__(table)
        self.view = view
        self.coverage = coverage
        self.watermark = watermark
        self.revisions = revised

    def is_final(self, window: datetime) -> bool:
        """Whether the window that starts at `window` has ended by the watermark.

        A late event may still revise a final window: see `windows`.

        Raises:
            QueryError: the view has no window of event time.
        """
        return self.watermark is not None and end_of(window, self._window) <= self.watermark

    def windows(self) -> pa.Table:
        """One row a window of the answer: its bounds, is_final, revision, late_events.

        Raises:
            QueryError: the view has no window of event time.
        """
        window = self._window
        column = self.to_arrow().column(window.key).cast(pa.timestamp("us"))
        starts = sorted(s for s in column.unique().to_pylist() if s is not None)
        revisions = [self.revisions.get(start, (0, 0)) for start in starts]
        return pa.table(
            {
                "window_start": pa.array(starts, pa.timestamp("us")),
                "window_end": pa.array([end_of(s, window) for s in starts], pa.timestamp("us")),
                "is_final": pa.array([self.is_final(s) for s in starts], pa.bool_()),
                "revision": pa.array([r for r, _ in revisions], pa.int64()),
                "late_events": pa.array([late for _, late in revisions], pa.int64()),
            }
        )

    @property
    def _window(self) -> Window:
        if self.view.window is None:
            raise QueryError(f"view {self.view.name} has no window of event time")
        return self.view.window


def _need(package: str) -> Any:
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError as error:
        raise PlayheadError(
            f"{package} is not installed", hint=f"pip install 'playhead[{package}]'"
        ) from error
