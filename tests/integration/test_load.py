"""Loading folders: every row is accounted for, twice changes nothing, a kill loses nothing."""

import contextlib
import csv
import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from playhead.batch.clean import clean_topic
from playhead.batch.load import Loader, TableLoad
from playhead.batch.quality import latest_report
from playhead.clock import ManualClock
from playhead.contracts import DIMENSIONS, FILES, TOPICS
from playhead.engines import connect
from playhead.errors import LoadError
from playhead.lake import Lake

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901)
WATCH = (
    "session_id,user_id,movie_id,watch_date,device_type,watch_duration_minutes,"
    "progress_percentage,action,quality,location_country,is_download,user_rating"
)
LAYERS = ("raw", "clean")
GOOD = "{id},u1,m1,{day},Mobile,{minutes},50,started,HD,USA,False,"


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(threads=2) as connection:
        yield connection


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(tmp_path / "lake") as lake:
        yield lake


@pytest.fixture
def loader(lake: Lake, con: duckdb.DuckDBPyConnection, tmp_path: Path) -> Loader:
    return Loader(lake, con, ManualClock(NOW))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def write_watch(folder: Path, *rows: str) -> None:
    (folder / "watch_history.csv").write_text("\n".join([WATCH, *rows]) + "\n")


def session(number: int, day: int = 1, minutes: int = 30) -> str:
    return GOOD.format(id=f"s{number}", day=f"2025-01-{day:02}", minutes=minutes)


def fetch(lake: Lake, con: duckdb.DuckDBPyConnection, table: str, columns: str) -> list[Any]:
    return con.execute(f"SELECT {columns} FROM {lake.scan(table)} ORDER BY ALL").fetchall()


def balanced(load: TableLoad) -> bool:
    return load.read == load.outside + load.quarantined + sum(load.dropped.values()) + load.written


def test_every_row_is_accounted_for(
    lake: Lake, con: duckdb.DuckDBPyConnection, loader: Loader, files: Path
) -> None:
    write_watch(
        files,
        session(1),
        session(1),
        session(1, minutes=31),
        session(2).replace("u1", ""),
        session(3).replace("started", "slept").replace(",50,", ",half,"),
        "s4,too short",
        session(5).replace("2025-01-01", ""),
        session(6),
    )
    report = loader.load(files)
    load = report["playback"]
    assert (load.status, load.load_id, load.read, load.quarantined, load.written) == (
        ("loaded", 1, 8, 3, 2)
    )
    assert load.dropped == {"null key": 1, "duplicate row": 1, "duplicate id": 1}
    assert balanced(load)
    assert {e.table: e.status for e in report.tables if e.table != "playback"} == dict.fromkeys(
        ("users", "movies", "search", "impression", "rating"), "missing"
    )
    assert report["users"].file == "users.*"
    assert fetch(lake, con, "quality.quarantine", '"table", file, line, "column", loaded_at') == [
        ("playback", "watch_history.csv", 6, "progress_percentage, action", NOW),
        ("playback", "watch_history.csv", 7, None, NOW),
        ("playback", "watch_history.csv", 8, "watch_date", NOW),
    ]
    reasons = fetch(lake, con, "quality.quarantine", "line, reason, raw")
    assert reasons[0][1] == (
        "progress_percentage 'half' is no number; "
        "action 'slept' is none of started, paused, stopped, completed"
    )
    assert json.loads(reasons[0][2])["session_id"] == "s3"
    assert reasons[1] == (7, "has 2 columns, the header has 12", "s4,too short")
    raw = fetch(lake, con, "raw.playback", '"offset", event_id, partition, epoch, load_id')
    assert raw == [
        (n, e, -1, None, 1) for n, e in ((1, "s1"), (2, "s1"), (3, "s1"), (4, "s2"), (8, "s6"))
    ]
    clean = fetch(lake, con, "clean.playback", 'event_id, "offset", ingest_time')
    assert clean == [("s1", 1, NOW), ("s6", 8, NOW)]


