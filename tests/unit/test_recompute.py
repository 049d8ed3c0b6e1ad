"""The batch layer: the days that changed, all of them, and an honest word on how far it reaches."""

from collections.abc import Iterator
from datetime import date
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
    rows,
    send,
    waiting,
    watches,
    workspace,
)
from playhead.batch import dimensions, recompute, states
from playhead.batch.clean import REWRITTEN, clean_topic, rewritten_days
from playhead.batch.recompute import Recomputer, StateCoverage, state_table
from playhead.errors import LakeConflictError
from playhead.views import View

DAY = 24 * 60


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[SmallWorkspace]:
    made = workspace(tmp_path / "w", "counts", "windows", "countries", "sessions")
    load_dimensions(made)
    yield made
    made.close()


def runs(opened: SmallWorkspace, **options: Any) -> dict[str, tuple[str, str, int]]:
    """What a batch run did: by view, status, reason, days."""
    return {r.view: (r.status, r.reason, r.days) for r in opened.batch(**options).views}


def covered(opened: SmallWorkspace, name: str) -> StateCoverage:
    view = opened.views[name]
    found = StateCoverage.of(opened.lake.properties(state_table(view, view.leaves[0])))
    assert found is not None
    return found


def take_in(opened: SmallWorkspace, events: list[Watch]) -> None:
    """Send, take in and seal."""
    running = Running(opened)
    with running as layer:
        send(opened, events)
        running.catch_up()
        layer.seal()


def test_only_days_that_changed_are_recomputed(opened: SmallWorkspace) -> None:
    load(opened, [Watch(i, minute=i * DAY) for i in range(40)])
    assert runs(opened)["counts"] == ("recomputed", "new or changed view", 40)
    assert runs(opened)["counts"] == ("up to date", "", 0)
    take_in(opened, [Watch(100, minute=3 * DAY), Watch(101, minute=3 * DAY), Watch(102, minute=99)])
    assert runs(opened)["counts"] == ("recomputed", "", 2)
    assert covered(opened, "counts") == StateCoverage(1, 1, {})
    assert covered(opened, "countries").dimensions == {"users": 1}
    assert runs(opened, full=True)["counts"] == ("recomputed", "asked for", 40)
    assert_merged_is_full(opened)
    assert counted(opened) == 43


def test_states_of_many_events_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "MARKED_ROWS", 0)
    names = ("counts", "windows", "countries", "sessions", "latest", "monthly_engagement")
    with workspace(tmp_path / "w", *names) as opened:
        load_dimensions(opened)
        load(opened, [Watch(i, minute=i * DAY / 3, user=i % 5) for i in range(300)])
        opened.batch()
        assert_merged_is_full(opened)
        take_in(opened, [Watch(500 + i, minute=i * DAY, user=i % 9) for i in range(40)])
        opened.batch()
        assert_merged_is_full(opened)


def test_an_epoch_of_another_topic_moves_the_coverage_alone(opened: SmallWorkspace) -> None:
    from layers import searches

    load(opened, watches(3))
    opened.batch()
    running = Running(opened)
    with running as layer:
        opened.log.append("search", searches(range(2)))
        running.catch_up()
        layer.seal()
    assert runs(opened)["counts"] == ("up to date", "", 0)
    assert covered(opened, "counts").epoch == 1


def test_changed_dimensions_make_a_full_run(opened: SmallWorkspace) -> None:
    load(opened, [Watch(i, minute=i * DAY) for i in range(3)])
    opened.batch()
    load_dimensions(opened, spend=20)
    assert runs(opened)["countries"] == ("recomputed", "users changed", 3)
    assert runs(opened)["countries"][0] == "up to date"
    load_dimensions(opened, spend=20)
    assert runs(opened)["countries"][0] == "up to date"
    assert_merged_is_full(opened)


def test_a_row_that_moves_to_another_day_leaves_its_old_one(opened: SmallWorkspace) -> None:
    """The log had the event first, on another day than the file that was loaded and covered."""
    running = Running(opened)
    with running as layer:
        send(opened, [Watch(1, minute=2 * DAY)])
        load(opened, [Watch(1, minute=0), Watch(2, minute=0)])
        opened.batch()
        assert counted(opened) == 2
        # The event of the log was there before the load, so it is the one that stays.
        running.catch_up()
        layer.seal()
        assert runs(opened)["counts"] == ("recomputed", "", 2)
    assert [row["t"].date() for row in rows(opened, "SELECT event_time AS t FROM playback")] == [
        T0.date(), date(2025, 4, 2),
    ]  # fmt: skip
    assert counted(opened) == 2
    assert_merged_is_full(opened)


