"""The last whole answers: right when they are said to be current, in any process; else anew."""

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from layers import (
    Running,
    SmallWorkspace,
    assert_is_full,
    load,
    load_dimensions,
    ordered,
    send,
    views,
    waiting,
    watches,
    workspace,
)
from playhead.errors import QueryError, QueryTimeoutError, StateError
from playhead.platform.batch import BatchPart
from playhead.serving import lastanswers, warming
from playhead.serving.answers import Answers, Flights
from playhead.serving.lastanswers import AnswerFiles, LastAnswer, LastAnswers, LastView
from playhead.serving.session import Session
from playhead.serving.stop import Stop
from playhead.speed.blocks import encode
from playhead.views import View

NAMES = ("counts", "windows", "countries")
NOON = datetime(2025, 3, 1, 12)
ANSWER = LastAnswer(pa.table({"k": ["x", None], "n": [1, 2]}), (), "mark", NOON, 1.5)


def _view(name: str = "counts") -> View:
    return views(name)[name]


@pytest.fixture(autouse=True)
def _all_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is slow enough to be kept in a file."""
    monkeypatch.setattr(lastanswers, "SLOW_S", -1.0)


def _built(path: Path) -> SmallWorkspace:
    """A workspace with loaded events that the batch layer covers, and with live ones' states."""
    made = workspace(path, *NAMES)
    load_dimensions(made)
    load(made, watches(6))
    made.batch()
    with Running(made) as layer:
        send(made, watches(4, start=6, minute=6))
        layer.step()
    return made


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[SmallWorkspace]:
    """A workspace that a test may change."""
    with _built(tmp_path / "w") as made:
        yield made


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the workspace is that nobody changes."""
    with _built(tmp_path_factory.mktemp("last") / "w") as made:
        return made.path


@pytest.fixture
def asked(path: Path) -> Iterator[SmallWorkspace]:
    """A workspace that is only asked; nothing is kept of it yet."""
    shutil.rmtree(path / "cache", ignore_errors=True)
    with _named(path) as made:
        yield made


def _again(opened: SmallWorkspace) -> SmallWorkspace:
    """The same workspace as a process that was started now sees it."""
    return _named(opened.path)


def _named(path: Path) -> SmallWorkspace:
    made = SmallWorkspace(path)
    made.names = NAMES
    return made


def _last(opened: SmallWorkspace, name: str) -> LastView:
    found = opened.last_view(name)
    assert found is not None
    return found


def _assert_current(opened: SmallWorkspace) -> None:
    """Each view's last answer is current once it was asked for, here and in a new process."""
    asked = {name: opened.view(name).to_arrow() for name in NAMES}
    with _again(opened) as other:
        for reader in (opened, other):
            for name, table in asked.items():
                last = _last(reader, name)
                assert last.is_current, name
                assert last.to_arrow().equals(table)
                assert_is_full(reader, last)


def _assert_old(opened: SmallWorkspace) -> None:
    """No view's last answer is current, here and in a new process."""
    with _again(opened) as other:
        for reader in (opened, other):
            assert not any(_last(reader, name).is_current for name in NAMES)


def _count(opened: SmallWorkspace) -> int:
    return int(_last(opened, "counts").to_arrow().column("events")[0].as_py())


# -- what is current -----------------------------------------------------------------------


def test_nothing_is_known_before_anybody_asked(asked: SmallWorkspace) -> None:
    assert [asked.last_view(name) for name in NAMES] == [None] * 3


def test_events_that_come_make_an_answer_old(opened: SmallWorkspace) -> None:
    _assert_current(opened)
    with Running(opened) as layer:
        send(opened, watches(3, start=8, minute=20))
        # What waits in the event log is in no answer yet.
        assert _last(opened, "counts").is_current
        layer.step()
        _assert_old(opened)
        assert _count(opened) == 10
        _assert_current(opened)
        assert _count(opened) == 11
        layer.seal()
        _assert_current(opened)
        opened.batch()
        _assert_old(opened)
        _assert_current(opened)


def test_a_load_makes_answers_old_until_the_batch_layer_has_it(opened: SmallWorkspace) -> None:
    _assert_current(opened)
    load(opened, watches(3, start=50))
    assert "waits" in waiting(opened, "counts")
    _assert_old(opened)
    with Running(opened) as layer:
        layer.seal()
    opened.batch()
    _assert_current(opened)


def test_a_new_dimension_makes_answers_old(opened: SmallWorkspace) -> None:
    _assert_current(opened)
    load_dimensions(opened, spend=99)
    assert not _last(opened, "countries").is_current
    # States of two versions have an answer, and it is not that of recomputation.
    assert any(part.mixed for part in opened.view("countries").coverage)
    assert not _last(opened, "countries").is_current
    with Running(opened) as layer:
        layer.seal()
    opened.batch()
    _assert_current(opened)


