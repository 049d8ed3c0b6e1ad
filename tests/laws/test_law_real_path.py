"""Random views through the whole real path: files, event log, seals, batch runs and crashes.

The views are files of a workspace; each event comes once or several times, by a load or by the
event log; and a view's answer is what plain recomputation says, in the workspace and outside it.
"""

import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pytest
import sqlglot
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from law_events import plain, same_values
from law_grammar import BOOL, DATE, EXACT, TEXT, TIME, Grammar, RandomView
from sqlglot import exp

from layers import Running, write_files
from playhead.assemble import Workspace
from playhead.clock import ManualClock
from playhead.contracts import DIMENSIONS, TOPICS, event_time_of
from playhead.errors import CoverageError

REAL = {
    "friend_id": "location_country",
    "day": "watch_date",
    "minutes": "watch_duration_minutes",
    "score": "progress_percentage",
    "flag": "is_download",
}
"""What the grammar's columns are called in the topic `playback`."""
COLUMNS = {
    "user_id": TEXT, "friend_id": TEXT, "movie_id": TEXT, "action": TEXT, "event_time": TIME,
    "day": DATE, "minutes": EXACT, "score": EXACT, "flag": BOOL, "user_rating": EXACT,
    "device_type": TEXT,
}  # fmt: skip
VIEWS, EVENTS, USERS, MOVIES = 5, 120, 9, 5
NOW = datetime(2024, 2, 1)
TOPIC = TOPICS["playback"]
STEPS = ("send", "send", "load", "step", "step", "seal", "compact", "batch", "restart")


def real_view(r: random.Random) -> RandomView:
    """A view of the grammar in the words of the real topic and dimensions."""
    made = Grammar(r, COLUMNS).view()
    tree = sqlglot.parse_one(made.sql, dialect="duckdb")
    for column in tree.find_all(exp.Column):
        if column.name in REAL:
            column.set("this", exp.to_identifier(REAL[column.name]))
    # DuckDB's own AVG is no exact quotient: rounded, it may be a cent away.
    return RandomView(tree.sql(dialect="duckdb"), made.plain and "ROUND(AVG" not in made.sql)


def random_rows(r: random.Random, numbers: range) -> pa.Table:
    """Events of every kind that a file's row can say, many columns NULL now and then."""

    def maybe(value: Any) -> Any:
        return None if r.random() < 0.15 else value

    rows = [
        {
            "event_id": f"e{number}", "event_type": "watch", "event_time": NOW,
            "user_id": f"u{min(int(r.expovariate(0.7)), USERS - 1)}", "session_id": f"e{number}",
            "device_type": r.choice(["Desktop", "Laptop", "Mobile"]),
            "movie_id": f"m{r.randrange(MOVIES)}",
            "watch_date": datetime(2023, 12, 20).date() + timedelta(r.choice([0, 1, 1, 1, 2, 30])),
            "watch_duration_minutes": maybe(Decimal(r.randrange(0, 50000)) / 100),
            "progress_percentage": maybe(Decimal(r.randrange(0, 10000)) / 100),
            "action": r.choice(["started", "stopped", "paused", "completed"]), "quality": "HD",
            "location_country": maybe(f"u{r.randrange(USERS)}"),
            "is_download": maybe(r.random() < 0.5),
            "user_rating": maybe(r.randrange(1, 6)),
        }
        for number in numbers
    ]  # fmt: skip
    with duckdb.connect() as connection:
        connection.register("given", pa.Table.from_pylist(rows, TOPIC.schema))
        timed = f"SELECT * REPLACE ({event_time_of(TOPIC)} AS event_time) FROM given"
        return connection.execute(timed).to_arrow_table().cast(TOPIC.schema)


def dimensions(r: random.Random) -> dict[str, list[dict[str, Any]]]:
    """Users and movies as files' rows; some that events name are missing."""
    users = [
        {"user_id": f"u{i}", "email": f"u{i}@x", "age": r.choice([None, 20 + i]),
         "country": r.choice([None, "USA", "UK"]),
         "subscription_plan": r.choice([None, "Basic", "Premium"]),
         "monthly_spend": str(Decimal(r.randrange(3000)) / 100)}
        for i in range(USERS - 2)
    ]  # fmt: skip
    movies = [
        {"movie_id": f"m{i}", "title": f"T{i}", "genre_primary": r.choice([None, "Drama", "War"]),
         "duration_minutes": str(Decimal(10 * i))}
        for i in range(MOVIES - 1)
    ]  # fmt: skip
    return {"users": users, "movies": movies}