def test_rewritten_days_are_noted_until_every_state_has_seen_them(opened: SmallWorkspace) -> None:
    running = Running(opened)
    with running as layer:
        send(opened, [Watch(1, minute=2 * DAY)])
        load(opened, [Watch(1, minute=0), Watch(2, minute=0)])
        running.catch_up()
        layer.seal()
        opened.batch()
    properties = opened.lake.properties("clean.playback")
    assert REWRITTEN in properties
    day = T0.date()
    assert rewritten_days(properties, epoch=0, load=0) == {day}
    assert rewritten_days(properties, epoch=0, load=1) == {day}
    assert rewritten_days(properties, epoch=1, load=1) == set()
    assert rewritten_days({}, epoch=0, load=0) == set()


def test_what_is_sealed_during_a_run_is_covered_or_left_whole(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run asks how far the epochs are; then one more is sealed, and cleaned with the rest."""
    take_in(opened, watches(3))
    running = Running(opened)
    with running as layer:
        send(opened, watches(3, start=3))
        running.catch_up()
        asked = type(opened.state).sealed_epoch
        sealed = []

        def then_sealed(self: Any) -> int:
            epoch = asked(self)
            sealed.append(layer.seal())
            return epoch

        monkeypatch.setattr(type(opened.state), "sealed_epoch", then_sealed)
        assert opened.batch().epoch == 1
        assert sealed[0] == 2
    assert covered(opened, "counts").epoch == 2
    assert counted(opened) == 6
    assert_merged_is_full(opened)


def test_what_is_loaded_during_a_run_waits(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(opened, watches(3))
    write = Recomputer._plan
    loaded = []

    def then_loaded(self: Recomputer, *args: Any, **kwargs: Any) -> Any:
        if not loaded:
            loaded.append(load(opened, watches(3, start=3)))
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Recomputer, "_plan", then_loaded)
    opened.batch()
    assert covered(opened, "counts").load == 1
    assert "load 2 waits" in waiting(opened, "counts")
    opened.batch()
    assert counted(opened) == 6
    assert_merged_is_full(opened)


def test_users_that_change_during_a_run_are_no_part_of_it(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(opened, watches(3))
    write = Recomputer._plan
    changed = []

    def then_changed(self: Recomputer, *args: Any, **kwargs: Any) -> Any:
        if not changed:
            changed.append(load_dimensions(opened, spend=50))
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Recomputer, "_plan", then_changed)
    opened.batch()
    assert covered(opened, "countries").dimensions == {"users": 1}
    assert opened.view("countries").coverage[0].mixed
    assert runs(opened)["countries"][1] == "users changed"
    assert_merged_is_full(opened)


def recomputed(opened: SmallWorkspace) -> None:
    with opened._connect() as connection:
        clean_topic(opened.lake, connection, "playback")
        views = opened.views.values()
        Recomputer(opened.lake, connection).run(views, epoch=opened.state.sealed_epoch())


@pytest.mark.parametrize("nothing_new", [True, False])
def test_a_slower_run_never_takes_coverage_back(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch, nothing_new: bool
) -> None:
    """Two runs at once, though the lock forbids it: the one that is behind gives up."""
    load(opened, watches(3))
    opened.batch()
    if not nothing_new:
        load(opened, watches(3, start=3))
    other = Recomputer._changed
    overtaken = []

    def then_overtaken(self: Recomputer, *args: Any) -> Any:
        days = other(self, *args)
        if not overtaken:
            overtaken.append(True)
            load(opened, watches(3, start=6))
            recomputed(opened)
        return days

    take_in(opened, [] if not nothing_new else watches(1, start=0))
    with monkeypatch.context() as patch:
        patch.setattr(Recomputer, "_changed", then_overtaken)
        with pytest.raises(LakeConflictError, match="covered it first"):
            recomputed(opened)
    opened.batch()
    assert_merged_is_full(opened)
    assert counted(opened) == (6 if nothing_new else 9)


def test_states_of_views_that_are_gone_are_dropped(opened: SmallWorkspace) -> None:
    load(opened, watches(3))
    opened.batch()
    assert len(opened.lake.tables("state")) == 4
    changed = View.parse("counts", "SELECT COUNT(*) AS events FROM playback")
    opened.__dict__["views"] = {"counts": changed, "windows": opened.views["windows"]}
    opened.__dict__.pop("session", None)
    assert "not built yet: load 1 waits" in waiting(opened, "counts")
    assert runs(opened) == {
        "counts": ("recomputed", "new or changed view", 1),
        "windows": ("up to date", "", 0),
    }
    assert len(opened.lake.tables("state")) == 2
    assert counted(opened) == 3


def test_a_view_that_is_added_waits_for_its_past(tmp_path: Path) -> None:
    path = tmp_path / "w"
    with workspace(path, "counts") as opened:
        take_in(opened, watches(3))
        send(opened, watches(3, start=3))
        running = Running(opened)
        with running:
            running.catch_up()
    with workspace(path, "counts", "windows") as opened:
        assert counted(opened) == 6
        assert "not built yet: epochs 1 to 2 wait" in waiting(opened, "windows")
        with Running(opened):
            # The speed layer closes the epoch that the view would have missed a part of.
            assert opened.state.sealed_epoch() == 2
        take_in(opened, watches(3, start=6))
        assert "not built yet: epochs 1 to 2 wait" in waiting(opened, "windows")
        opened.batch()
        assert_merged_is_full(opened)
        assert counted(opened) == 9
    with workspace(path, "windows") as opened, Running(opened):
        opened.batch()
        assert all("windows" in name for name in opened.state.registered())
        assert all("windows" in name for name in opened.lake.tables("state"))


def test_a_view_that_batch_built_needs_the_speed_layer_to_know_it(tmp_path: Path) -> None:
    path = tmp_path / "w"
    with workspace(path, "counts") as opened, Running(opened) as layer:
        send(opened, watches(3))
        layer.step()
        layer.seal()
        with workspace(path, "counts", "windows") as newer:
            newer.batch()
            assert_merged_is_full(newer)
            send(opened, watches(3, start=3))
            layer.step()
            assert counted(newer) == 6
            told = waiting(newer, "windows")
            assert "a gap: epoch 2 of playback is in neither" in told
            assert "speed layer has to be started again" in told


# -- files that are gone -------------------------------------------------------------------


def forget_state(opened: SmallWorkspace) -> SmallWorkspace:
    """The same workspace without its state file."""
    opened.close()
    for file in opened.path.glob("state.db*"):
        file.unlink()
    return workspace(opened.path, *opened.names)


def test_a_lost_state_file_is_a_gap_until_the_next_run(opened: SmallWorkspace) -> None:
    take_in(opened, watches(3))
    opened.batch()
    take_in(opened, watches(3, start=3))
    send(opened, watches(3, start=6))
    opened = forget_state(opened)
    assert "a gap: epoch 2 of playback" in waiting(opened, "counts")
    take_in(opened, watches(3, start=9))
    # Numbers go on after the lake's, offsets after what it holds.
    assert opened.state.sealed_epoch() == 3
    assert "a gap: epoch 2 of playback" in waiting(opened, "counts")
    take_in(opened, watches(3, start=12))
    assert "a gap: epoch 2 of playback" in waiting(opened, "counts")
    opened.batch()
    assert counted(opened) == 15
    assert_merged_is_full(opened)
    opened.close()


@pytest.mark.parametrize("full", [True, False])
def test_a_batch_run_without_the_state_file(opened: SmallWorkspace, full: bool) -> None:
    take_in(opened, watches(3))
    take_in(opened, watches(3, start=3))
    opened.batch()
    opened = forget_state(opened)
    opened.batch(full=full)
    assert covered(opened, "counts").epoch == 2
    assert counted(opened) == 6
    assert_merged_is_full(opened)
    take_in(opened, watches(3, start=6))
    assert counted(opened) == 9
    assert_merged_is_full(opened)
    opened.batch(full=full)
    assert counted(opened) == 9
    assert_merged_is_full(opened)
    opened.close()


# -- what need not be done -----------------------------------------------------------------


def test_small_files_of_a_bucket_are_put_together(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recompute, "_SMALL_FILES", 2)
    view = opened.views["counts"]
    table = state_table(view, view.leaves[0])
    files = []
    for number in range(4):
        load(opened, watches(2, start=2 * number, minute=DAY))
        opened.batch()
        files.append(len(opened.lake.snapshot(table).files))
    assert files == [1, 2, 1, 2]
    assert counted(opened) == 8
    assert_merged_is_full(opened)


def test_rating_pairs_are_made_again_for_new_ratings_only(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(opened, watches(3))
    opened.batch()
    made: list[str] = []
    monkeypatch.setattr(dimensions, "replace_dimension", lambda *_args, **_: made.append("again"))
    opened.batch()
    assert made == []
