"""The part "states": a machine without the speed layer answers with its live states."""

import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from layers import (
    Running,
    SmallWorkspace,
    assert_merged_is_full,
    load_dimensions,
    send,
    watches,
    workspace,
)
from playhead.config import Settings, SpeedSettings
from playhead.errors import LakeError, SettingError, StateError, WorkspaceBusyError
from playhead.platform import states
from playhead.platform.parts import parts_to_run
from playhead.speed.replica import Look

VIEWS = ("counts", "windows", "countries")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SmallWorkspace]:
    """Where the speed layer runs, with its state in the lake."""
    with workspace(tmp_path / "a", *VIEWS) as opened, opened.shared_state() as state:
        opened.__dict__["state"] = state
        load_dimensions(opened)
        yield opened


@pytest.fixture
def reader(tmp_path: Path, writer: SmallWorkspace) -> Iterator[SmallWorkspace]:
    """Another machine with the same lake and event log."""
    with workspace(tmp_path / "b", *VIEWS) as opened:
        opened.log.close()
        opened.__dict__.update(lake=writer.lake, log=writer.log)
        yield opened


def follow(opened: SmallWorkspace) -> list[Look]:
    """Follow until there is no more."""
    stop, looks = threading.Event(), list[Look]()

    def on_look(look: Look) -> None:
        looks.append(look)
        if not look.taken:
            stop.set()

    opened.follow_states(stop, on_look)
    return looks


def alerts(opened: SmallWorkspace) -> list[tuple[str, str, datetime]]:
    return [(one.alert_id, one.level, one.window_start) for one in opened.state.alerts()]


def test_another_machine_answers_with_live_states(
    writer: SmallWorkspace, reader: SmallWorkspace
) -> None:
    assert follow(reader)[0].waiting
    running = Running(writer)
    with running as layer, writer.state.telling():
        send(writer, watches(40))
        running.catch_up()
        assert layer.judge()
    assert follow(reader)[0].taken
    assert_merged_is_full(reader)
    assert alerts(reader) == alerts(writer) != []
    running = Running(writer)
    with running as layer, writer.state.telling():
        layer.seal()
        send(writer, watches(10, start=40))
        running.catch_up()
    writer.batch()
    assert follow(reader)
    assert_merged_is_full(reader)
    # What the batch layer covers is dropped here, too.
    assert {epoch for epoch, _ in reader.state.epochs()} == {2}
    assert reader.state.sizes() == writer.state.sizes()
    assert reader.view("counts").to_arrow().equals(writer.view("counts").to_arrow())


def test_who_lost_the_speed_layer_stops(writer: SmallWorkspace, reader: SmallWorkspace) -> None:
    running = Running(writer)
    with running as layer:
        send(writer, watches(5))
        running.catch_up()
        with reader.shared_state() as state:
            reader.__dict__["state"] = state
            other = Running(reader)
            with other:
                send(writer, watches(5, start=5))
                with pytest.raises(StateError, match="took over the journal"):
                    layer.step()
                assert other.catch_up() == 5
            assert_merged_is_full(reader)


def test_the_part_says_how_far_behind_it_is(
    writer: SmallWorkspace, reader: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Running(writer):
        send(writer, watches(5))
    said: list[tuple[str, dict[str, float]]] = []
    stop = threading.Event()
    tries = [WorkspaceBusyError("another speed layer runs"), LakeError("no catalog")]

    def opened(_: Path) -> SmallWorkspace:
        if tries:
            raise tries.pop(0)
        return reader

    def beat(health: str, **figures: float) -> None:
        said.append((health, figures))
        if health.startswith("0 operations"):
            stop.set()

    monkeypatch.setattr(states, "Workspace", opened)
    monkeypatch.setattr(states, "RETRY_S", 0)
    states.run_states(reader.path, stop, beat)
    assert [health for health, _ in said] == [
        "waits: another speed layer runs",
        "waits: no catalog",
        "0 operations behind",
    ]
    assert said[-1][1].keys() == {"behind", "behind_s"}


def test_waiting_is_told_with_its_seconds() -> None:
    said: list[str] = []

    def beat(health: str, **_: float) -> None:
        said.append(health)

    distance = states._Distance(beat)
    distance.look(Look(3, behind=1200))
    distance.look(Look(waiting="no catalog"))
    assert said == ["1,200 operations behind", "waits for 0 s: no catalog"]


def test_machines_that_read_states_and_do_not_make_them_bring_them_here(tmp_path: Path) -> None:
    on_spark = Settings(speed=SpeedSettings(engine="spark"))

    def names(*kinds: str, settings: Settings = on_spark) -> set[str]:
        return {part.kind for part in parts_to_run(tmp_path, settings, kinds)}

    assert "states" not in names()
    assert names("gateway") == {"gateway"}
    assert names("speed", "batch") == {"speed", "batch"}
    assert names("api") == {"api", "states"}
    assert names("api", "states") == {"api", "states"}
    assert names("states") == {"states"}
    assert names("api", settings=Settings()) == {"api"}
    with pytest.raises(SettingError, match="no part 'states'"):
        names("states", settings=Settings())
