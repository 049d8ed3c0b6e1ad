"""The batch layer on a Spark cluster: the digits of the embedded one, by any mix of the two."""

import time
from collections.abc import Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake_homes import SharedHome
from layers import (
    Running,
    SmallWorkspace,
    Watch,
    assert_merged_is_full,
    load,
    load_dimensions,
    ordered,
    searches,
    send,
    watches,
    workspace,
)
from playhead.batch.journal import batch_runs
from playhead.batch.recompute import state_table
from playhead.cluster import SparkCluster, jars
from playhead.cluster.postgres import Postgres
from playhead.cluster.store import ObjectStore
from playhead.errors import CoverageError
from spark_driver import Driver

pytest.importorskip("pyspark", reason="missing: pyspark")
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

DAY = 24 * 60
VIEWS = ("counts", "countries", "sessions", "latest", "searches", "content_performance")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    jars("spark")
    folder = tmp_path_factory.mktemp("cluster")
    with SparkCluster(folder, workers=2, cores=1, memory_mb=1024) as started:
        yield started


@pytest.fixture
def driver(cluster: SparkCluster) -> Iterator[Driver]:
    with Driver(**on_spark(cluster.master)) as started:
        yield started


def on_spark(master: str) -> dict[str, str]:
    return {
        "PLAYHEAD_BATCH_ENGINE": "spark",
        "PLAYHEAD_SPARK_MASTER": master,
        "PLAYHEAD_SPARK_MEMORY": "1GB",
        "PLAYHEAD_SPARK_OPTIONS_FILE": "spark.conf",
    }


class Place:
    """A workspace with a shared lake of its own.

    Args:
        engines: which engine runs which run, in turns.
    """

    def __init__(
        self, folder: Path, home: SharedHome, driver: Driver | None, engines: tuple[str, ...]
    ) -> None:
        lake = home.shared
        settings = {
            "warehouse": lake.warehouse,
            "catalog": lake.catalog,
            "endpoint": lake.endpoint,
        }
        lines = "".join(f'{key} = "{value}"\n' for key, value in settings.items())
        folder.mkdir()
        (folder / "playhead.toml").write_text(f"[lake]\n{lines}")
        self.home, self._driver, self._engines, self._runs = home, driver, engines, 0
        self.opened: SmallWorkspace = workspace(folder, *VIEWS)

    def batch(self, *names: str, full: bool = False) -> dict[str, Any]:
        engine = self._engines[self._runs % len(self._engines)]
        self._runs += 1
        self.opened.names = names or VIEWS
        self.opened.__dict__.pop("views", None)
        if engine == "spark" and self._driver is not None:
            return self._driver.batch(self.opened.path, *self.opened.names, full=full)
        return {r.view: [r.status, r.reason] for r in self.opened.batch(full=full).views}


def place(
    folder: Path,
    database: Postgres,
    store: ObjectStore,
    driver: Driver | None,
    name: str,
    *engines: str,
) -> Place:
    home = SharedHome(folder / f"{name}-copies", database, store)
    return Place(folder / name, home, driver, engines)


def merged(opened: SmallWorkspace) -> dict[str, list[tuple[Any, ...]]]:
    """All states, merged within their buckets, by table."""
    found = {}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for view in opened.views.values():
            for leaf in view.leaves:
                name = state_table(view, leaf)
                connection.execute(
                    f"CREATE OR REPLACE VIEW states AS FROM {opened.lake.scan(name)}"
                )
                state = connection.execute(leaf.merge(extra=True)).to_arrow_table()
                found[name] = ordered(state)
    return found


def cleaned(opened: SmallWorkspace) -> list[tuple[Any, ...]]:
    """What stays of the events: whatever was the same wherever they came in."""
    columns = ["event_id", "event_time", "user_id", "load_id", "epoch"]
    found = []
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name in ("clean.playback", "clean.search"):
            scan = opened.lake.snapshot(name).scan(columns=columns)
            found += connection.execute(f"SELECT '{name}', * FROM {scan} ORDER BY ALL").fetchall()
    return found


def answers(opened: SmallWorkspace) -> dict[str, Any]:
    """Every view's answer, or why it has none."""
    found: dict[str, Any] = {}
    for name in opened.views:
        try:
            found[name] = ordered(opened.view(name).to_arrow())
        except CoverageError as error:
            found[name] = error.message
    return found


def take_in(opened: SmallWorkspace, events: list[Watch], searched: range) -> None:
    """Send, take in and seal."""
    running = Running(opened)
    with running as layer:
        send(opened, events)
        opened.log.append("search", searches(searched))
        running.catch_up()
        layer.seal()


def agree(places: list[Place], *names: str, full: bool = False) -> dict[str, Any]:
    """Run all of them: what was done, states and answers are the same."""
    embedded, *others = places
    done = embedded.batch(*names, full=full)
    states, wanted = merged(embedded.opened), answers(embedded.opened)
    kept = cleaned(embedded.opened)
    for place in others:
        assert place.batch(*names, full=full) == done
        assert cleaned(place.opened) == kept
        assert merged(place.opened) == states
        assert answers(place.opened) == wanted
    return done


FIRST = watches(60, minute=-30_000, step=997)
LATE = [Watch(100 + i, minute=-29_000 + i * 5 * DAY, user=i) for i in range(9)]


