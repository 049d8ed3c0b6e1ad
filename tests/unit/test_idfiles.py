"""Ids kept in files: a start that finds them counts nothing twice, and nothing too little."""

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from layers import Running, SmallWorkspace, counted, load, send, watches, workspace
from playhead.clock import ManualClock
from playhead.speed import idfiles
from playhead.speed.background import Background
from playhead.speed.dedupe import SeenEvents
from playhead.speed.idfiles import IdFiles, IdKeeper, Remembered
from playhead.speed.layer import SpeedLayer
from playhead.speed.recall import Recaller
from playhead.speed.state import StateStore

T0 = datetime(2025, 1, 1)
NOW = datetime(2026, 1, 1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def opened(tmp_path: Path, clock: ManualClock) -> Iterator[SmallWorkspace]:
    made = workspace(tmp_path / "w", "counts", clock=clock)
    yield made
    made.close()


def remembered(*batches: range, window: timedelta = timedelta(hours=24)) -> Remembered:
    seen = SeenEvents(window=window)
    for hour, numbers in enumerate(batches):
        seen.add(pa.array([f"e{n}" for n in numbers]), T0 + timedelta(hours=hour))
    return Remembered(seen.runs, {0: 7, 1: 3}, 2)


def running(opened: SmallWorkspace) -> Running:
    return Running(opened, ids_folder=opened.path / "ids", max_events=7)


def repeats(layer: SpeedLayer) -> int:
    """Take in all that waits; how many events were dropped as repeats."""
    dropped = 0
    while (step := layer.step()).events:
        dropped += step.duplicates
    return dropped


# -- the files ---------------------------------------------------------------------------------


def test_what_is_kept_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idfiles, "_SMALL_IDS", 10)
    kept = remembered(range(50), range(50, 53), range(60, 64), range(70, 75))
    IdFiles(tmp_path / "ids").keep("playback", kept, "me")
    # The first two small runs are one file, the last came too long after them.
    assert len(list((tmp_path / "ids").glob("*.ids"))) == 3
    found = IdFiles(tmp_path / "ids").load("playback", "me", NOW)
    assert found is not None
    assert (found.next, found.loads) == (kept.next, kept.loads)
    hours = [(T0 - run.arrived) // timedelta(hours=-1) for run in found.runs]
    assert hours == [0, 2, 3]
    ages = [(NOW - run.oldest, NOW - run.newest) for run in found.runs]
    assert [(first.seconds // 3600, last.seconds // 3600) for first, last in ages] == [
        (3, 3),
        (2, 1),
        (0, 0),
    ]
    seen = SeenEvents(window=timedelta(hours=24))
    seen.restore(found.runs)
    ids = pa.array([f"e{n}" for n in (0, 49, 51, 63, 54, 64)])
    assert seen.unseen(ids).mask.tolist() == [False, False, False, False, True, True]
    assert len(seen) == 62


def test_files_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idfiles, "_SMALL_IDS", 10)
    files, kept = IdFiles(tmp_path), remembered(range(50))
    files.keep("playback", kept, "me")
    (first,) = tmp_path.glob("*.ids")
    more = Remembered([*kept.runs, *remembered(range(100, 120)).runs], {0: 9, 1: 9}, 2)
    files.keep("playback", more, "me")
    assert first in set(tmp_path.glob("*.ids"))
    files.keep("playback", Remembered(more.runs[1:], {0: 9, 1: 9}, 2), "me")
    assert first not in set(tmp_path.glob("*.ids"))
    again = IdFiles(tmp_path)
    found = again.load("playback", "me", NOW)
    assert found is not None
    before = set(tmp_path.iterdir())
    again.keep("playback", found, "another")
    assert set(tmp_path.iterdir()) == before


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


HARM: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-8]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("kind", ["*.ids", "*.json"])
def test_damage_is_not_believed(tmp_path: Path, kind: str, harm: str) -> None:
    IdFiles(tmp_path).keep("playback", remembered(range(50)), "me")
    (path,) = tmp_path.glob(kind)
    HARM[harm](path)
    assert IdFiles(tmp_path).load("playback", "me", NOW) is None


def test_another_owners_files_are_not_believed(tmp_path: Path) -> None:
    IdFiles(tmp_path).keep("playback", remembered(range(5)), "me")
    assert IdFiles(tmp_path).load("playback", "another", NOW) is None
    assert IdFiles(tmp_path).load("playback", None, NOW) is None
    assert IdFiles(tmp_path).load("search", "me", NOW) is None


def test_a_folder_that_takes_nothing_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ids").write_text("no folder")
    files = IdFiles(tmp_path / "ids")
    for _ in range(3):
        files.keep("playback", remembered(range(5)), "me")
    assert caplog.text.count("are not kept") == 1


