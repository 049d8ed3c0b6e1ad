"""Workspaces for tests of the layers: small views, events as short tuples, and what must hold."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from playhead.assemble import Workspace
from playhead.batch.clean import clean_topic
from playhead.batch.dimensions import replace_dimension
from playhead.contracts import DIMENSIONS, TOPICS
from playhead.errors import CoverageError
from playhead.lake import raw_table
from playhead.serving import Answer
from playhead.speed.layer import SpeedConfig, SpeedLayer
from playhead.views import View
from playhead.views.catalog import library

T0 = datetime(2025, 3, 31, 23, 40)
"""The tests' first event time: sessions and windows near it cross a day and a month."""

SQL = {
    "counts": """
        SELECT COUNT(*) AS events, COUNT(DISTINCT user_id) AS users,
            SUM(watch_duration_minutes) AS minutes
        FROM playback
    """,
    "windows": """
        SELECT TIME_BUCKET(INTERVAL '5 minutes', event_time) AS window_start, device_type,
            COUNT(*) AS events, CASE WHEN COUNT(*) >= 3 THEN 'HIGH' ELSE 'LOW' END AS alert_level
        FROM playback GROUP BY ALL
    """,
    "countries": """
        SELECT u.country, COUNT(*) AS events, COUNT(DISTINCT p.user_id) AS users,
            AVG(p.watch_duration_minutes) AS mean_minutes, MAX(u.monthly_spend) AS spend
        FROM playback AS p LEFT JOIN users AS u ON p.user_id = u.user_id GROUP BY ALL
    """,
    "sessions": """
        SELECT user_id, session_window(event_time, INTERVAL '30 minutes') AS sitting,
            COUNT(*) AS events, SUM(watch_duration_minutes) AS minutes
        FROM playback GROUP BY ALL
    """,
    "latest": """
        SELECT user_id, event_time, device_type FROM playback
        QUALIFY ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY event_time DESC) = 1
    """,
    "running": """
        WITH w AS (
            SELECT TIME_BUCKET(INTERVAL '5 minutes', event_time) AS window_start,
                COUNT(DISTINCT user_id) AS users
            FROM playback GROUP BY ALL
        )
        SELECT window_start, users, SUM(users) OVER (ORDER BY window_start) AS so_far FROM w
    """,
    "searches": """
        SELECT DATE_TRUNC('day', event_time) AS day, COUNT(*) AS searches,
            COUNT(*) FILTER (WHERE had_typo) AS typos
        FROM search GROUP BY ALL
    """,
}
LIBRARY = ("monthly_engagement", "content_performance")
DEVICES = ("Desktop", "Laptop", "Mobile")


@cache
def views(*names: str) -> dict[str, View]:
    """Some of the tests' own views and of the library; all of them without names."""
    chosen = names or (*SQL, *LIBRARY)
    return {n: View.parse(n, SQL[n]) if n in SQL else library()[n] for n in chosen}


class SmallWorkspace(Workspace):
    """A workspace that knows a few small views only, so that every step is quick."""

    names: tuple[str, ...] = ()

    @cached_property
    def views(self) -> dict[str, View]:  # type: ignore[override]
        return views(*self.names)


def workspace(path: Path, *names: str, **options: Any) -> SmallWorkspace:
    """A workspace with some of the views; made if it is not there."""
    opened = SmallWorkspace.create(path, **options)
    opened.names = names
    return opened


@dataclass(frozen=True)
class Watch:
    """A playback event, in as few words as possible; minutes count from `T0`."""

    number: int
    minute: float = 0
    user: int = 0
    movie: int = 0
    watched: Decimal | None = Decimal(10)

    @property
    def event_id(self) -> str:
        return f"e{self.number}"

    def row(self) -> dict[str, Any]:
        time = T0 + timedelta(minutes=self.minute)
        return {
            "event_id": self.event_id,
            "event_type": "watch",
            "event_time": time,
            "user_id": f"u{self.user}",
            "session_id": self.event_id,
            "device_type": DEVICES[self.user % len(DEVICES)],
            "movie_id": f"m{self.movie}",
            "watch_date": time.date(),
            "watch_duration_minutes": self.watched,
            "progress_percentage": Decimal(self.number % 100),
            "action": "stopped",
            "quality": "HD",
            "location_country": "USA",
            "is_download": False,
        }


def watches(count: int, *, start: int = 0, minute: float = 0, step: float = 1) -> list[Watch]:
    """So many events of seven users, one every `step` minutes."""
    return [Watch(start + i, minute + i * step, (start + i) % 7, i % 3) for i in range(count)]


def table(events: Iterable[Watch]) -> pa.Table:
    return pa.Table.from_pylist([event.row() for event in events], TOPICS["playback"].schema)


def send(opened: Workspace, events: Iterable[Watch]) -> None:
    """Append playback events to the event log."""
    opened.log.append("playback", table(events))