def test_what_cleaning_keeps_is_encoded_once(
    lake: Lake, con: duckdb.DuckDBPyConnection, loader: Loader, files: Path
) -> None:
    write_watch(files, *(session(n % 90, day=1 + n % 28) for n in range(100)))
    loader.load(files).check()
    clean = {Path(file.path).name: file.rows for file in lake.snapshot("clean.playback").files}
    raw = {Path(file.path).name: file.rows for file in lake.snapshot("raw.playback").files}
    assert clean.items() < raw.items()
    assert (sum(clean.values()), sum(raw.values())) == (90, 100)
    paths = {Path(f.path) for t in LAYERS for f in lake.snapshot(f"{t}.playback").files}
    assert len({(path.stat().st_dev, path.stat().st_ino) for path in paths}) == len(paths)
    assert sorted(path for path in lake_files(lake) if path not in paths) == []


def lake_files(lake: Lake) -> list[Path]:
    """The data files of raw and clean events that are on disk, whoever refers to them."""
    folders = {Path(lake.snapshot(f"{t}.playback").files[0].path).parents[1] for t in LAYERS}
    return [path for folder in folders for path in folder.rglob("*.parquet")]


def test_a_row_that_was_there_earlier_replaces_the_one_of_an_epoch(
    lake: Lake, con: duckdb.DuckDBPyConnection, loader: Loader, files: Path
) -> None:
    write_watch(files, session(1))
    loader.load(files).check()
    later = f"""
        SELECT * REPLACE (event_id || 'x' AS event_id, 0 AS epoch, NULL AS load_id, 0 AS partition,
            ingest_time + INTERVAL 1 DAY AS ingest_time)
        FROM {lake.scan("raw.playback")}
    """
    lake.append("raw.playback", con, later, properties={"playhead.epoch": "0"})
    clean_topic(lake, con, "playback")
    write_watch(files, session(1).replace("s1", "s1x"), session(2))
    load = loader.load(files)["playback"]
    assert (load.status, load.written, dict(load.dropped)["duplicate row"]) == ("loaded", 2, 0)
    assert fetch(lake, con, "clean.playback", "event_id, epoch, load_id") == [
        ("s1", None, 1),
        ("s1x", None, 2),
        ("s2", None, 2),
    ]
    assert lake.rows("raw.playback") == 4


def test_a_load_that_cannot_spill_leaves_nothing_and_can_be_repeated(
    lake: Lake, con: duckdb.DuckDBPyConnection, files: Path, tmp_path: Path
) -> None:
    write_watch(files, *(session(n, day=1 + n % 28) for n in range(100_000)))
    no_folder = tmp_path / "file"
    no_folder.touch()
    with connect(memory_limit="20MB", threads=1, temp_dir=no_folder) as small:
        failed = Loader(lake, small, ManualClock(NOW)).load(files)["playback"]
    assert failed.status == "failed"
    assert lake.rows("raw.playback") == 0
    with connect(memory_limit="60MB", threads=1, temp_dir=tmp_path / "spill") as spilling:
        load = Loader(lake, spilling, ManualClock(NOW)).load(files)["playback"]
    assert (load.status, load.load_id, load.written) == ("loaded", 1, 100_000)
    assert list((tmp_path / "spill").iterdir()) == []


def test_a_load_behind_an_uncleaned_epoch_cleans_both(
    lake: Lake, con: duckdb.DuckDBPyConnection, loader: Loader, files: Path
) -> None:
    write_watch(files, session(1))
    loader.load(files).check()
    sealed = f"""
        SELECT * REPLACE (event_id || 'x' AS event_id, 0 AS epoch, NULL AS load_id)
        FROM {lake.scan("raw.playback")}
    """
    lake.append("raw.playback", con, sealed, properties={"playhead.epoch": "0"})
    write_watch(files, session(1), session(2))
    assert loader.load(files)["playback"].written == 2
    assert fetch(lake, con, "clean.playback", "event_id, epoch, load_id") == [
        ("s1", None, 1),
        ("s1x", 0, None),
        ("s2", None, 2),
    ]