def test_the_last_of_several_wishes_is_written(tmp_path: Path) -> None:
    keeper = IdKeeper(IdFiles(tmp_path))
    with Background("ids", keeper.write) as keeping:
        for end in range(1, 30):
            keeper.want("playback", remembered(range(end)), "me")
            keeper.want("search", remembered(range(end)), "me")
            keeping.wake()
    for topic in ("playback", "search"):
        found = IdFiles(tmp_path).load(topic, "me", NOW)
        assert found is not None
        assert sum(map(len, found.runs)) == 29
    assert len(list(tmp_path.iterdir())) == 4


def test_runs_may_be_read_only(tmp_path: Path) -> None:
    """Merging restored runs must not write into them."""
    kept = remembered(range(5))
    for run in kept.runs:
        run.first.flags.writeable = run.second.flags.writeable = False
    seen = SeenEvents(window=timedelta(hours=24))
    seen.restore(kept.runs)
    for number in range(40):
        seen.add(pa.array([f"x{number}"]), NOW)
    assert np.all(np.diff(seen.runs[0].first.astype(object)) > 0)


# -- a start -----------------------------------------------------------------------------------


def no_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise AssertionError("ids were recalled although they are kept")

    monkeypatch.setattr(Recaller, "recall", refuse)


def test_a_start_needs_nothing_but_the_files_and_what_came_after(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = running(opened)
    send(opened, watches(20))
    first.catch_up()
    first.layer.seal()
    send(opened, watches(10, start=20))
    first.catch_up()
    load(opened, watches(5, start=40))
    opened.batch()
    no_recall(monkeypatch)
    with running(opened) as layer:
        assert len(layer._topics["playback"].seen or ()) == 35
        send(opened, watches(50))
        assert repeats(layer) == 35
        layer.seal()
    opened.batch()
    assert counted(opened) == 50


def test_what_is_kept_ends_with_the_window(
    opened: SmallWorkspace, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = running(opened)
    for hour in range(3):
        send(opened, watches(4, start=10 * hour))
        first.catch_up()
        clock.advance(timedelta(hours=10))
    first.layer.seal()
    # Restarts make nothing younger: what came first is 30 hours old.
    no_recall(monkeypatch)
    for _ in range(2):
        again = running(opened)
        again.layer.seal()
    send(opened, watches(4, start=50))
    with running(opened) as layer:
        send(opened, [*watches(4), *watches(4, start=10), *watches(4, start=20)])
        assert repeats(layer) == 8


def test_after_a_silence_the_last_events_are_known(
    opened: SmallWorkspace, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = running(opened)
    send(opened, watches(4))
    first.catch_up()
    first.layer.seal()
    clock.advance(timedelta(hours=100))
    no_recall(monkeypatch)
    with running(opened) as layer:
        send(opened, watches(4))
        assert layer.step().duplicates == 4


def test_an_older_copy_of_the_state_takes_its_events_again(opened: SmallWorkspace) -> None:
    """What the files remember is not counted in that copy: dropping it would lose events."""
    first = running(opened)
    send(opened, watches(5))
    first.catch_up()
    copy = opened.path / "copy.db"
    with closing(sqlite3.connect(opened.path / "state.db")) as source:
        source.execute("VACUUM INTO ?", (str(copy),))
    send(opened, watches(5, start=5))
    first.catch_up()
    first.layer._memory.keep(first.layer._topics["playback"])
    opened.state.close()
    for suffix in ("-wal", "-shm"):
        (opened.path / f"state.db{suffix}").unlink(missing_ok=True)
    shutil.move(copy, opened.path / "state.db")
    opened.__dict__["state"] = StateStore(opened.path / "state.db")
    with running(opened) as layer:
        assert repeats(layer) == 0
    assert counted(opened) == 10


@pytest.mark.parametrize("seed", range(6))
def test_restarts_at_any_moment_count_each_event_once(opened: SmallWorkspace, seed: int) -> None:
    chance = random.Random(seed)
    sent: set[int] = set()
    one = running(opened)
    for _ in range(25):
        if chance.random() < 0.4:
            one.__exit__()
            one = running(opened)
        if chance.random() < 0.15:
            damaged = chance.choice(list((opened.path / "ids").glob("*")) or [opened.path / "x"])
            if damaged.exists():
                HARM[chance.choice(list(HARM))](damaged)
        numbers = [chance.randrange(60) for _ in range(chance.randrange(8))]
        sent.update(numbers)
        for number in numbers:
            send(opened, watches(1, start=number))
        one.layer.step()
        if chance.random() < 0.3:
            one.layer._memory.keep(one.layer._topics["playback"])
        if chance.random() < 0.2:
            one.layer.seal()
    one.catch_up()
    assert counted(opened) == len(sent)
    one.__exit__()
