"""Running a measured part in a process of its own, and printing what came out."""

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured part.

    Attributes:
        part: what was measured.
        items: events or rows that it handled.
        seconds: wall time.
        peak_mb: highest resident memory of its process, in MiB; 0 where not measured alone.
        ratio: its speed over the baseline's (the first figure's) in the same run.
        note: what was checked.
    """

    part: str
    items: int
    seconds: float
    peak_mb: float = 0.0
    ratio: float | None = None
    note: str = ""
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        return self.items / self.seconds if self.seconds else 0.0


def alone(function: Callable[..., Figure], *arguments: Any) -> Figure:
    """Run `function` in a fresh process; its figure, with that process's peak memory."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        figure, peak_mb = pool.submit(_with_peak, function, *arguments).result()
    return Figure(**{**asdict(figure), "peak_mb": peak_mb})


def _with_peak(function: Callable[..., Figure], *arguments: Any) -> tuple[Figure, float]:
    figure = function(*arguments)
    return figure, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds of a call, and what it returned."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def run_quietly(command: Sequence[str]) -> None:
    """Run a command to its end as a user's shell would, its output thrown away.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    # Python may keep what it compiled: a user's second command does not compile again.
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, capture_output=True, env=kept)


def show(title: str, figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print figures to stdout, as a table or as JSON lines; ratios are to the first figure."""
    base = figures[0].seconds / max(figures[0].items, 1)
    rated = [
        Figure(**{**asdict(f), "ratio": round(base / (f.seconds / max(f.items, 1)), 3)})
        for f in figures
    ]
    if as_json:
        for figure in rated:
            print(
                json.dumps({"benchmark": title, **asdict(figure), "per_second": figure.per_second})
            )
        return
    table = Table(title=title)
    for column in ("part", "items", "seconds", "items/s", "x first", "peak MiB", "checked"):
        table.add_column(column, justify="left" if column in ("part", "checked") else "right")
    for f in rated:
        table.add_row(
            f.part,
            f"{f.items:,}",
            f"{f.seconds:.2f}",
            f"{f.per_second:,.0f}",
            f"{f.ratio:.2f}",
            f"{f.peak_mb:,.0f}" if f.peak_mb else "",
            f.note,
        )
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140).print(table)
