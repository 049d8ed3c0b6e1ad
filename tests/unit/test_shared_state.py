"""Live states in the lake: one order of changes for all machines, each change once."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from journals import T0, TOPIC, Machine, alert, micro_batch
from playhead.errors import LakeError, StateError, WorkspaceError
from playhead.lake import Lake
from playhead.speed import shared
from playhead.speed.changes import heard
from playhead.speed.journal import TABLE, Journal
from playhead.speed.records import Position
from playhead.speed.replica import Look, Replica
from playhead.speed.shared import BATCH, OFFSETS, SharedState
from playhead.speed.state import StateStore


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(tmp_path / "lake") as opened:
        yield opened


@pytest.fixture
def machine(tmp_path: Path, lake: Lake) -> Iterator[Callable[[str], Machine]]:
    machines: dict[str, Machine] = {}

    def named(name: str) -> Machine:
        return machines.setdefault(name, Machine(tmp_path / name, lake))

    yield named
    for one in machines.values():
        one.close()


def begun(one: Machine) -> SharedState:
    """A writer that owns the state, has a state `s` and knows where its topic starts."""
    store = one.writer()
    store.own()
    if not store.registered():
        store.register(["s"])
        store.begin({TOPIC: {0: 0, 1: 0}})
    return store


class DeathError(Exception):
    """The process dies here."""


def crash(*_: Any, **__: Any) -> None:
    raise DeathError


def crash_after_append(monkeypatch: pytest.MonkeyPatch) -> None:
    """Die when the lake has a change, and the file has it not yet."""
    told = Journal.append

    def append(self: Journal, *args: Any, **more: Any) -> bool:
        told(self, *args, **more)
        raise DeathError

    monkeypatch.setattr(Journal, "append", append)


def test_another_machine_makes_the_same_state_of_the_journal(
    machine: Callable[[str], Machine], lake: Lake
) -> None:
    store, other = begun(machine("a")), machine("b")
    store.commit(micro_batch(store, 5, 1, 2), label="batch 1")
    assert other.look() == 5  # the base, the owner, a state, a topic and the micro-batch
    assert other.holds() == machine("a").holds()
    properties = lake.properties(TABLE)
    assert (properties[OFFSETS], properties[BATCH]) == ('{"playback": {"0": 5}}', "batch 1")
    new = store.raise_alerts("v", [T0 + timedelta(hours=2)], [alert(1), alert(2)])
    store.published(new, {0: 2})
    assert store.raise_alerts("v", [], [alert(1), alert(2, '{"x": 1}')])[0].revision == 1
    assert store.cut() == 1
    store.register(["t"])
    store.sealed(1)
    store.unregister(["s"])
    store.commit(micro_batch(store, 9, 3, states=("t",), late=1))
    assert other.look() == 8
    assert other.holds() == machine("a").holds()
    assert other.holds()["rows"] == {("t", 2): [3]}
    store.rebase({TOPIC: (4, Position({0: 0, 1: 0}, {0: 11, 1: 2}))})
    assert other.look() == 1
    assert other.holds() == machine("a").holds()
    assert [epoch for epoch, *_ in other.holds()["epochs"]] == [4, 5]


def test_a_look_without_news_asks_the_catalog_and_nothing_else(
    machine: Callable[[str], Machine], lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = machine("b").replica()
    assert replica.look().waiting
    begun(machine("a"))
    assert replica.look() == Look(2)
    for name in ("snapshot", "scan", "draft"):
        monkeypatch.setattr(Lake, name, crash)
    assert replica.look() == Look()


def test_few_at_a_time_is_told_as_being_behind(machine: Callable[[str], Machine]) -> None:
    store = begun(machine("a"))
    store.flush()
    replica = machine("b").replica()
    assert replica.look(most=1) == Look(1, behind=3)
    assert replica.look(most=1) == Look(1, behind=2)
    assert replica.look() == Look(2)
    assert machine("b").holds() == machine("a").holds()


def test_who_was_taken_over_commits_nothing_and_catches_up_when_it_starts_again(
    machine: Callable[[str], Machine],
) -> None:
    first = begun(machine("a"))
    first.commit(micro_batch(first, 5, 1))
    second = begun(machine("b"))
    assert second.position(TOPIC).next == {0: 5, 1: 0}
    with pytest.raises(StateError, match="another speed layer took over the journal"):
        first.commit(micro_batch(first, 6, 2))
    with pytest.raises(StateError, match="took over"), first.held():
        pytest.fail("alerts of a layer that was taken over are not published")
    with pytest.raises(StateError, match="took over"):
        first.cut()
    # What it noted meanwhile is nothing that the journal knows: its file is made anew.
    first.raise_alerts("v", [], [alert(1)])
    second.commit(micro_batch(second, 7, 3))
    again = begun(machine("a"))
    assert again.position(TOPIC).next == {0: 7, 1: 0}
    assert again.alerts() == []
    again.commit(micro_batch(again, 8, 4))
    machine("b").look()
    assert machine("b").holds() == machine("a").holds()
    assert machine("b").holds()["rows"] == {("s", 1): [1, 3, 4]}


def test_a_micro_batch_that_only_the_lake_has_counts_once(
    machine: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(machine("a"))
    with monkeypatch.context() as patch:
        crash_after_append(patch)
        with pytest.raises(DeathError):
            store.commit(micro_batch(store, 5, 1, 2))
    assert store.position(TOPIC).next == {0: 0, 1: 0}
    again = begun(machine("a"))
    assert again.position(TOPIC).next == {0: 5, 1: 0}
    again.commit(micro_batch(again, 6, 3))
    machine("b").look()
    for name in "ab":
        assert machine(name).holds()["rows"] == {("s", 1): [1, 2, 3]}
        assert machine(name).holds()["topics"] == [(TOPIC, "2025-01-01 02:00:00", 3, 2, 0)]


def test_what_was_told_and_is_still_in_the_outbox_counts_once(
    machine: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(machine("a"))
    store.raise_alerts("v", [], [alert(1)])
    with monkeypatch.context() as patch:
        crash_after_append(patch)
        with pytest.raises(DeathError):
            store.flush()
    again = begun(machine("a"))
    assert [one.revision for one in again.alerts()] == [0]
    assert not again.flush()
    machine("b").look()
    assert machine("b").holds() == machine("a").holds()


def test_an_outbox_that_was_never_told_is_told_by_the_next_start(
    machine: Callable[[str], Machine],
) -> None:
    store = begun(machine("a"))
    store.raise_alerts("v", [], [alert(1)])
    store.close()
    begun(machine("a"))
    machine("b").look()
    assert [row[0] for row in machine("b").holds()["alerts"]] == ["a1"]


def test_a_lake_that_fell_silent_after_it_had_the_change_is_taken_at_its_word(
    machine: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(machine("a"))
    told = Journal.append

    def append(self: Journal, *args: Any, **more: Any) -> bool:
        told(self, *args, **more)
        raise LakeError("the catalog does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        store.commit(micro_batch(store, 5, 1))
    store.commit(micro_batch(store, 6, 2))
    assert machine("a").holds()["rows"] == {("s", 1): [1, 2]}


def test_a_lake_that_is_away_keeps_nothing_and_the_same_may_be_tried_again(
    machine: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(machine("a"))

    def append(*_: Any, **__: Any) -> bool:
        raise LakeError("the catalog does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        with pytest.raises(LakeError, match="does not answer"):
            store.commit(micro_batch(store, 5, 1))
    store.raise_alerts("v", [], [alert(1)])
    store.commit(micro_batch(store, 5, 1))
    machine("b").look()
    assert machine("b").holds() == machine("a").holds()
    assert machine("b").holds()["rows"] == {("s", 1): [1]}


def test_a_change_that_arrives_in_the_lake_after_all_is_found_out(
    machine: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told as failed, so what read the same events again must not count them twice."""
    store = begun(machine("a"))
    told, late = Journal.append, []

    def append(self: Journal, *args: Any, **more: Any) -> bool:
        late.append(lambda: told(self, *args, **more))
        raise LakeError("the catalog does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        with pytest.raises(LakeError):
            store.commit(micro_batch(store, 5, 1))
    late[0]()
    store.raise_alerts("v", [], [alert(1)])
    with pytest.raises(StateError, match="took over"):
        store.commit(micro_batch(store, 5, 1))
    again = begun(machine("a"))
    assert again.position(TOPIC).next == {0: 5, 1: 0}
    machine("b").look()
    assert machine("b").holds() == machine("a").holds()
    assert machine("b").holds()["rows"] == {("s", 1): [1]}


def test_a_base_takes_the_place_of_the_operations_before_it(
    machine: Callable[[str], Machine], lake: Lake
) -> None:
    store, ahead, behind = begun(machine("a")), machine("b"), machine("c")
    store.commit(micro_batch(store, 5, 1))
    assert ahead.look()
    assert behind.look()
    store.commit(micro_batch(store, 6, 2))
    ahead.look()
    reader = StateStore(behind.path)
    before, since = reader.newest_block(), reader.head("s", TOPIC).since_block
    assert store.shorten()
    assert not store.shorten()
    assert len(lake.snapshot(TABLE).files) == 1
    assert ahead.look() == 0
    assert behind.look() == 1
    assert ahead.holds() == behind.holds() == machine("a").holds()
    head, blocks = reader.snapshot("s", TOPIC)
    # Readers tell blocks apart by their numbers: none is used again.
    assert all(block.number > before for block in blocks)
    assert head.since_block > since
    reader.close()
    store.commit(micro_batch(store, 7, 3))
    assert [ahead.look(), behind.look(), machine("new").look()] == [1, 1, 2]
    for name in ("b", "c", "new"):
        assert machine(name).holds() == machine("a").holds()


def test_a_base_is_without_what_was_pruned(machine: Callable[[str], Machine]) -> None:
    store = begun(machine("a"))
    for number in range(1, 4):
        store.commit(micro_batch(store, number, *range(100_000 * number, 100_000 * (number + 1))))
    assert store.cut() == 1
    store.commit(micro_batch(store, 4, 4))
    store.sealed(1)
    assert store.prune("s", 1) == 3
    with closing(store._file.pinned()) as pinned:
        base = machine("a").folder / "base.db"
        shared.write_base(pinned, base)
    assert base.stat().st_size < 300_000
    assert store.shorten()
    machine("b").look()
    assert machine("b").holds() == machine("a").holds()


def test_what_is_committed_while_a_base_is_written_stays(
    machine: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(machine("a"))
    store.commit(micro_batch(store, 5, 1))
    write = shared.write_base

    def beside(*args: Any) -> None:
        store.commit(micro_batch(store, 6, 2))
        write(*args)

    monkeypatch.setattr(shared, "write_base", beside)
    assert store.shorten()
    assert machine("b").look() == 2
    assert machine("b").holds() == machine("a").holds()


def test_a_base_is_due_when_the_operations_have_outgrown_the_last_one(
    machine: Callable[[str], Machine], lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "BASE_AFTER", 4)
    monkeypatch.setattr(shared, "FORGET_AFTER", 3)
    monkeypatch.setattr(shared, "READ_WITHIN", timedelta(0))
    store = begun(machine("a"))
    store.tend()
    for number in range(1, 5):
        store.commit(micro_batch(store, number, *range(number, 40_000 + number)))
    assert len(lake.snapshot(TABLE).files) > 1
    store.tend()
    assert len(lake.snapshot(TABLE).files) == 1
    files = set(Path(lake.snapshot(TABLE).files[0].path).parents[1].rglob("*.parquet"))
    assert len(files) == 1
    # A base of so many bytes is not outgrown by a few operations, until there are too many files.
    store.commit(micro_batch(store, 5, 1))
    for _ in range(4):
        store.raise_alerts("v", [], [alert(_)])
        store.flush()
    store.tend()
    assert len(lake.snapshot(TABLE).files) == 6
    monkeypatch.setattr(shared, "BASE_AFTER_MOST", 5)
    store.tend()
    assert len(lake.snapshot(TABLE).files) == 1


def test_telling_tells_at_its_end_and_beside(
    machine: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(machine("a"))
    with store.telling():
        store.raise_alerts("v", [], [alert(1)])
    machine("b").look()
    assert len(machine("b").holds()["alerts"]) == 1
    monkeypatch.setattr(shared, "TELL_EVERY", timedelta(milliseconds=4))
    with store.telling():
        store.raise_alerts("v", [], [alert(2)])
        replica = machine("b").replica()
        while not replica.look().taken:
            pass
    assert len(machine("b").holds()["alerts"]) == 2


def test_a_state_of_one_machine_becomes_the_base_of_a_new_journal(
    machine: Callable[[str], Machine], lake: Lake
) -> None:
    alone = StateStore(machine("a").path)
    alone.own()
    alone.register(["s"])
    alone.begin({TOPIC: {0: 0}})
    alone.commit(micro_batch(alone, 5, 1))
    alone.close()
    store = begun(machine("a"))
    store.commit(micro_batch(store, 6, 2))
    machine("b").look()
    assert machine("b").holds()["rows"] == {("s", 1): [1, 2]}
    # The same where the table is gone: the speed layer's machine has it all.
    lake.drop(TABLE)
    begun(machine("a"))
    assert machine("b").look() > 0
    assert machine("new").look() > 0
    assert machine("new").holds() == machine("b").holds() == machine("a").holds()


def test_a_state_that_was_written_to_alone_goes_on_if_nobody_else_has(
    machine: Callable[[str], Machine],
) -> None:
    store = begun(machine("a"))
    store.commit(micro_batch(store, 5, 1))
    machine("b").look()

    def alone() -> None:
        embedded = StateStore(machine("a").path)
        embedded.own()
        embedded.commit(micro_batch(embedded, embedded.position(TOPIC).next[0] + 1, 9))
        embedded.close()

    alone()
    store = begun(machine("a"))
    machine("b").look()
    assert machine("b").holds() == machine("a").holds()
    assert machine("b").holds()["rows"] == {("s", 1): [1, 9]}
    alone()
    other = begun(machine("b"))
    other.commit(micro_batch(other, 7, 3))
    store = begun(machine("a"))
    assert store.position(TOPIC).next == {0: 7, 1: 0}
    machine("b").look()
    assert machine("b").holds() == machine("a").holds()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("crc32", "crc32 + piece", "row 1 of operation 5 is damaged"),
        ("body", "CASE piece WHEN 1 THEN CAST('x' AS BLOB) END", "row 1 of operation 5 is damaged"),
        ("what", "CASE piece WHEN 0 THEN 'x' ELSE what END", "row 0 of operation 5 is damaged"),
        ("piece", "piece + 1", "row 1 of operation 5 stands where row 0"),
        ("pieces", "pieces + 1", "row 2 of operation 5 and what follows is missing"),
        ("seq", "CASE seq WHEN 5 THEN 6 ELSE seq END", "operation 5 is missing, 6 is there"),
    ],
)
def test_bad_bytes_are_an_error_that_names_the_row(
    machine: Callable[[str], Machine], lake: Lake, column: str, value: str, message: str
) -> None:
    store = begun(machine("a"))
    store.commit(micro_batch(store, 5, 1))
    journal = machine("x").journal()
    rows = f"SELECT * REPLACE ((CASE seq WHEN 5 THEN {value} ELSE {column} END) AS {column})"
    lake.overwrite(TABLE, journal._connection, f"{rows} FROM {lake.scan(TABLE)}")
    with pytest.raises(StateError, match=message):
        machine("b").look()
    # What came before is there, and the next base heals the rest.
    assert machine("b").holds()["rows"] == {}
    if column != "seq":
        assert store.shorten()
        machine("b").look()
        assert machine("b").holds() == machine("a").holds()


def test_a_base_of_another_format_is_refused(
    machine: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = shared.write_base

    def newer(pinned: sqlite3.Connection, path: Path) -> None:
        write(pinned, path)
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 99")

    monkeypatch.setattr(shared, "write_base", newer)
    begun(machine("a"))
    with pytest.raises(WorkspaceError, match="has format 99"):
        machine("b").look()


def test_a_change_of_a_newer_playhead_is_named() -> None:
    with pytest.raises(StateError, match="here is a change 'later', which this Playhead"):
        heard("later", "{}", (), "here")
    with pytest.raises(StateError, match="here is no change 'cut'"):
        heard("cut", '{"epoch": 1}', (), "here")


def test_a_replica_waits_while_the_lake_is_away(
    machine: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stop, looks = begun(machine("a")), threading.Event(), list[Look]()
    store.commit(micro_batch(store, 5, 1))
    look = Replica.look

    def away(self: Replica, *, most: int = 500) -> Look:
        if len(looks) == 1:
            raise LakeError("the catalog does not answer")
        return look(self, most=most)

    def on_look(seen: Look) -> None:
        looks.append(seen)
        if len(looks) == 3:
            stop.set()

    monkeypatch.setattr(Replica, "look", away)
    machine("b").replica().follow(stop, on_look)
    assert [one.waiting for one in looks] == ["", "the catalog does not answer", ""]
    assert machine("b").holds() == machine("a").holds()