class Life:
    """A workspace with random views in its folder, to which random things happen."""

    def __init__(self, folder: Path, r: random.Random, views: dict[str, RandomView]) -> None:
        self._folder, self._r, self.views = folder, r, views
        self._clock = ManualClock(NOW)
        self._events = random_rows(r, range(EVENTS))
        cuts = sorted(r.randrange(EVENTS) for _ in range(7))
        self._waiting = list(pairwise([0, *cuts, EVENTS]))
        self._sent: list[int] = []
        self.history: list[str] = []
        Workspace.create(folder / "w", clock=self._clock).close()
        for name, view in views.items():
            (folder / "w" / "views" / f"{name}.sql").write_text(view.sql, encoding="utf-8")
        self._open()
        self._load("0", dimensions(r))

    def _open(self) -> None:
        self.workspace = Workspace(self._folder / "w", clock=self._clock)
        self._running = Running(self.workspace, max_events=25)

    def close(self) -> None:
        """As if the process had died: nothing is sealed or told to end."""
        self._running.__exit__()
        self.workspace.close()

    def do(self, step: str) -> None:
        """Do one step, at a moment of its own."""
        self.history.append(step)
        self._clock.advance(timedelta(seconds=1))
        match step:
            case "send":
                self.workspace.log.append("playback", self._next())
            case "load":
                rows = self._next().drop_columns(["event_id", "event_type", "event_time"])
                self._load(f"{len(self.history)}", {"watch_history": rows.to_pylist()})
            case "restart":
                self.close()
                self._open()
            case "batch":
                self.workspace.batch()
            case _:
                getattr(self._running.layer, step)()

    def _load(self, name: str, files: dict[str, list[dict[str, Any]]]) -> None:
        self.workspace.load(write_files(self._folder / f"files-{name}", files)).check()

    def _next(self) -> pa.Table:
        """New events, some twice, and repeats of what came before, in any order."""
        start, stop = self._waiting.pop() if self._waiting else (0, 0)
        new = list(range(start, stop))
        numbers = new + self._r.choices(new, k=len(new) // 5) if new else []
        numbers += self._r.choices(self._sent, k=self._r.randrange(6)) if self._sent else []
        self._sent += new
        self._r.shuffle(numbers)
        return self._events.take(pa.array(numbers, pa.int64()))

    def settle(self) -> None:
        """Send what is left, take everything in and recompute."""
        while self._waiting:
            self.do(self._r.choice(["send", "load"]))
        self._running.catch_up()
        self._running.layer.seal()
        self.workspace.batch()
        self._running.layer.refresh()

    def check(self, *, settled: bool = False) -> None:
        """Each answer equals recomputation; when all is settled, every view has one."""
        for name in self.views:
            try:
                answer = self.workspace.view(name)
            except CoverageError:
                assert not settled, self._told(name)
                continue
            if any(part.mixed for part in answer.coverage):
                continue
            merged, full = answer.to_arrow(), self.workspace.full(name).to_arrow()
            assert merged.schema == full.schema, self._told(name)
            assert _rows(merged) == _rows(full), self._told(name)

    def check_plain(self) -> None:
        """Every view whose text DuckDB itself answers: over what was sent, each event once."""
        events = self._events.take(pa.array(sorted(self._sent), pa.int64()))
        found = self.workspace.query("SELECT event_id FROM playback").to_arrow().column(0)
        assert sorted(found.to_pylist()) == sorted(events.column("event_id").to_pylist())
        tables = {
            name: self.workspace.query(f"SELECT * FROM {name}").to_arrow()
            for name in ("users", "movies")
        }
        for name, view in self.views.items():
            if view.plain:
                theirs = plain(view.sql, {"playback": events}, tables)
                ours = self.workspace.view(name).to_arrow()
                assert same_values(ours, theirs), self._told(name)

    def _told(self, name: str) -> str:
        return f"{self.views[name].sql}\nafter {', '.join(self.history)}"


def _rows(answer: pa.Table) -> list[str]:
    # repr tells -0.0 from 0.0, and takes NaN for itself.
    return sorted(map(repr, answer.to_pylist()))


@contextmanager
def life(seed: int) -> Iterator[Life]:
    """A life with random views, without the library's, which are much slower to recompute."""
    r = random.Random(seed)
    folder = Path(tempfile.mkdtemp())
    views = {f"law_{number}": real_view(r) for number in range(VIEWS)}
    try:
        with patch("playhead.views.catalog.library", dict):
            made = Life(folder, r, views)
            try:
                yield made
            finally:
                made.close()
    finally:
        shutil.rmtree(folder)


def live(seed: int) -> None:
    """A whole life, checked after some of its steps and at its end."""
    r = random.Random(seed + 1)
    with life(seed) as one:
        for _ in range(r.randrange(5, 12)):
            one.do(r.choice(STEPS))
            if r.random() < 0.3:
                one.check()
        one.settle()
        one.check(settled=True)
        one.check_plain()


@settings(
    max_examples=max(settings().max_examples // 8, 1), phases=(Phase.explicit, Phase.generate)
)
@given(st.integers(0, 2**32))
def test_random_views_through_files_log_seals_batch_runs_and_restarts(seed: int) -> None:
    live(seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 200, 20))
def test_many_more_random_views(start: int) -> None:
    for seed in range(start, start + 20):
        live(seed)


def test_the_real_names_are_columns_of_the_topic() -> None:
    assert {REAL.get(name, name) for name in COLUMNS} <= set(TOPIC.schema.names)
    assert set(DIMENSIONS) == {"users", "movies"}
