"""The events of a life: each number is one event, the same by whichever way it comes."""

import random
from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from layers import DEVICES, T0, Watch, load_dimensions, write_files
from playhead.assemble import Workspace
from playhead.contracts import TOPICS, event_time_of
from torture.plan import Job, Plan

USERS, ORPHANS = 9, 3
_FILE = "events.arrow"
_DAYS = (-40, -2, -1, -1, 0, 0, 0, 0, 1, 25)


def write_world(folder: Path, plan: Plan) -> None:
    """Make every event of the plan, once, into a file that all processes read."""
    r = random.Random(plan.seed)
    rows = [_event(r, number) for number in range(plan.events)]
    events = pa.Table.from_pylist(rows, TOPICS["playback"].schema)
    derived = event_time_of(TOPICS["playback"])
    with duckdb.connect() as connection:
        connection.register("events", events)
        timed = connection.execute(
            f"SELECT * REPLACE (CAST({derived} AS TIMESTAMP) AS event_time) FROM events"
        ).to_arrow_table()
    timed = timed.cast(TOPICS["playback"].schema)
    with pa.OSFile(str(folder / _FILE), "wb") as file, pa.ipc.new_file(file, timed.schema) as out:
        out.write_table(timed)


def read_world(folder: Path) -> pa.Table:
    """Every event of the life; row n is event n."""
    with pa.memory_map(str(folder / _FILE)) as file:
        return pa.ipc.open_file(file).read_all()


def pick(world: pa.Table, numbers: Sequence[int]) -> pa.Table:
    """Some events, in this order, repeats included."""
    return world.take(pa.array(numbers, pa.int64()))


def event_id(number: int) -> str:
    return Watch(number).event_id


def _event(r: random.Random, number: int) -> dict[str, Any]:
    """A file's row can say all of it: only its time is made from its id and date."""
    user = r.randrange(USERS + ORPHANS)
    watched = None if r.random() < 0.1 else Decimal(r.randrange(30000)) / 100
    row = Watch(number, 0, user, r.randrange(5), watched).row()
    date = T0.date() + timedelta(r.choice(_DAYS))
    return row | {"watch_date": date, "device_type": r.choice(DEVICES), "user_rating": None}


def write_folder(folder: Path, world: pa.Table, job: Job) -> Path:
    """The files that a load or a replay reads."""
    left_out = ("event_id", "event_type", "event_time")
    lines = [
        {name: value for name, value in row.items() if name not in left_out}
        for row in pick(world, job.numbers).to_pylist()
    ]
    files: dict[str, list[dict[str, Any]]] = {"watch_history": lines}
    if job.spend is not None:
        files["users"] = user_rows(job.spend)
    return write_files(folder / "files" / job.name, files)


def user_rows(spend: int) -> list[dict[str, Any]]:
    return [
        {"user_id": f"u{i}", "email": f"u{i}@x", "country": "USA" if i % 2 else "Canada",
         "subscription_plan": "Basic", "monthly_spend": str(Decimal(spend + i))}
        for i in range(USERS)
    ]  # fmt: skip


def first_dimensions(opened: Workspace) -> None:
    """Users and movies as a life begins with them: of users, those that `user_rows(10)` names."""
    load_dimensions(opened, users=USERS, spend=10)


def of_topic(numbers: Iterable[int]) -> set[str]:
    """The ids of these events."""
    return {event_id(number) for number in numbers}