def test_runs_of_both_engines_by_turns_give_the_same_digits(
    tmp_path: Path, database: Postgres, store: ObjectStore, driver: Driver
) -> None:
    some = ("countries", "sessions")
    places = [
        place(tmp_path, database, store, driver, "embedded", "duckdb"),
        place(tmp_path, database, store, driver, "mixed", "spark", "spark", "duckdb"),
    ]
    for each in places:
        load_dimensions(each.opened)
        load(each.opened, FIRST)
    assert agree(places, *some)["countries"] == ["recomputed", "new or changed view"]
    for each in places:
        take_in(each.opened, [*watches(20, start=200), *LATE, *FIRST[:3]], range(0))
    assert agree(places, *some)["sessions"] == ["recomputed", ""]
    for each in places:
        load(each.opened, [Watch(205, minute=-40_000), Watch(300, minute=3)])
    agree(places, *some)
    for each in places:
        load_dimensions(each.opened, users=6, spend=33)
        load(each.opened, [Watch(400, minute=7)])
    assert agree(places, *some)["countries"] == ["recomputed", "users changed"]
    for each in places:
        assert_merged_is_full(each.opened)
        each.opened.close()
    engines = [run.engine for run in batch_runs(places[1].opened.path)]
    assert engines == ["spark", "duckdb", "spark", "spark"]
    files = [path for path in places[1].home.data_files() if "/state/" in path]
    assert files
    assert all("-crc" in path for path in files)


@pytest.mark.slow
def test_a_long_life_gives_the_same_digits_on_either_engine(
    tmp_path: Path, database: Postgres, store: ObjectStore, driver: Driver
) -> None:
    places = [
        place(tmp_path, database, store, driver, "embedded", "duckdb"),
        place(tmp_path, database, store, driver, "spark", "spark"),
        place(tmp_path, database, store, driver, "mixed", "spark", "duckdb"),
    ]
    for each in places:
        load_dimensions(each.opened)
    assert agree(places)["counts"] == ["recomputed", "new or changed view"]  # topics are empty
    for each in places:
        load(each.opened, FIRST)
    assert agree(places)["counts"] == ["recomputed", ""]
    for each in places:
        take_in(each.opened, [*watches(20, start=200), *LATE, *FIRST[:3]], range(12))
    agree(places)
    assert agree(places)["counts"] == ["up to date", ""]
    for each in places:
        load_dimensions(each.opened, users=6, spend=33)
    assert agree(places)["countries"] == ["recomputed", "users changed"]
    # Repeats that come with an earlier ingest time take the place of rows of other days.
    for each in places:
        load(each.opened, [Watch(205, minute=-40_000), Watch(300, minute=3)])
        take_in(each.opened, [Watch(301, minute=4)], range(12, 14))
    agree(places)
    # The views' texts are others now: two go, one comes.
    assert agree(places, "counts", "running", "sessions")["running"][1] == "new or changed view"
    agree(places, "counts", "running", "sessions", full=True)
    for each in places:
        assert_merged_is_full(each.opened)
        each.opened.close()


@pytest.mark.slow
def test_killed_drivers_and_workers_leave_what_the_next_run_finishes(
    tmp_path: Path, database: Postgres, store: ObjectStore, cluster: SparkCluster
) -> None:
    made = place(tmp_path, database, store, None, "killed", "spark")
    load_dimensions(made.opened)
    made.opened.names = some = ("countries", "sessions")
    load(made.opened, FIRST)
    take_in(made.opened, [*watches(20, start=200), *FIRST[:3]], range(0))
    path, tables = made.opened.path, [f"/{name}_" for name in some]
    before = set(made.home.data_files())
    with Driver(**on_spark(cluster.master)) as cleaner:
        cleaner.ask(path, *some)
        # New rows of the clean table are in files that no snapshot has.
        await_file(made.home, ["/clean/playback"], before)
        cleaner.process.kill()
    with Driver(**on_spark(cluster.master)) as first:
        first.ask(path, *some)
        # Its first table has files, and the second one has none: it is at work between them.
        await_file(made.home, tables)
        first.process.kill()
    assert batch_runs(path)[0].status == "abandoned"
    with Driver(**on_spark(cluster.master)) as second:
        second.ask(path, *some)
        await_run(path, "views")
        cluster.kill_worker(0)
        try:
            assert second.told()["countries"][0] == "recomputed"
        finally:
            cluster.start_worker(0)
    assert batch_runs(path)[0].status == "done"
    assert_merged_is_full(made.opened)
    made.opened.lake.sweep(older_than=timedelta(seconds=-60))
    kept = {f.path for n in made.opened.lake.tables() for f in made.opened.lake.snapshot(n).files}
    assert {f for f in made.home.data_files() if "/state/" in f or "/clean/" in f} <= kept
    assert_merged_is_full(made.opened)
    made.opened.close()


def await_file(home: SharedHome, tables: list[str], before: Collection[str] = ()) -> None:
    """Wait until some task has written a file of one of the tables that was not there before."""
    until = time.monotonic() + 240
    while not any(t in path for path in {*home.data_files()}.difference(before) for t in tables):
        assert time.monotonic() < until, "no task has written anything"
        time.sleep(0.05)


def await_run(path: Path, stage: str) -> None:
    """Wait until the newest run is in a stage."""
    until = time.monotonic() + 240
    while (run := batch_runs(path)[0]).status != "running" or run.stage != stage:
        assert time.monotonic() < until, "no run has come so far"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_lake_in_a_folder_is_read_and_written_by_a_driver_of_this_machine(tmp_path: Path) -> None:
    some = ("countries", "latest")
    with (
        workspace(tmp_path / "w", *some) as opened,
        Driver(**on_spark("local[1]")) as driver,
    ):
        load_dimensions(opened)
        load(opened, FIRST)
        assert driver.batch(opened.path, *some)["latest"] == ["recomputed", "new or changed view"]
        load(opened, LATE)
        assert driver.batch(opened.path, *some)["latest"] == ["recomputed", ""]
        assert_merged_is_full(opened)