def state(lake: Lake) -> dict[str, Any]:
    """Snapshot and properties of every table."""
    return {n: (lake.snapshot(n).id, lake.properties(n)) for n in lake.tables()}


def test_loading_twice_changes_nothing_and_says_so(lake: Lake, loader: Loader, files: Path) -> None:
    write_watch(files, session(1), "bad")
    (files / "users.csv").write_text("user_id,email\nu1,a@b\n")
    assert loader.load(files)["playback"].status == "loaded"
    before = state(lake)
    again = loader.load(files)
    assert state(lake) == before
    assert [(again[t].status, again[t].load_id) for t in ("users", "playback")] == [
        ("already loaded", 1)
    ] * 2
    write_watch(files, session(1), session(2))
    other = loader.load(files)["playback"]
    assert (other.status, other.load_id, other.written) == ("loaded", 2, 1)
    assert other.dropped["duplicate row"] == 1


def test_what_is_kept_of_a_load(lake: Lake, loader: Loader, files: Path) -> None:
    write_watch(files, session(1), session(2, day=2))
    loader.load(files, until=date(2025, 1, 2))
    properties = lake.properties("raw.playback")
    assert properties["playhead.load"] == "1"
    (entry,) = json.loads(properties["playhead.loads"])
    assert (entry["id"], entry["file"], entry["rows"]) == (1, "watch_history.csv", 1)
    assert (entry["since"], entry["until"]) == (None, "2025-01-02")
    assert (len(entry["sha256"]), entry["at"]) == (64, NOW.isoformat())
    assert lake.properties("clean.playback")["playhead.load"] == "1"


def test_ranges_of_days_add_up(
    lake: Lake, con: duckdb.DuckDBPyConnection, loader: Loader, files: Path
) -> None:
    write_watch(
        files, *(session(i, day=1 + i % 5) for i in range(20)), session(99).replace("-01-01", "x")
    )
    first = loader.load(files, until=date(2025, 1, 4))["playback"]
    second = loader.load(files, since=date(2025, 1, 4))["playback"]
    assert (first.written, first.outside, first.quarantined) == (12, 8, 1)
    assert (second.written, second.outside, second.quarantined) == (8, 13, 0)
    assert loader.load(files, since=date(2025, 1, 4))["playback"].status == "already loaded"
    assert len(fetch(lake, con, "clean.playback", "DISTINCT event_id")) == 20


def test_one_bad_file_leaves_the_others_alone(lake: Lake, loader: Loader, files: Path) -> None:
    write_watch(files, session(1))
    (files / "users.csv").write_text("user_id,e-mail\nu1,a@b\n")
    (files / "movies.parquet").write_bytes(b"PAR1")
    report = loader.load(files)
    assert [e.table for e in report.failed] == ["users", "movies"]
    assert report["playback"].written == 1
    assert not lake.exists("dim.movies") or not lake.rows("dim.movies")
    with pytest.raises(LoadError, match="'email' is missing"):
        report.check()
    (files / "users.csv").write_text("user_id,email\nu1,a@b\n")
    assert loader.load(files)["users"].status == "loaded"


def test_ignored_columns_are_named(loader: Loader, files: Path) -> None:
    (files / "users.csv").write_text("user_id,email,shoe_size\nu1,a@b,42\n")
    assert loader.load(files)["users"].status == "failed"
    load = loader.load(files, ignore_unknown=True)["users"]
    assert (load.status, load.ignored) == ("loaded", ("shoe_size",))
    assert [m.note for m in load.quality if m.metric == "unknown_column"] == ["ignored"]


