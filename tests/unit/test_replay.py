"""Replay: paced by the clock, in one order of event time, nothing lost and nothing hidden."""

import gzip
import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.batch.load import Loader
from playhead.batch.readers import Progress
from playhead.batch.recording import Period
from playhead.batch.replay import (
    AtOnce,
    Pace,
    Rate,
    Replayer,
    ReplayReport,
    ReplaySpec,
    Sending,
    Speed,
    read_pace,
)
from playhead.batch.timeline import merge_streams
from playhead.clock import ManualClock
from playhead.contracts import TOPICS
from playhead.engines import connect
from playhead.errors import LoadError, SettingError, UnknownTopicError
from playhead.lake import QUALITY_QUARANTINE, Lake
from playhead.testing.eventlog import MemoryEventLog

NOW = datetime(2026, 1, 2, 3, 4, 5)
WATCH = (
    "session_id,user_id,movie_id,watch_date,device_type,watch_duration_minutes,"
    "progress_percentage,action,quality,location_country,is_download,user_rating"
)
REVIEWS = (
    "review_id,user_id,movie_id,rating,review_date,device_type,is_verified_watch,helpful_votes,"
    "total_votes,review_text,sentiment,sentiment_score"
)


def session(id_: str, day: int = 1, *, user: str = "u1", minutes: str = "30") -> str:
    return f"{id_},{user},m1,2025-01-{day:02},Mobile,{minutes},50,started,HD,USA,False,"


def review(id_: str, day: int = 1) -> str:
    return f"{id_},u1,m1,4,2025-01-{day:02},Mobile,True,1,2,good,positive,0.5"


def write(path: Path, header: str, *rows: str) -> Path:
    text = "\n".join([header, *rows]) + "\n"
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(threads=2) as connection:
        yield connection


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(tmp_path / "lake") as lake:
        yield lake


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def log(clock: ManualClock) -> MemoryEventLog:
    log = MemoryEventLog(clock=clock)
    for topic in TOPICS.values():
        log.create_topic(topic.name, topic.schema)
    return log


