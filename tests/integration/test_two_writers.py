"""Two of everything at once: one gives way, and nothing is doubled."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layers import (
    Running,
    SmallWorkspace,
    assert_merged_is_full,
    counted,
    load_dimensions,
    rows,
    send,
    watch_line,
    watches,
    workspace,
    write_files,
)
from playhead.batch.load import Loader
from playhead.errors import LakeConflictError, StateError, WorkspaceBusyError
from playhead.speed.seal import Sealer
from stages import VIEWS, appenders, speed_process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "w"
    with workspace(made, *VIEWS) as opened:
        load_dimensions(opened)
    return made


def in_threads(*works: Callable[[], object]) -> list[BaseException | None]:
    """Run them at once; the error of each."""
    errors: list[BaseException | None] = [None] * len(works)
    ready = threading.Barrier(len(works))

    def run(place: int, work: Callable[[], object]) -> None:
        ready.wait()
        try:
            work()
        except BaseException as error:
            errors[place] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def settle(opened: SmallWorkspace, events: int) -> None:
    opened.speed(drain=True)
    opened.batch()
    assert_merged_is_full(opened)
    assert counted(opened) == events
    ids = rows(opened, "SELECT COUNT(*) AS n, COUNT(DISTINCT event_id) AS ids FROM playback")
    assert ids == [{"n": events, "ids": events}]


def test_a_second_speed_layer_is_refused(path: Path) -> None:
    with speed_process(path) as process, workspace(path, *VIEWS) as opened:
        with pytest.raises(WorkspaceBusyError, match=rf"another speed layer .*{process.pid}"):
            opened.speed(drain=True)
        send(opened, watches(20))
        process.terminate()
        process.join(60)
        settle(opened, 20)


def test_a_second_batch_run_or_load_is_refused(path: Path) -> None:
    with workspace(path, *VIEWS) as opened, opened._role("batch"), opened._role("load"):
        with pytest.raises(WorkspaceBusyError, match="another batch runs"):
            opened.batch()
        with pytest.raises(WorkspaceBusyError, match="another load runs"):
            opened.load(path.parent)


def test_the_fencing_token_stops_the_first_of_two_speed_layers(path: Path) -> None:
    """The lock file was deleted, say: the state itself lets only the newer one write."""
    with workspace(path, *VIEWS) as opened, workspace(path, *VIEWS) as other:
        send(opened, watches(20))
        first = Running(opened, max_events=5)
        with first as layer:
            layer.step()
            second = Running(other, max_events=5)
            with second as newer:
                newer.step()
                for attempt in (layer.step, layer.seal):
                    send(opened, watches(5, start=100))
                    with pytest.raises(StateError, match="another speed layer took over"):
                        attempt()
                second.catch_up()
                newer.seal()
                assert_merged_is_full(other)
        settle(other, 25)


def test_two_speed_layers_seal_one_epoch_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is about to append an epoch when the second takes over and appends it, too."""
    with workspace(path, *VIEWS) as opened, workspace(path, *VIEWS) as other:
        send(opened, watches(20))
        running = Running(opened)
        with running as layer:
            running.catch_up()
            append, seconds = Sealer._append, []

            def overtaken(self: Sealer, *args: Any) -> None:
                if not seconds:
                    seconds.append(None)
                    seconds.append(Running(other))
                append(self, *args)

            monkeypatch.setattr(Sealer, "_append", overtaken)
            with pytest.raises(StateError, match="another speed layer took over"):
                layer.seal()
            assert other.lake.rows("raw.playback") == 20
            seconds[1].__exit__()
        settle(other, 20)


def test_two_batch_runs_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lock: one may have to start over, and the states are right."""
    monkeypatch.setattr("playhead.lock.RoleLock.acquire", lambda self: None)
    with workspace(path, *VIEWS) as opened, workspace(path, *VIEWS) as other:
        send(opened, watches(40))
        opened.speed(drain=True)
        for error in in_threads(opened.batch, other.batch):
            assert error is None or isinstance(error, LakeConflictError)
        settle(opened, 40)
        for error in in_threads(lambda: opened.batch(full=True), lambda: other.batch(full=True)):
            assert error is None or isinstance(error, LakeConflictError)
        settle(opened, 40)


def test_two_loads_of_one_file_at_once(path: Path) -> None:
    files = write_files(
        path.parent / "files",
        {"watch_history": [watch_line(number, user=number % 7) for number in range(50)]},
    )

    def load(opened: SmallWorkspace) -> None:
        with opened._connect() as connection:
            Loader(opened.lake, connection, opened.clock).load(files).check()

    with workspace(path, *VIEWS) as opened, workspace(path, *VIEWS) as other:
        assert in_threads(lambda: load(opened), lambda: load(other)) == [None, None]
        assert opened.lake.rows("raw.playback") == 50
        assert int(opened.lake.properties("raw.playback")["playhead.load"]) == 1
        settle(opened, 50)


def test_loads_and_batch_runs_beside_a_speed_layer(path: Path) -> None:
    """Files that repeat what the log holds come while the speed layer runs."""
    with speed_process(path) as process, workspace(path, *VIEWS) as opened:
        for turn in range(3):
            first = turn * 20
            send(opened, watches(20, start=first))
            lines = [watch_line(number) for number in range(first + 10, first + 25)]
            folder = write_files(path.parent / f"files{turn}", {"watch_history": lines})
            opened.load(folder).check()
            opened.batch()
        process.terminate()
        process.join(60)
        assert process.exitcode == 0
        settle(opened, 65)


def test_several_appenders_while_speed_and_batch_run(path: Path) -> None:
    with speed_process(path, seal_ms=500) as process, workspace(path, *VIEWS) as opened:
        running = appenders(path, 3, 100)
        seen = 0
        while any(appender.is_alive() for appender in running):
            seen, before = counted(opened), seen
            assert seen >= before
            opened.batch()
        for appender in running:
            appender.join()
            assert appender.exitcode == 0
        process.terminate()
        process.join(60)
        assert process.exitcode == 0
        settle(opened, 300)