def test_a_dimension_keeps_the_last_row_of_a_key(
    lake: Lake, con: duckdb.DuckDBPyConnection, loader: Loader, files: Path
) -> None:
    rows = ["u1,a@b,Ann", "u2,,Bob", "u1,a@b,Ann", "u1,a@b,Anna", ",c@d,Cy", "u3,e@f,"]
    (files / "users.csv").write_text("\n".join(["user_id,email,first_name", *rows, "u4"]) + "\n")
    load = loader.load(files)["users"]
    assert load.dropped == {"null key": 2, "duplicate row": 1, "duplicate key": 1}
    assert (load.written, load.quarantined) == (2, 1)
    assert balanced(load)
    assert fetch(lake, con, "dim.users", "user_id, first_name") == [("u1", "Anna"), ("u3", None)]


def test_a_dimension_changes_its_version_with_its_content(
    lake: Lake, loader: Loader, files: Path
) -> None:
    def load(text: str) -> tuple[str, int, str]:
        (files / "users.csv").write_text(text)
        entry = loader.load(files)["users"]
        return entry.status, entry.load_id, lake.properties("dim.users")["playhead.version"]

    assert load("user_id,email\nu1,a\nu2,b\n") == ("loaded", 1, "1")
    assert load("user_id,email\nu2,b\nu1,a\nu1,a\n") == ("loaded", 2, "1")
    assert load("user_id,email\nu2,b\nu1,c\n") == ("loaded", 3, "2")
    assert load("user_id,email\nu1,a\nu2,b\n") == ("loaded", 4, "3")
    assert load("user_id,email\nu1,a\nu2,b\n") == ("already loaded", 4, "3")


@pytest.mark.parametrize("name", ["watch_history.jsonl", "watch_history.parquet", "watch_history"])
def test_every_format_gives_the_same_rows(
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    loader: Loader,
    files: Path,
    tmp_path: Path,
    name: str,
) -> None:
    write_watch(
        files, *(session(i, day=1 + i % 9) for i in range(30)), session(99).replace("s99", "")
    )
    rows = list(csv.DictReader((files / "watch_history.csv").read_text().splitlines()))
    typed = con.execute(
        f"SELECT * REPLACE (watch_date::DATE AS watch_date, progress_percentage::DOUBLE AS "
        f"progress_percentage) FROM read_csv('{files}/watch_history.csv', all_varchar = true)"
    ).to_arrow_table()
    loader.load(files)
    columns = "* EXCLUDE (ingest_time)"
    expected = fetch(lake, con, "clean.playback", columns)
    (files / "watch_history.csv").unlink()
    if name.endswith(".jsonl"):
        (files / name).write_text(
            "\n".join(json.dumps({k: v or None for k, v in r.items()}) for r in rows)
        )
    elif name.endswith(".parquet"):
        pq.write_table(typed, files / name)
    else:
        (files / name).mkdir()
        pq.write_table(typed.slice(0, 7), files / name / "part-0.parquet")
        pq.write_table(typed.slice(7), files / name / "part-1.parquet")
    with Lake(tmp_path / "other") as other:
        Loader(other, con, ManualClock(NOW)).load(files)
        assert fetch(other, con, "clean.playback", columns) == expected


# -- several processes ----------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from playhead.batch.load import Loader
from playhead.clock import SystemClock
from playhead.engines import connect
from playhead.lake import Lake

print("ready", flush=True)
sys.stdin.readline()
with Lake(Path(sys.argv[1])) as lake, connect(threads=1) as con:
    report = Loader(lake, con, SystemClock()).load(Path(sys.argv[2]))
    report.check()
    print(*(f"{e.table}={e.status}" for e in report.tables), flush=True)
"""


def start(folder: Path, files: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, folder / "lake", files],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 20 days of sessions, duplicates and faults, and the users behind them."""
    folder = tmp_path_factory.mktemp("many")
    draw = random.Random(7)
    rows = [session(draw.randrange(4000), day=1 + draw.randrange(20)) for _ in range(5000)]
    rows[100:100] = ["cut,short", session(9001).replace("started", "slept")]
    write_watch(folder, *rows)
    (folder / "users.csv").write_text("user_id,email\nu1,a@b\nu1,a@b\nu2,c\nu2\n")
    return folder


