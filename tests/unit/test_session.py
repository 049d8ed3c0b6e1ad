"""Serving: what every name answers, from an empty workspace on, and what it refuses."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from layers import (
    T0,
    Running,
    SmallWorkspace,
    Watch,
    assert_merged_is_full,
    counted,
    load,
    load_dimensions,
    ratings,
    rows,
    searches,
    send,
    waiting,
    watches,
    workspace,
)
from playhead.assemble import Workspace
from playhead.batch.clean import clean_topic
from playhead.contracts import TOPICS
from playhead.errors import CoverageError, QueryError, UnknownViewError
from playhead.serving import topics
from playhead.serving.names import relations_read
from playhead.speed.seal import Sealer


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[SmallWorkspace]:
    made = workspace(tmp_path / "w", "counts", "windows", "countries")
    yield made
    made.close()


@pytest.fixture
def used(opened: SmallWorkspace) -> SmallWorkspace:
    """A workspace with loaded, sealed and unsealed events."""
    load_dimensions(opened)
    load(opened, watches(5))
    opened.batch()
    running = Running(opened)
    with running as layer:
        send(opened, watches(5, start=3, minute=3))
        running.catch_up()
        layer.seal()
        send(opened, watches(4, start=7, minute=7))
        running.catch_up()
    return opened


# -- nothing there yet ---------------------------------------------------------------------


def test_an_empty_workspace_answers(tmp_path: Path) -> None:
    with Workspace.create(tmp_path / "w") as opened:
        for name in opened.views:
            answer = opened.view(name)
            assert len(answer) == 0, name
            assert answer.watermark is None
            assert answer.to_arrow().schema.names == list(opened.views[name].columns)
        for topic in TOPICS:
            assert rows(opened, f"SELECT * FROM {topic}") == []
        assert rows(opened, "SELECT COUNT(*) AS n FROM alerts") == [{"n": 0}]
        with pytest.raises(QueryError, match=r"users is not there.*\n.*users\.csv"):
            opened.query("SELECT * FROM users")
        with pytest.raises(QueryError, match=r"pair_ratings is not there.*\n.*playhead batch"):
            opened.query("SELECT * FROM pair_ratings")
        assert rows(opened, "SELECT * FROM quality_report") == []
        assert all(status.ready for status in opened.statuses())


def test_an_empty_workspace_survives_every_command(tmp_path: Path) -> None:
    with Workspace.create(tmp_path / "w") as opened:
        opened.speed(drain=True)
        report = opened.batch()
        assert {run.status for run in report.views} <= {"recomputed", "waits", "up to date"}
        opened.speed(drain=True)
        for name in opened.views:
            assert len(opened.view(name)) == 0
        assert opened.state.epochs() == [(1, "open")]


def test_a_total_over_nothing_is_one_row(opened: SmallWorkspace) -> None:
    nothing = [{"events": 0, "users": 0, "minutes": None}]
    assert opened.view("counts").to_arrow().to_pylist() == nothing
    with Running(opened) as layer:
        assert layer.step().events == 0
    assert opened.view("counts").to_arrow().to_pylist() == nothing
    opened.batch()
    assert opened.view("counts").to_arrow().to_pylist() == nothing


def test_a_view_without_its_dimension_names_the_file(tmp_path: Path) -> None:
    with workspace(tmp_path / "w", "counts", "countries", "content_performance") as opened:
        send(opened, watches(3))
        running = Running(opened)
        with running as layer:
            running.catch_up()
            layer.seal()
            assert "waits for users: not loaded" in waiting(opened, "countries")
            assert "users.csv" in waiting(opened, "countries")
            assert "movies and pair_ratings and users" in waiting(opened, "content_performance")
            assert "movies.csv and users.csv" in waiting(opened, "content_performance")
            assert counted(opened) == 3
            status = {s.view.name: s for s in opened.statuses()}
            assert status["counts"].ready
            assert not status["countries"].ready
            run = {r.view: r for r in opened.batch().views}["countries"]
            assert (run.status, run.reason) == ("waits", "users not loaded")
            load_dimensions(opened)
            # The file is there now; the events before it wait for the batch layer.
            layer.refresh()
            send(opened, watches(3, start=3))
            running.catch_up()
            assert "not built yet: epoch 1 waits of playback" in waiting(opened, "countries")
            opened.batch()
            assert_merged_is_full(opened, ["counts", "countries"])
            layer.refresh()
            layer.seal()
            opened.batch()
            assert_merged_is_full(opened)


# -- queries -------------------------------------------------------------------------------


def test_every_name_is_a_relation(used: SmallWorkspace) -> None:
    assert rows(used, "SELECT COUNT(*) AS n, COUNT(DISTINCT event_id) AS ids FROM playback") == [
        {"n": 11, "ids": 11}
    ]
    (total,) = rows(used, "SELECT SUM(events) AS n FROM windows WHERE device_type = 'Mobile'")
    assert total["n"] == len([e for e in watches(11) if e.user % 3 == 2])
    joined = """
        SELECT w.device_type, SUM(w.events) AS events, ANY_VALUE(c.events) AS all_events
        FROM windows AS w, Counts AS c, users AS u
        WHERE u.user_id = 'u1' GROUP BY ALL ORDER BY 1
    """
    assert {row["all_events"] for row in rows(used, joined)} == {11}
    assert rows(used, "WITH playback AS (SELECT 1 AS one) SELECT * FROM playback") == [{"one": 1}]
    names = ["event_id", "partition", "offset", "ingest_time"]
    columns = ", ".join(f'"{name}"' for name in names)
    found = used.query(f"SELECT {columns} FROM playback").to_arrow()
    assert found.schema.names == names
    assert "EXPLAIN" not in str(rows(used, "EXPLAIN SELECT * FROM counts"))


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT * FROM a JOIN B USING (x)", "a B"),
        ("FROM a SEMI JOIN b ON a.x = b.x", "a b"),
        ("WITH a AS (SELECT * FROM a), b AS (FROM a) SELECT * FROM A, b, c", "a c"),
        ("WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT 1 FROM r, a) SELECT * FROM r", "a"),
        (
            "SELECT (SELECT MAX(x) FROM a) FROM (WITH b AS (FROM c) FROM b), LATERAL (FROM d)",
            "a c d",
        ),
        ("(WITH a AS (SELECT 1) FROM a) UNION ALL (FROM a)", "a"),
        ("SELECT 1 WHERE EXISTS (FROM a)", "a"),
        ("EXPLAIN ANALYZE SELECT * FROM a", "a"),
        ("/* EXPLAIN */ -- EXPLAIN\nEXPLAIN SELECT * FROM a", "a"),
        ("explain (format json) FROM a", "a"),
        ("SUMMARIZE a", "a"),
        ("VALUES (1)", ""),
        ("SELECT * FROM 'x.parquet'", "x.parquet"),
    ],
)
def test_names_that_a_query_reads(opened: SmallWorkspace, sql: str, names: str) -> None:
    assert relations_read(opened.session._connection, sql) == set(names.split())


def test_views_that_a_query_reads(opened: SmallWorkspace) -> None:
    sql = "SELECT * FROM Counts, playback JOIN windows USING (device_type)"
    assert [view.name for view in opened.session.views_read(sql)] == ["counts", "windows"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("", "this is nothing"),
        ("SELECT 1; SELECT 2", "this is SELECT, SELECT"),
        ("-- EXPLAIN\nEXPLAIN ANALYZE CREATE TABLE x AS \nSELECT 1", "this is CREATE"),
        ("SELECT " + "abs(" * 900 + "1" + ")" * 900, "nested too deeply"),
        ("SELECT 1" + "+1" * 900, "nested too deeply"),
        ("SELECT 1::VARIANT AS v", "VARIANT"),
        ("SELECT [1::UHUGEINT] AS v", "column v is UHUGEINT"),
        ("DROP TABLE playback", "this is DROP"),
        ("CREATE TABLE t AS SELECT 1", "this is CREATE"),
        ("COPY (SELECT 1) TO 'x.csv'", "this is COPY"),
        ("INSERT INTO counts VALUES (1)", "this is INSERT"),
        ("ATTACH 'x.db'", "this is ATTACH"),
        ("SET threads = 1", "this is SET"),
        ("SELECT * FROM playbck", "Did you mean playback?"),
        ("SELECT * FROM nothing_like_it", "There are account, alerts, catalog, countries, counts"),
        ("SELECT * FROM 'x.csv'", "no relation x.csv"),
        ("SELECT nothing FROM counts", "nothing"),
        ("SELECT 1 / 0 + CAST('x' AS INT)", "Conversion"),
        ("SELECT * FROM playback__tail", "no relation playback__tail"),
    ],
)
def test_what_is_refused(opened: SmallWorkspace, sql: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        opened.query(sql)
    assert message in str(caught.value)


def test_an_unknown_view(opened: SmallWorkspace) -> None:
    with pytest.raises(UnknownViewError, match="Did you mean counts"):
        opened.view("count")


def test_times_are_in_utc_wherever_it_runs(used: SmallWorkspace) -> None:
    (row,) = rows(
        used, "SELECT current_setting('TimeZone') AS zone, MIN(event_time) AS first FROM playback"
    )
    assert row == {"zone": "UTC", "first": T0}


def test_nothing_stays_behind_in_the_session(used: SmallWorkspace) -> None:
    """States and events that an answer was made from are let go of with it."""
    for name in used.views:
        used.view(name)
        used.full(name)
    rows(used, "SELECT * FROM playback, alerts")
    views = "SELECT view_name FROM duckdb_views() WHERE NOT internal"
    assert used.session._connection.execute(views).fetchall() == []


def test_joins_meet_events_wherever_they_are(opened: SmallWorkspace) -> None:
    """Cleaned, sealed and unsealed events at once, in numbers that make DuckDB filter by join."""
    load_dimensions(opened)
    running = Running(opened)
    with running as layer:
        for turn in range(3):
            for part in range(0, 200, 10):
                first = turn * 200 + part
                send(opened, [*watches(10, start=first, minute=first), *watches(3)])
                running.catch_up()
            if turn < 2:
                layer.seal()
            if turn == 0:
                opened.batch()
        assert_merged_is_full(opened)
        joined = """
            SELECT COUNT(*) AS n FROM playback AS p JOIN windows AS w
            ON w.window_start = TIME_BUCKET(INTERVAL '5 minutes', p.event_time)
            AND w.device_type = p.device_type JOIN users AS u USING (user_id)
        """
        known = [event for event in watches(600) if event.user < 5]
        assert rows(opened, joined) == [{"n": len(known)}]


def test_threads_share_a_session(used: SmallWorkspace) -> None:
    wrong: list[Any] = []

    def ask() -> None:
        for _ in range(5):
            try:
                found = rows(used, "SELECT events FROM counts, (SELECT COUNT(*) FROM playback) t")
                if found != [{"events": 11}]:
                    wrong.append(found)
            except Exception as error:
                wrong.append(error)

    used.session  # noqa: B018 - made before the threads ask for it
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- events on their way -------------------------------------------------------------------


def test_an_event_is_read_once_while_its_epoch_is_sealed(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the state and the look at the lake, the epoch moves and is cleaned."""
    running = Running(opened)
    with running as layer:
        send(opened, watches(6))
        running.catch_up()
        look = topics.TopicReader._snapshot
        moved = []

        def late_look(self: topics.TopicReader, table: str) -> Any:
            if not moved:
                moved.append(layer.seal())
                with opened._connect() as connection:
                    clean_topic(opened.lake, connection, "playback")
            return look(self, table)

        monkeypatch.setattr(topics.TopicReader, "_snapshot", late_look)
        assert rows(opened, "SELECT COUNT(*) AS n FROM playback") == [{"n": 6}]
        assert moved == [1]