def searches(numbers: Iterable[int], *, minute: float = 0) -> pa.Table:
    """Search events."""
    rows = [
        {
            "event_id": f"s{number}",
            "event_type": "search",
            "event_time": T0 + timedelta(minutes=minute + number),
            "user_id": f"u{number % 7}",
            "device_type": "Mobile",
            "search_query": "something",
            "search_date": T0.date(),
            "results_returned": number % 3,
            "had_typo": number % 2 == 0,
            "used_filters": False,
            "location_country": "USA",
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(rows, TOPICS["search"].schema)


def ratings(pairs: Iterable[tuple[int, int, int]]) -> pa.Table:
    """Rating events of (user, movie, rating); one pair rates once."""
    rows = [
        {
            "event_id": f"r{user}-{movie}",
            "event_type": "rating",
            "event_time": T0,
            "user_id": f"u{user}",
            "device_type": "Mobile",
            "movie_id": f"m{movie}",
            "rating": rating,
            "review_date": T0.date(),
            "is_verified_watch": True,
            "sentiment": "positive",
        }
        for user, movie, rating in pairs
    ]
    return pa.Table.from_pylist(rows, TOPICS["rating"].schema)


def load(opened: Workspace, events: Iterable[Watch]) -> int:
    """Bring playback events into the lake as a file would, without the file; the load's number."""
    name = raw_table("playback", TOPICS["playback"].schema).name
    raw_table("playback", TOPICS["playback"].schema).create_in(opened.lake)
    number = int(opened.lake.properties(name).get("playhead.load", 0)) + 1
    with duckdb.connect() as connection:
        connection.register("loaded", table(events))
        opened.lake.append(
            name,
            connection,
            f"""
            SELECT *, -1 AS partition, row_number() OVER () AS "offset",
                TIMESTAMP '{opened.clock.now()}' AS ingest_time, {number} AS load_id FROM loaded
            """,
            properties={"playhead.load": str(number)},
        )
        clean_topic(opened.lake, connection, "playback")
    return number


def load_dimensions(opened: Workspace, *, users: int = 5, spend: int = 10) -> None:
    """Replace users (the first few of them, so that others are orphans) and movies."""
    people = [
        {"user_id": f"u{i}", "email": f"u{i}@x", "country": "USA" if i % 2 else "Canada",
         "subscription_plan": "Basic", "monthly_spend": Decimal(spend + i)}
        for i in range(users)
    ]  # fmt: skip
    titles = [
        {"movie_id": f"m{i}", "title": f"Title {i}", "genre_primary": f"Genre {i % 2}"}
        for i in range(3)
    ]
    with duckdb.connect() as connection:
        for name, rows in (("users", people), ("movies", titles)):
            optional = pa.schema([pa.field(f.name, f.type) for f in DIMENSIONS[name].schema])
            connection.register("given", pa.Table.from_pylist(rows, optional))
            replace_dimension(opened.lake, connection, name, DIMENSIONS[name].schema, "FROM given")


class Running:
    """A started speed layer with its own session, stepped by hand."""

    def __init__(self, opened: Workspace, **config: Any) -> None:
        self._connection = opened._connect()
        self.layer = SpeedLayer(
            opened.log,
            opened.state,
            opened.lake,
            opened.views,
            self._connection,
            opened.clock,
            judge=opened._judge,
            config=SpeedConfig(**config),
        )
        self.layer.start()

    def __enter__(self) -> SpeedLayer:
        return self.layer

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def catch_up(self) -> int:
        """Step until the event log is in state; how many events were read."""
        read = 0
        while events := self.layer.step().events:
            read += events
        return read


def ordered(answer: pa.Table) -> list[tuple[Any, ...]]:
    """The rows of an answer in an order of their own."""
    rows = [tuple(row.values()) for row in answer.to_pylist()]
    return sorted(rows, key=lambda row: json.dumps(row, default=str))


def assert_merged_is_full(opened: Workspace, names: Collection[str] = ()) -> None:
    """Every view's merged answer has the rows, digits and types of plain recomputation."""
    for name in names or opened.views:
        answer = opened.view(name)
        assert not any(part.mixed for part in answer.coverage), name
        assert_is_full(opened, answer)


def assert_is_full(opened: Workspace, answer: Answer) -> None:
    """A merged answer has the rows, digits and types of plain recomputation."""
    merged, full = answer.to_arrow(), opened.full(answer.view.name).to_arrow()
    assert merged.schema.equals(full.schema), answer.view.name
    assert ordered(merged) == ordered(full), answer.view.name


def waiting(opened: Workspace, name: str) -> str:
    """Why a view has no answer now."""
    try:
        opened.view(name)
    except CoverageError as error:
        return str(error)
    raise AssertionError(f"{name} has an answer")


def counted(opened: Workspace) -> int:
    """How many playback events the view `counts` counts."""
    (row,) = opened.view("counts").to_arrow().to_pylist()
    return int(row["events"])


def rows(opened: Workspace, sql: str) -> list[dict[str, Any]]:
    """The rows of a query."""
    found: list[dict[str, Any]] = opened.query(sql).to_arrow().to_pylist()
    return found


def distinct_ids(events: Iterable[Watch]) -> int:
    return len({event.event_id for event in events})


def write_files(folder: Path, files: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """JSON Lines files for `load`, one a table, by the names of the data set's files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        text = "".join(json.dumps(line, default=str) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def watch_line(number: int, *, user: int = 0) -> dict[str, Any]:
    """A line of watch_history."""
    return {
        "session_id": f"e{number}", "user_id": f"u{user}", "movie_id": "m0",
        "watch_date": T0.date(), "device_type": "Laptop",
        "watch_duration_minutes": "10.00", "progress_percentage": "50",
        "action": "stopped", "quality": "HD", "location_country": "USA", "is_download": False,
        "user_rating": None,
    }  # fmt: skip