def content(lake: Lake, con: duckdb.DuckDBPyConnection) -> dict[str, list[Any]]:
    """What is in the tables, without times of loading."""
    return {
        "raw": fetch(lake, con, "raw.playback", "* EXCLUDE (ingest_time)"),
        "clean": fetch(lake, con, "clean.playback", "* EXCLUDE (ingest_time)"),
        "users": fetch(lake, con, "dim.users", "*"),
        "quarantine": fetch(lake, con, "quality.quarantine", "* EXCLUDE (loaded_at)"),
        "report": fetch(lake, con, "quality.report", '* EXCLUDE ("at")'),
    }


@pytest.fixture(scope="module")
def expected(many: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    with Lake(tmp_path_factory.mktemp("undisturbed")) as lake, connect(threads=2) as con:
        Loader(lake, con, ManualClock(NOW)).load(many).check()
        return content(lake, con)


def test_a_load_that_is_killed_is_finished_by_loading_again(
    tmp_path: Path, many: Path, con: duckdb.DuckDBPyConnection, expected: dict[str, list[Any]]
) -> None:
    draw = random.Random()
    process = start(tmp_path, many)
    started = time.monotonic()
    go(process)
    assert process.communicate()[0]
    whole_s = time.monotonic() - started
    for attempt in range(2):
        folder = tmp_path / f"killed-{attempt}"
        folder.mkdir()
        for _ in range(2):
            process = start(folder, many)
            go(process)
            time.sleep(draw.uniform(0, whole_s))
            process.kill()
            process.communicate()
        with Lake(folder / "lake") as lake:
            Loader(lake, con, ManualClock(NOW)).load(many).check()
            assert content(lake, con) == expected
            before = state(lake)
            Loader(lake, con, ManualClock(NOW)).load(many)
            assert state(lake) == before


@pytest.mark.parametrize("step", ["append", "publish", "overwrite", "set_properties", "create"])
@pytest.mark.parametrize("after", [False, True])
def test_a_load_that_dies_at_any_commit_is_finished_by_loading_again(
    tmp_path: Path,
    many: Path,
    con: duckdb.DuckDBPyConnection,
    expected: dict[str, list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    after: bool,
) -> None:
    """Each commit in turn is the last one: just before it, or just after it."""
    original = getattr(Lake, step)
    for fatal in range(12):
        calls = 0

        def dying(self: Lake, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == fatal + 1 and not after:  # noqa: B023
                raise KeyboardInterrupt
            result = original(self, *args, **kwargs)
            if calls == fatal + 1 and after:  # noqa: B023
                raise KeyboardInterrupt
            return result

        with Lake(tmp_path / f"lake-{fatal}") as lake:
            monkeypatch.setattr(Lake, step, dying)
            with contextlib.suppress(KeyboardInterrupt):
                Loader(lake, con, ManualClock(NOW)).load(many)
            monkeypatch.setattr(Lake, step, original)
            Loader(lake, con, ManualClock(NOW)).load(many).check()
            assert content(lake, con) == expected
        if calls <= fatal:
            break


def test_two_loads_of_one_folder_at_once(
    tmp_path: Path, many: Path, con: duckdb.DuckDBPyConnection, expected: dict[str, list[Any]]
) -> None:
    Lake(tmp_path / "lake").close()
    processes = [start(tmp_path, many) for _ in range(3)]
    for process in processes:
        go(process)
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    with Lake(tmp_path / "lake") as lake:
        assert content(lake, con) == expected


# -- the real set ---------------------------------------------------------------------------------

KEYS = {
    "users": ("user_id", "email"),
    "movies": ("movie_id", "title"),
    "playback": ("session_id", "user_id", "movie_id"),
    "search": ("user_id",),
    "impression": ("user_id", "movie_id"),
    "rating": ("user_id", "movie_id"),
}
DATES = {
    "playback": "watch_date",
    "search": "search_date",
    "impression": "recommendation_date",
    "rating": "review_date",
}


def pandas_quality(name: str, frames: dict[str, pd.DataFrame]) -> dict[tuple[str, str | None], int]:
    """The counts of the quality report, computed with pandas from the files' text."""
    frame, of = frames[name], {**TOPICS, **DIMENSIONS}[name]
    key = of.fields[0].source if of.kind == "topic" else of.key[0]
    found: dict[tuple[str, str | None], int] = {
        ("rows", None): len(frame),
        ("full_row_duplicates", None): int(frame.duplicated().sum()),
        ("key_duplicates", None): int(frame.duplicated(subset=key).sum()),
    }
    for column in frame.columns:
        found["missing", column] = int(frame[column].isna().sum())
    for field in of.fields:
        if field.source and (field.minimum is not None or field.maximum is not None):
            numbers = pd.to_numeric(frame[field.source])
            low = -math.inf if field.minimum is None else float(field.minimum)
            high = math.inf if field.maximum is None else float(field.maximum)
            found["out_of_range", field.source] = int(((numbers < low) | (numbers > high)).sum())
    if name not in DATES:
        return found
    days = pd.to_datetime(frame[DATES[name]])
    for dimension, column, start, metric in (
        ("users", "user_id", "subscription_start_date", "before_subscription"),
        ("movies", "movie_id", "added_to_platform", "before_added"),
    ):
        if column in frame:
            by_key = frames[dimension].drop_duplicates(column).set_index(column)
            found["orphan_keys", column] = int((~frame[column].isin(by_key.index)).sum())
            starts = pd.to_datetime(frame[column].map(by_key[start]))
            found[metric, DATES[name]] = int((days < starts).sum())
    if name == "playback":
        titles = frames["movies"].drop_duplicates("movie_id").set_index("movie_id")
        length = pd.to_numeric(frame["movie_id"].map(titles["duration_minutes"]))
        longer = pd.to_numeric(frame["watch_duration_minutes"]) > length
        found["longer_than_title", "watch_duration_minutes"] = int(longer.sum())
    if name == "search":
        clicked = frame["clicked_result_position"].notna() & (frame["results_returned"] == "0")
        found["click_without_results", "clicked_result_position"] = int(clicked.sum())
    return found


@pytest.mark.needs_data
def test_the_real_set_agrees_with_pandas(
    lake: Lake, con: duckdb.DuckDBPyConnection, loader: Loader, real_data: Path
) -> None:
    report = loader.load(real_data)
    report.check()
    contracts = {contract.name: contract for contract in FILES.values()}
    frames = {
        name: pd.read_csv(
            real_data / f"{c.file}.csv", dtype=str, na_values=[""], keep_default_na=False
        )
        for name, c in contracts.items()
    }
    assert (report["playback"].read, report["playback"].written) == (105_000, 100_000)
    for name, frame in frames.items():
        load = report[name]
        kept = frame.dropna(subset=list(KEYS[name])).drop_duplicates()
        assert (load.read, load.quarantined, load.written) == (len(frame), 0, len(kept))
        assert load.dropped["duplicate row"] == len(frame) - len(kept)
        assert balanced(load)
        counts = {(m.metric, m.column): m.value for m in load.quality}
        expected = pandas_quality(name, frames)
        assert {key: counts[key] for key in expected} == expected
        assert not {k: v for k, v in counts.items() if v and k not in expected}
    clean = pd.DataFrame(
        con.execute(
            "SELECT user_id, watch_duration_minutes AS minutes, event_time::DATE AS day, "
            f"watch_date FROM {lake.scan('clean.playback')}"
        )
        .to_arrow_table()
        .to_pylist()
    )
    kept = frames["playback"].drop_duplicates()
    assert clean["user_id"].nunique() == kept["user_id"].nunique()
    assert (clean["day"] == clean["watch_date"]).all()
    minutes = kept["watch_duration_minutes"].dropna().map(Decimal)
    assert clean["minutes"].dropna().sum() == minutes.sum()
    assert len(latest_report(lake, con)) == len(report.quality)