def test_an_epoch_that_is_being_sealed_counts_once(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lake has it, batch has read it, and the state does not know yet."""
    running = Running(opened)
    with running as layer:
        send(opened, watches(6))
        running.catch_up()
        with monkeypatch.context() as patch:
            patch.setattr(type(opened.state), "sealed", _dies)
            with pytest.raises(KeyboardInterrupt):
                layer.seal()
        assert opened.state.epochs() == [(1, "sealing"), (2, "open")]
        assert_merged_is_full(opened, ["counts", "windows"])
        opened.batch()
        assert_merged_is_full(opened, ["counts", "windows"])
        assert opened.view("counts").coverage[0].batch_epoch == 1
        assert layer.seal() is None
        assert opened.state.sealed_epoch() == 1
        assert_merged_is_full(opened, ["counts", "windows"])


def _dies(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_epoch_that_failed_goes_before_the_next(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lake takes epochs in order; one left out would never get in again."""
    running = Running(opened)
    with running as layer:
        send(opened, watches(6))
        running.catch_up()
        with monkeypatch.context() as patch:
            patch.setattr(Sealer, "_append", _dies)
            with pytest.raises(KeyboardInterrupt):
                layer.seal()
        send(opened, watches(6, start=6))
        running.catch_up()
        layer.seal()
        assert opened.state.sealed_epoch() == 2
        opened.batch()
        assert counted(opened) == 12
        assert_merged_is_full(opened, ["counts", "windows"])


def test_a_load_waits_for_the_batch_layer(used: SmallWorkspace) -> None:
    load(used, watches(3, start=50))
    assert "load 2 waits of playback for the batch layer" in waiting(used, "counts")
    with pytest.raises(CoverageError):
        used.query("SELECT * FROM counts")
    assert rows(used, "SELECT COUNT(*) AS n FROM playback") == [{"n": 14}]
    used.batch()
    assert counted(used) == 14
    assert_merged_is_full(used)


def test_a_file_with_events_that_speed_has_counted(opened: SmallWorkspace) -> None:
    """The open epoch and the load hold the same events: no answer, rather than a wrong one."""
    running = Running(opened)
    with running as layer:
        send(opened, watches(6))
        running.catch_up()
        load(opened, watches(4, start=3))
        opened.batch()
        told = waiting(opened, "counts")
        assert "an overlap: 3 events of playback are in epoch 1 and in load 1, too" in told
        assert waiting(opened, "windows")
        layer.seal()
        assert "Run `playhead batch`" in waiting(opened, "counts")
        opened.batch()
        assert counted(opened) == 7
        assert_merged_is_full(opened, ["counts", "windows"])


def test_a_file_with_other_events_than_speed_has_counted(opened: SmallWorkspace) -> None:
    running = Running(opened)
    with running:
        send(opened, watches(6))
        running.catch_up()
        load(opened, watches(4, start=20))
        opened.batch()
        assert counted(opened) == 10
        assert_merged_is_full(opened, ["counts", "windows"])


# -- dimensions ----------------------------------------------------------------------------


def test_answers_under_several_versions_say_so(used: SmallWorkspace) -> None:
    used.batch()
    (part,) = used.view("countries").coverage
    assert not part.mixed
    load_dimensions(used, spend=99)
    assert used.view("countries").coverage[0].mixed
    assert not used.view("counts").coverage[0].mixed
    report = {run.view: run for run in used.batch().views}
    assert report["countries"].reason == "users changed"
    assert report["counts"].status == "up to date"
    # Batch states are new now, the open epoch's are not.
    assert used.view("countries").coverage[0].mixed
    with Running(used) as layer:
        layer.seal()
        used.batch()
    assert not used.view("countries").coverage[0].mixed
    assert_merged_is_full(used)
    spends = {row["spend"] for row in rows(used, "SELECT spend FROM countries")}
    assert spends == {None, Decimal("102.00"), Decimal("103.00")}


def test_ratings_reach_their_views(tmp_path: Path) -> None:
    with workspace(tmp_path / "w", "counts", "content_performance") as opened:
        load_dimensions(opened)
        running = Running(opened)
        with running as layer:
            send(opened, watches(6))
            opened.log.append("rating", ratings([(0, 0, 5), (1, 1, 2)]))
            opened.log.append("search", searches(range(3)))
            running.catch_up()
            layer.seal()
            opened.batch()
            found = rows(opened, "SELECT genre_primary, avg_rating FROM content_performance")
            assert sorted(row["genre_primary"] for row in found) == ["Genre 0", "Genre 1"]
            assert_merged_is_full(opened)


# -- windows -------------------------------------------------------------------------------


def test_windows_of_an_answer(used: SmallWorkspace) -> None:
    answer = used.view("windows")
    assert answer.watermark == T0
    found = answer.windows().to_pylist()
    starts = [T0, T0 + timedelta(minutes=5), T0 + timedelta(minutes=10)]
    assert [row["window_start"] for row in found] == starts
    assert not any(answer.is_final(start) for start in starts)
    assert answer.is_final(T0 - timedelta(minutes=5))
    with pytest.raises(QueryError, match="counts has no window"):
        used.view("counts").windows()
    with pytest.raises(QueryError, match="counts has no window"):
        used.view("counts").is_final(T0)


def test_times_at_the_ends_of_the_calendar(opened: SmallWorkspace) -> None:
    """A client's clock may say anything; no event may stop the layer."""
    minutes = [-(T0.year - 1) * 525_949 + 300_000, (9998 - T0.year) * 525_949]
    running = Running(opened)
    with running as layer:
        for number, minute in enumerate(minutes):
            send(opened, [Watch(number, minute), Watch(number + 10)])
            running.catch_up()
            layer.judge()
        layer.seal()
    opened.batch()
    assert counted(opened) == 4
    assert_merged_is_full(opened, ["counts", "windows"])
    assert opened.view("windows").windows().num_rows == 3


# -- other forms ---------------------------------------------------------------------------


def test_answers_in_other_forms(used: SmallWorkspace) -> None:
    answer = used.view("counts")
    assert len(answer) == 1
    assert answer.to_pandas()["minutes"].to_list() == [Decimal("110.00")]
    assert answer.to_polars()["events"].to_list() == [11]


# -- answers that follow what is added -----------------------------------------------------


def test_answers_stay_right_while_they_are_followed(opened: SmallWorkspace) -> None:
    """Asked for again after each step of the layers: triggers, compaction, seal, batch."""
    load_dimensions(opened)
    running = Running(opened)
    with running as layer:
        for round_ in range(12):
            send(opened, watches(5, start=4 * round_, minute=3 * round_))
            running.catch_up()
            assert_merged_is_full(opened)
            if round_ % 3 == 2:
                layer.compact()
            if round_ in (4, 9):
                layer.seal()
            if round_ == 7:
                opened.batch()
            assert_merged_is_full(opened)
    followed = opened.session._merger._follower.kept
    assert {"counts", "countries"} <= set(followed)


def test_windows_that_a_query_does_not_show_are_not_read(used: SmallWorkspace) -> None:
    whole = rows(used, "SELECT * FROM windows ORDER BY ALL")
    starts = sorted({row["window_start"] for row in whole})
    assert len(starts) > 1
    for start in starts:
        asked = f"SELECT * FROM windows WHERE window_start = TIMESTAMP '{start}' ORDER BY ALL"
        expected = [row for row in whole if row["window_start"] == start]
        assert [rows(used, asked) for _ in range(3)] == [expected] * 3


def test_a_window_that_depends_on_others_reads_them(tmp_path: Path) -> None:
    with workspace(tmp_path / "w", "running") as opened, Running(opened) as layer:
        for minute in (0, 7, 14):
            send(opened, watches(4, start=minute, minute=minute))
            layer.step()
        whole = opened.view("running").to_arrow().to_pylist()
        last = max(row["window_start"] for row in whole)
        expected = [row for row in whole if row["window_start"] == last]
        assert expected[0]["so_far"] > expected[0]["users"]
        for _ in range(3):
            assert opened.view("running", since=last).to_arrow().to_pylist() == expected
        sql = f"SELECT * FROM running WHERE window_start >= TIMESTAMP '{last}'"
        assert rows(opened, sql) == expected