def test_an_overlap_that_nobody_has_counted_is_not_counted_for_the_last_answer(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(opened, watches(3, start=70))
    opened.batch()
    opened.view("counts")
    with _again(opened) as other:
        assert _last(opened, "counts").is_current
        assert not _last(other, "counts").is_current
        other.view("counts")
        assert _last(other, "counts").is_current


def test_a_body_that_is_gone_is_an_error_and_never_another_answer(opened: SmallWorkspace) -> None:
    opened.view("counts")
    with sqlite3.connect(opened.path / "state.db") as db:
        db.execute("DELETE FROM bodies")
    db.close()
    with _again(opened) as other:
        assert not _last(other, "counts").is_current
        with pytest.raises(StateError, match="is missing"):
            other.view("counts")


def test_another_text_has_another_answer(opened: SmallWorkspace) -> None:
    opened.view("counts")
    text = "SELECT COUNT(*) AS events FROM playback WHERE device_type = 'Mobile'"
    changed = View.parse("counts", text)
    opened.session.use({"counts": changed})
    assert opened.session.last_answer(changed) is None
    with Running(opened) as layer:
        layer.seal()
    opened.__dict__["views"] = {"counts": changed}
    opened.batch()
    table, _ = opened.session.answer(changed)
    assert ordered(table) == ordered(opened.session.full(changed))
    last = opened.session.last_answer(changed)
    assert last is not None
    assert last.is_current
    assert len(list((opened.path / "cache").glob("counts-*.answer"))) == 1


def test_a_state_made_anew_has_other_marks_for_the_same_block_numbers(
    opened: SmallWorkspace,
) -> None:
    _assert_current(opened)
    path, names = opened.path, ("state.db", "state.db-wal", "state.db-shm")
    opened.close()
    for name in names:
        (path / name).unlink(missing_ok=True)
    with _again(opened) as made, Running(made) as layer:
        send(made, watches(4, start=30, minute=6))
        while made.lag():
            layer.step()
        assert not any(_last(made, name).is_current for name in NAMES)
        _assert_current(made)


# -- another process -----------------------------------------------------------------------


SHOW = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from layers import SmallWorkspace
from playhead.serving.merge import Merger
with SmallWorkspace(Path(sys.argv[1])) as opened:
    opened.names = ("counts", "windows", "countries")
    last = opened.last_view("countries")
    Merger.basis = Merger.sql = None  # whoever computes fails
    table = opened.view("countries").to_arrow()
    print(json.dumps([last.is_current, table.equals(last.to_arrow()), str(last.watermark)]))
"""


def test_a_process_started_later_gives_the_answer_without_making_it(
    asked: SmallWorkspace,
) -> None:
    answer = asked.view("countries")
    tests = str(Path(__file__).parents[1])
    # Another seed of hashes: no order of a set may be part of a mark.
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    told = subprocess.run(
        [sys.executable, "-c", SHOW, str(asked.path), tests],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert json.loads(told.stdout) == [True, True, str(answer.watermark)]


def test_an_answer_of_another_process_is_taken_when_it_is_newer(opened: SmallWorkspace) -> None:
    opened.view("counts")
    with Running(opened) as layer:
        send(opened, watches(1, start=90, minute=30))
        layer.step()
    with _again(opened) as other:
        other.view("counts")
    last = _last(opened, "counts")
    assert last.is_current
    assert _count(opened) == 11


def test_the_last_answer_says_what_was_final_then(opened: SmallWorkspace) -> None:
    before = opened.view("windows")
    with Running(opened) as layer:
        send(opened, watches(1, start=60, minute=200))
        layer.step()
    with _again(opened) as other:
        last = _last(other, "windows")
        assert last.watermark == before.watermark
        assert last.coverage == before.coverage
        assert last.windows().equals(before.windows())
        assert opened.view("windows").watermark != before.watermark
        assert last.seconds > 0


# -- files ---------------------------------------------------------------------------------


def test_an_answer_is_read_as_it_was_written(tmp_path: Path) -> None:
    files = AnswerFiles(tmp_path / "cache")
    assert files.get(_view()) is None
    files.put(_view(), ANSWER, ["counts"])
    assert files.get(_view()) == ANSWER
    assert files.get(_view("windows")) is None
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".answer"]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flip": lambda content: content[:90] + bytes([content[90] ^ 8]) + content[91:],
    "cut": lambda content: content[:-9],
    "empty": lambda _: b"",
    "foreign": lambda _: b"PAR1" * 1_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_answer_is_made_again(
    asked: SmallWorkspace, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked.view("counts")
    (file,) = (asked.path / "cache").glob("counts-*.answer")
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with _again(asked) as other, caplog.at_level(logging.WARNING):
        assert other.last_view("counts") is None
        assert other.last_view("counts") is None
        assert_is_full(other, other.view("counts"))
        assert _last(other, "counts").is_current
    assert caplog.text.count("the last answer of counts is not used") == 1
    with _again(asked) as other:
        assert _last(other, "counts").is_current


def test_a_table_that_is_no_answer_is_none(tmp_path: Path) -> None:
    files = AnswerFiles(tmp_path)
    files.put(_view(), ANSWER, ["counts"])
    (file,) = tmp_path.iterdir()
    body, crc = encode(ANSWER.table)
    file.write_bytes(crc.to_bytes(4, "little") + body)
    assert files.get(_view()) is None


def test_a_folder_that_cannot_be_written_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "cache", None):
        last = LastAnswers(folder)
        last.keep(_view(), ANSWER, ["counts"])
        assert last.get(_view()) == ANSWER
        last.files.refuse(_view())
        assert not last.files.is_refused(_view())
        assert LastAnswers(folder).get(_view()) is None


def test_a_full_disk_leaves_the_older_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = AnswerFiles(tmp_path)
    files.put(_view(), ANSWER, ["counts"])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        files.put(_view(), LastAnswer(ANSWER.table, (), "other", NOON, 2.0), ["counts"])
    assert files.get(_view()) == ANSWER
    assert len(list(tmp_path.iterdir())) == 1


def test_an_older_answer_does_not_take_the_place_of_a_newer_one(tmp_path: Path) -> None:
    last = LastAnswers(tmp_path)
    last.keep(_view(), ANSWER, ["counts"])
    earlier = LastAnswer(ANSWER.table, (), "earlier", NOON - timedelta(seconds=1), 1.0)
    last.keep(_view(), earlier, ["counts"])
    assert last.get(_view()) == ANSWER == LastAnswers(tmp_path).get(_view())
    # The clock was set back: what seems to be of the future is the older one.
    ahead = LastAnswer(ANSWER.table, (), "ahead", datetime(2999, 1, 1), 1.0)
    for one in (ahead, ANSWER):
        last.keep(_view(), one, ["counts"])
    assert last.get(_view()) == ANSWER == LastAnswers(tmp_path).get(_view())


def test_files_of_views_that_are_gone_are_removed_and_others_are_left(tmp_path: Path) -> None:
    files = AnswerFiles(tmp_path)
    for name in ("gone-0123456789ab-1.answer", "counts-0123456789ab-1.answer", "notes.answer",
                 "gone-0123456789ab-1.unkept", "counts_1-1-7.groups",
                 "counts-0123456789ab-1.answer.1-1.part"):  # fmt: skip
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    files.put(_view("windows"), ANSWER, NAMES)
    files.put(_view(), ANSWER, NAMES)
    left = {path.name.split("-")[0] for path in tmp_path.iterdir()}
    assert left == {"notes.answer", "counts_1", "windows", "counts"}
    assert files.get(_view()) == files.get(_view("windows")) == ANSWER


def test_memory_and_folder_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = LastAnswer(pa.table({"n": pa.array(range(1_000), pa.int64())}), (), "m", NOON, 1.0)
    monkeypatch.setattr(lastanswers, "LARGEST_BYTES", 7_999)
    last = LastAnswers(tmp_path)
    last.keep(_view(), large, NAMES)
    assert last.get(_view()) is None
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(lastanswers, "LARGEST_BYTES", 8_000)
    monkeypatch.setattr(lastanswers, "_ALL_BYTES", 8_000)
    for name in ("counts", "windows"):
        last.keep(_view(name), large, NAMES)
    assert len(last._held) == 1
    assert last.get(_view("windows")) == large
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(lastanswers, "_ALL_BYTES", file.stat().st_size)
    last.keep(_view("countries"), large, NAMES)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_quick_answer_is_kept_in_memory_alone(
    asked: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lastanswers, "SLOW_S", 1e6)
    asked.view("counts")
    assert _last(asked, "counts").is_current
    assert list((asked.path / "cache").glob("*.answer")) == []


# -- threads -------------------------------------------------------------------------------


def test_threads_that_ask_at_once_let_one_of_them_compute(
    asked: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, begun, go_on = [], threading.Event(), threading.Event()
    make = Session._make

    def slowly(session: Session, connection: object, view: View) -> LastAnswer:
        made.append(threading.get_ident())
        begun.set()
        assert go_on.wait(30)
        return make(session, connection, view)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "_make", slowly)
    session, view, answers = asked.session, asked.views["counts"], []
    threads = [
        threading.Thread(target=lambda: answers.append(session.answer(view)[0])) for _ in range(4)
    ]
    threads[0].start()
    assert begun.wait(30)
    for thread in threads[1:]:
        thread.start()
    # One that has less time than the first waits no longer than that.
    with session.until(Stop(0.1)), pytest.raises(QueryTimeoutError):
        session.answer(view)
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert len(made) == 1
    assert len(answers) == 4
    assert all(answer is answers[0] for answer in answers)


def test_a_thread_that_fails_leaves_the_work_to_the_next() -> None:
    flights: Flights[int] = Flights()
    begun, fail, found = threading.Event(), threading.Event(), []

    def failing() -> int:
        begun.set()
        fail.wait(30)
        raise QueryError("not here")

    def first() -> None:
        with pytest.raises(QueryError, match="not here"):
            flights.make("k", failing)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert begun.wait(30)
    threads.append(threading.Thread(target=lambda: found.append(flights.make("k", lambda: 7))))
    threads[1].start()
    fail.set()
    for thread in threads:
        thread.join(30)
    assert found == [7]
    assert flights.make("k", lambda: 8) == 8


def test_what_is_kept_of_windows_stands_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playhead.serving.answers._ALL_BYTES", 2_000)
    answers, errors = Answers(), []
    table = pa.table({"n": pa.array(range(100), pa.int64())})

    def ask(first: int) -> None:
        try:
            for number in range(first, first + 300):
                answers.keep(number % 7, None, table)
                answers.get((number + 3) % 7, None)
        except KeyError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []


# -- made beforehand -----------------------------------------------------------------------


def _warm(opened: SmallWorkspace, stop: threading.Event, **options: float) -> list[str]:
    told: list[str] = []
    warming.warm(opened.session, opened.views.values(), stop, told.append, **options)
    return told


def test_slow_and_unknown_answers_are_made_beforehand(
    asked: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lastanswers, "SLOW_S", 1e6)
    asked.view("windows")
    monkeypatch.setattr(lastanswers, "SLOW_S", -1.0)
    monkeypatch.setattr(warming, "SLOW_S", 1e3)
    assert _warm(asked, threading.Event()) == ["counts", "countries"]
    with _again(asked) as other:
        assert _last(other, "counts").is_current
        assert other.last_view("windows") is None


def test_a_view_without_an_answer_is_passed_over(opened: SmallWorkspace) -> None:
    load(opened, watches(3, start=50))
    assert _warm(opened, threading.Event()) == list(NAMES)
    assert [opened.last_view(name) for name in NAMES] == [None] * 3


def test_a_failing_view_does_not_keep_the_others_from_being_made(
    asked: SmallWorkspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    remember = Session.remember

    def failing(session: Session, view: View) -> bool:
        if view.name == "counts":
            raise QueryError("a value is wrong")
        return remember(session, view)

    monkeypatch.setattr(Session, "remember", failing)
    with caplog.at_level(logging.WARNING):
        _warm(asked, threading.Event())
    assert "no answer of counts to keep: a value is wrong" in caplog.text
    assert _last(asked, "windows").is_current


def test_what_is_too_large_or_too_slow_is_not_tried_again_for_a_day(
    asked: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _warm(asked, threading.Event(), view_s=0) == list(NAMES)
    assert _warm(asked, threading.Event()) == []
    for file in (asked.path / "cache").glob("*.unkept"):
        os.utime(file, (time.time() - 90_000,) * 2)
    monkeypatch.setattr("playhead.serving.session.LARGEST_BYTES", 20)
    assert _warm(asked, threading.Event()) == list(NAMES)
    assert [asked.last_view(name) for name in NAMES] == [None] * 3
    assert _warm(asked, threading.Event()) == []
    # Whoever asks for it gets it all the same.
    assert_is_full(asked, asked.view("windows"))


def test_warming_ends_when_it_is_told_to(
    asked: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    remember = Session.remember

    def stopped(session: Session, view: View) -> bool:
        stop.set()
        return remember(session, view)

    monkeypatch.setattr(Session, "remember", stopped)
    assert _warm(asked, stop) == ["counts"]
    assert asked.last_view("counts") is None
    assert list((asked.path / "cache").glob("*.unkept")) == []


def test_a_batch_run_of_the_platform_makes_answers(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Running(opened) as layer:
        layer.seal()
    (opened.path / "run").mkdir()
    beats: list[str] = []
    monkeypatch.setattr("playhead.assemble.Workspace", lambda _: _again(opened))
    part = BatchPart(opened.path, beats.append)
    entered: list[str] = []
    monkeypatch.setattr(part, "_enter", entered.append)
    assert part._run("a test", threading.Event())
    assert [stage for stage in entered if stage.startswith("answers")] == [
        f"answers: {name}" for name in NAMES
    ]
    with _again(opened) as other:
        assert all(_last(other, name).is_current for name in NAMES)
    assert part._told().startswith("last run")