@pytest.fixture
def replayer(
    lake: Lake,
    log: MemoryEventLog,
    con: duckdb.DuckDBPyConnection,
    clock: ManualClock,
    tmp_path: Path,
) -> Replayer:
    return Replayer(lake, log, con, clock, scratch=tmp_path / "scratch")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten sessions, one a day, and a review on each second day."""
    folder = tmp_path / "files"
    write(folder / "watch_history.csv", WATCH, *(session(f"s{n}", n) for n in range(1, 11)))
    write(folder / "reviews.csv", REVIEWS, *(review(f"r{n}", n) for n in range(2, 11, 2)))
    return folder


def events(log: MemoryEventLog, topic: str) -> list[dict[str, Any]]:
    """All events of a topic, in the order in which they came."""
    tables = [log.read(topic, part, 0) for part in range(log.partitions(topic))]
    found: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    return sorted(found, key=lambda e: (e["ingest_time"], e["event_time"], e["offset"]))


def ids(log: MemoryEventLog, topic: str = "playback") -> list[str]:
    return [event["event_id"] for event in events(log, topic)]


def is_balanced(report: ReplayReport) -> bool:
    rows = [entry.rows for entry in report.topics]
    return all(r.read == r.outside + r.quarantined + r.refused + r.events for r in rows)


# -- pace --------------------------------------------------------------------------------


def test_five_events_a_second_by_default(
    replayer: Replayer, log: MemoryEventLog, folder: Path
) -> None:
    report = replayer.replay(folder)
    came = [e["ingest_time"] for t in ("playback", "rating") for e in events(log, t)]
    assert report.sent == 15
    waits = np.diff(np.array(sorted(came), dtype="datetime64[us]")) / np.timedelta64(1, "ms")
    assert abs(waits - 200).max() <= 20


def test_a_speed_follows_the_events_own_times(
    replayer: Replayer, log: MemoryEventLog, folder: Path
) -> None:
    replayer.replay(folder, ReplaySpec(pace=Speed(3600), topics=("playback",)))
    sent = events(log, "playback")
    for event in sent:
        due = NOW + (event["event_time"] - sent[0]["event_time"]) / 3600
        assert timedelta(0) <= event["ingest_time"] - due <= timedelta(milliseconds=21)


def test_at_once_takes_no_time(
    replayer: Replayer, log: MemoryEventLog, folder: Path, clock: ManualClock
) -> None:
    assert replayer.replay(folder, ReplaySpec(pace=AtOnce())).sent == 15
    assert clock.now() == NOW


@pytest.mark.parametrize(
    ("rate", "speed", "pace"),
    [
        (None, None, Rate(5)),
        ("max", None, AtOnce()),
        ("0.5", None, Rate(0.5)),
        (None, "60x", Speed(60)),
        (None, "0.5", Speed(0.5)),
    ],
)
def test_options_name_a_pace(rate: str | None, speed: str | None, pace: Pace) -> None:
    assert read_pace(rate, speed) == pace


@pytest.mark.parametrize(
    ("rate", "speed", "message"),
    [
        ("5", "60x", "exclude each other"),
        ("fast", None, "is no number"),
        (None, "sixty", "is no factor"),
        ("0", None, "cannot be used"),
        ("inf", None, "cannot be used"),
        ("nan", None, "cannot be used"),
        (None, "0x", "cannot be used"),
    ],
)
def test_options_that_name_none(rate: str | None, speed: str | None, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        read_pace(rate, speed)


# -- order -------------------------------------------------------------------------------


def test_events_of_all_topics_go_out_in_one_order(
    replayer: Replayer, log: MemoryEventLog, folder: Path
) -> None:
    seen: list[Sending] = []

    def note(at: Progress | Sending) -> None:
        if isinstance(at, Sending):
            seen.append(at)

    replayer.replay(folder, progress=note)
    assert [at.sent for at in seen] == list(range(1, 16))
    times = {topic: [e["event_time"] for e in events(log, topic)] for topic in seen[0].topics}
    for at in seen:
        before = {topic: sum(t <= at.event_time for t in every) for topic, every in times.items()}
        assert at.topics == before


@given(
    streams=st.lists(
        st.lists(st.lists(st.integers(0, 20), max_size=6), max_size=5), min_size=1, max_size=4
    ),
    cuts=st.integers(1, 7),
)
def test_merged_streams_are_the_sorted_events(streams: list[list[list[int]]], cuts: int) -> None:
    """Whatever the batches, each event comes once, in order, and blocks cover a chunk."""
    batches = {f"t{n}": _ascending(stream) for n, stream in enumerate(streams)}
    sent: list[tuple[int, str, int]] = []
    for chunk in merge_streams((topic, iter(found)) for topic, found in batches.items()):
        assert len(chunk) > 0
        assert list(chunk.times) == sorted(chunk.times)
        for start in range(0, len(chunk), cuts):
            block = list(chunk.block(start, start + cuts))
            times = [t for _, part in block for t in _times(part)]
            assert sorted(times) == list(chunk.times[start : start + cuts])
            sent += [
                (time, topic, number)
                for topic, part in block
                for time, number in zip(_times(part), part.column("n").to_pylist(), strict=True)
            ]
    expected = [
        (time, topic, number)
        for topic, found in batches.items()
        for part in found
        for time, number in zip(_times(part), part.column("n").to_pylist(), strict=True)
    ]
    assert sorted(sent) == sorted(expected)
    blocks_in_order = [time for time, _, _ in sent]
    assert cuts > 1 or blocks_in_order == sorted(blocks_in_order)
    for topic in batches:
        assert [n for _, t, n in sent if t == topic] == [n for _, t, n in expected if t == topic]


def _ascending(stream: list[list[int]]) -> list[pa.RecordBatch]:
    every = iter(sorted(time for batch in stream for time in batch))
    found, number = [], 0
    for batch in stream:
        times = [next(every) for _ in batch]
        numbers = list(range(number, number + len(times)))
        number += len(times)
        found.append(
            pa.record_batch(
                {
                    "event_time": pa.array(times, pa.timestamp("us")),
                    "n": pa.array(numbers, pa.int64()),
                }
            )
        )
    return found


def _times(batch: pa.RecordBatch) -> list[int]:
    times: list[int] = batch.column("event_time").view(pa.int64()).to_pylist()
    return times


# -- sources -----------------------------------------------------------------------------


def test_files_become_the_events_that_a_load_makes_of_them(
    replayer: Replayer,
    log: MemoryEventLog,
    folder: Path,
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    clock: ManualClock,
) -> None:
    replayer.replay(folder, ReplaySpec(pace=AtOnce()))
    Loader(lake, con, clock).load(folder).check()
    for topic in ("playback", "rating"):
        names = TOPICS[topic].schema.names
        loaded = con.execute(
            f"SELECT {', '.join(names)} FROM {lake.scan(f'raw.{topic}')} ORDER BY event_id"
        ).fetchall()
        sent = sorted(events(log, topic), key=lambda event: str(event["event_id"]))
        assert [tuple(event[name] for name in names) for event in sent] == loaded


@pytest.mark.parametrize(
    "name",
    [
        "watch_history.csv",
        "watch_history.csv.gz",
        "watch_history.part-0001.csv",
        "watch_history-2025/part-1.csv",
        "watch_history/a.csv",
    ],
)
@pytest.mark.parametrize("asked", ["itself", "its folder"])
def test_one_file_or_folder_is_known_by_its_name(
    replayer: Replayer, log: MemoryEventLog, tmp_path: Path, name: str, asked: str
) -> None:
    path = write(tmp_path / "in" / name, WATCH, session("s1"))
    replayer.replay(path if asked == "itself" and "/" not in name else path.parent)
    assert ids(log) == ["s1"]


def test_json_lines_in_parts(replayer: Replayer, log: MemoryEventLog, tmp_path: Path) -> None:
    parts = tmp_path / "watch_history"
    parts.mkdir()
    for part in range(3):
        row = dict(zip(WATCH.split(","), session(f"s{part}", part + 1).split(","), strict=True))
        (parts / f"part-{part:04}.json").write_text(json.dumps(row) + "\n")
    assert replayer.replay(parts, ReplaySpec(pace=AtOnce())).sent == 3
    assert ids(log) == ["s0", "s1", "s2"]


def test_a_file_of_another_name_is_what_it_is_said_to_be(
    replayer: Replayer, log: MemoryEventLog, tmp_path: Path
) -> None:
    path = write(tmp_path / "export.csv", WATCH, session("s1"))
    with pytest.raises(LoadError, match="holds nothing of watch_history"):
        replayer.replay(path)
    replayer.replay(path, ReplaySpec(topics=("playback",)))
    assert ids(log) == ["s1"]


def test_a_loaded_topic(
    replayer: Replayer, log: MemoryEventLog, folder: Path, loaded: Lake
) -> None:
    report = replayer.replay("rating", ReplaySpec(pace=AtOnce(), since=date(2025, 1, 5)))
    assert ids(log, "rating") == ["r6", "r8", "r10"]
    assert report["rating"].origin == "raw.rating"
    assert (report["rating"].rows.read, report["rating"].rows.outside) == (5, 2)


@pytest.fixture
def loaded(lake: Lake, con: duckdb.DuckDBPyConnection, clock: ManualClock, folder: Path) -> Lake:
    Loader(lake, con, clock).load(folder).check()
    return lake


def test_topics_can_be_chosen(replayer: Replayer, log: MemoryEventLog, folder: Path) -> None:
    report = replayer.replay(folder, ReplaySpec(pace=AtOnce(), topics=("rating",)))
    assert [entry.topic for entry in report.topics] == ["rating"]
    assert not ids(log, "playback")


@pytest.mark.parametrize(
    ("since", "until", "sent"),
    [
        (date(2025, 1, 3), date(2025, 1, 5), ["s3", "s4"]),
        (datetime(2025, 1, 3), None, [f"s{n}" for n in range(3, 11)]),
        (None, datetime(2025, 1, 2, tzinfo=UTC), ["s1"]),
        (None, datetime(2025, 1, 2, 1, tzinfo=timezone(timedelta(hours=1))), ["s1"]),
        (date(2026, 1, 1), None, []),
    ],
)
def test_a_period_is_half_open(
    replayer: Replayer,
    log: MemoryEventLog,
    folder: Path,
    since: date | None,
    until: date | None,
    sent: list[str],
) -> None:
    spec = ReplaySpec(pace=AtOnce(), since=since, until=until, topics=("playback",))
    report = replayer.replay(folder, spec)
    assert ids(log) == sent
    assert report["playback"].rows.outside == 10 - len(sent)
    assert is_balanced(report)


def test_a_time_of_day_cuts_within_the_day(
    replayer: Replayer, log: MemoryEventLog, tmp_path: Path
) -> None:
    path = write(tmp_path / "watch_history.csv", WATCH, *(session(f"s{n}") for n in range(40)))
    noon = datetime(2025, 1, 1, 12)
    early = replayer.replay(path, ReplaySpec(pace=AtOnce(), until=noon))
    assert all(event["event_time"] < noon for event in events(log, "playback"))
    late = replayer.replay(path, ReplaySpec(pace=AtOnce(), since=noon))
    assert early.sent + late.sent == 40 == len(set(ids(log)))
    assert early.sent > 0
    assert late.sent > 0


# -- what is not sent --------------------------------------------------------------------


def test_bad_rows_are_quarantined_and_keyless_ones_refused(
    replayer: Replayer,
    log: MemoryEventLog,
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    tmp_path: Path,
) -> None:
    path = write(
        tmp_path / "watch_history.csv",
        WATCH,
        session("s1"),
        session("s2", minutes="long"),
        session("s3", user=""),
        session("s4").replace("started", "exploded"),
    )
    for _ in range(2):
        report = replayer.replay(path, ReplaySpec(pace=AtOnce()))
        rows = report["playback"].rows
        assert (rows.read, rows.quarantined, rows.refused, rows.events) == (4, 2, 1, 1)
        assert is_balanced(report)
    kept = con.execute(f"""
        SELECT load_id, "table", file, line, "column", reason
        FROM {lake.scan(QUALITY_QUARANTINE)} ORDER BY line
    """).fetchall()
    assert [row[:5] for row in kept] == [
        (None, "playback", "watch_history.csv", 3, "watch_duration_minutes"),
        (None, "playback", "watch_history.csv", 4, "user_id"),
        (None, "playback", "watch_history.csv", 5, "action"),
    ]
    assert "is no number" in kept[0][5]
    assert kept[1][5] == "user_id is empty, and an event needs it"


def test_a_session_without_an_id_is_refused(replayer: Replayer, tmp_path: Path) -> None:
    path = write(tmp_path / "watch_history.csv", WATCH, session(""))
    assert replayer.replay(path)["playback"].rows.refused == 1


# -- stopping ----------------------------------------------------------------------------


def test_a_stopped_replay_says_how_far_it_came_and_can_go_on(
    replayer: Replayer, log: MemoryEventLog, folder: Path
) -> None:
    stop = threading.Event()

    def note(at: Progress | Sending) -> None:
        if isinstance(at, Sending) and at.sent == 7:
            stop.set()

    first = replayer.replay(folder, stop=stop, progress=note)
    assert (first.stopped, first.sent, first.events) == (True, 7, 15)
    assert first.next_time is not None
    second = replayer.replay(folder, ReplaySpec(pace=AtOnce(), since=first.next_time))
    assert (second.stopped, second.sent, second.next_time) == (False, 8, None)
    assert sorted(ids(log)) == sorted(f"s{n}" for n in range(1, 11))


def test_a_replay_stopped_while_it_reads_sends_nothing(
    replayer: Replayer, log: MemoryEventLog, tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    path = tmp_path / "watch_history.parquet"
    con.execute(f"""
        COPY (SELECT 's' || i AS session_id, 'u1' AS user_id, 'm1' AS movie_id,
            DATE '2025-01-01' AS watch_date, 'Mobile' AS device_type, 'started' AS action,
            'HD' AS quality, 'USA' AS location_country, false AS is_download
            FROM range(3_000_000) AS t(i)) TO '{path}' (FORMAT parquet)
    """)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    report = replayer.replay(path, ReplaySpec(pace=AtOnce()), stop=stop)
    assert report.stopped
    assert report.sent == 0
    assert not ids(log)


# -- errors ------------------------------------------------------------------------------


def test_errors_name_what_is_wrong(replayer: Replayer, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(LoadError, match="neither a file nor a folder"):
        replayer.replay(tmp_path / "nothing")
    with pytest.raises(LoadError, match="topic playback is not loaded"):
        replayer.replay("playback")
    with pytest.raises(UnknownTopicError):
        replayer.replay("clicks")
    with pytest.raises(UnknownTopicError, match="is a dimension"):
        replayer.replay(folder, ReplaySpec(topics=("users",)))
    with pytest.raises(LoadError, match="search is asked for"):
        replayer.replay("playback", ReplaySpec(topics=("search",)))
    with pytest.raises(SettingError, match="is no period"):
        Period.of(date(2025, 2, 1), date(2025, 1, 1))


def test_scratch_is_left_empty(replayer: Replayer, folder: Path, tmp_path: Path) -> None:
    replayer.replay(folder, ReplaySpec(pace=AtOnce()))
    assert list((tmp_path / "scratch").iterdir()) == []
