"""The speed layer's state: all or nothing, one owner, exact about what it holds."""

import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from playhead.errors import StateError, WorkspaceError
from playhead.speed import blocktable
from playhead.speed.compact import events_part
from playhead.speed.records import (
    Active,
    Alert,
    Crowd,
    Group,
    MicroBatch,
    Part,
    Position,
    Progress,
    Touched,
)
from playhead.speed.state import StateStore

T0 = datetime(2025, 1, 1)


def group(*blocks: int, level: int = 0, closed: bool = False) -> Group:
    return Group(1, level, blocks, len(blocks), closed, "{}")


def merged(*values: int) -> Part:
    return Part(("s",), states(*values), "states")


def states(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64())})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    opened = StateStore(path)
    opened.own()
    opened.register(["s"])
    opened.begin({"playback": {0: 0, 1: 0}})
    yield opened
    opened.close()


def commit(store: StateStore, upto: int, *values: int, dimensions: str = "{}") -> None:
    """One micro-batch: offsets of partition 0 to `upto`, one block of `s`."""
    store.commit(
        MicroBatch(
            store.open_epoch(),
            next_offsets={"playback": {0: upto}},
            parts=[Part(("s",), states(*values), "states")],
            dimensions=dimensions,
            progress={"playback": Progress(T0, events=len(values))},
        )
    )


def held(store: StateStore) -> list[tuple[int, list[int]]]:
    _, blocks = store.snapshot("s", "playback")
    return [(block.epoch, block.rows.column("n").to_pylist()) for block in blocks]


def seal(store: StateStore) -> int:
    epoch = store.cut()
    assert epoch is not None
    store.sealed(epoch)
    return epoch


def test_offsets_and_states_are_committed_together(store: StateStore, path: Path) -> None:
    commit(store, 5, 1, 2)
    other = StateStore(path)
    assert other.position("playback") == Position({0: 0, 1: 0}, {0: 5, 1: 0})
    assert held(other) == [(1, [1, 2])]
    assert other.progress() == {"playback": Progress(T0, 2)}
    assert other.unsealed("playback") == {0: (0, 5), 1: (0, 0)}
    other.close()


def test_who_lost_the_state_commits_nothing(store: StateStore, path: Path) -> None:
    commit(store, 5, 1)
    other = StateStore(path)
    other.own()
    for attempt in (
        lambda: commit(store, 9, 2),
        store.cut,
        lambda: store.sealed(1),
        lambda: store.register(["t"]),
        lambda: store.raise_alerts("v", [T0], []),
        lambda: store.replace(group(1), merged(7)),
    ):
        with pytest.raises(StateError, match="another speed layer took over"):
            attempt()
    assert held(store) == held(other) == [(1, [1])]
    assert other.position("playback").next == {0: 5, 1: 0}
    other.close()


def test_a_store_beside_another_writes_for_the_same_owner(store: StateStore) -> None:
    commit(store, 1, 1)
    commit(store, 2, 2)
    beside = store.beside()
    assert beside.replace(group(1, 2), merged(3))
    beside.close()
    assert held(store) == [(1, [3])]


def test_a_reader_never_takes_an_old_block_for_a_new_one(store: StateStore, path: Path) -> None:
    """A block that takes the place of the newest one must not get its number."""
    commit(store, 1, 1)
    commit(store, 2, 2)
    reader = StateStore(path)
    assert held(reader) == [(1, [1]), (1, [2])]
    assert store.replace(group(1, 2), merged(3))
    assert held(reader) == [(1, [3])]
    commit(store, 3, 4)
    assert held(reader) == [(1, [3]), (1, [4])]
    reader.close()


def test_no_more_is_kept_decoded_than_a_bound(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocktable, "_HELD_BYTES", 3 * 8)
    for number in range(1, 6):
        commit(store, number, number)
    assert held(store) == [(1, [number]) for number in range(1, 6)]
    assert len(store._bodies) == 3


def test_a_new_state_starts_with_an_empty_epoch(store: StateStore) -> None:
    assert store.register(["s"]) == 0
    commit(store, 1, 1)
    with pytest.raises(StateError, match="epoch 1 holds events, so t would miss them"):
        store.register(["t"])
    seal(store)
    assert store.register(["s", "t"]) == 1
    assert store.registered() == {"s", "t"}
    assert store.head("t", "playback").since_epoch == 2
    store.unregister(["s"])
    assert store.registered() == {"t"}
    assert held(store) == []


def test_epochs_are_cut_sealed_and_covered_in_order(store: StateStore) -> None:
    assert store.cut() is None
    commit(store, 3, 1)
    assert store.cut() == 1
    commit(store, 5, 2)
    assert store.cut() == 2
    assert store.epochs() == [(1, "sealing"), (2, "sealing"), (3, "open")]
    assert store.range_of(2) == {"playback": Position({0: 3, 1: 0}, {0: 5, 1: 0})}
    store.sealed(2)
    assert store.sealed_epoch() == 0
    store.sealed(1)
    assert store.sealed_epoch() == 2
    assert store.unsealed("playback") == {0: (5, 5), 1: (0, 0)}


def test_active_epochs_know_what_was_loaded_when_they_began(store: StateStore) -> None:
    def take(upto: int, load: int) -> None:
        offsets = {"playback": {0: upto}}
        store.commit(MicroBatch(store.open_epoch(), offsets, loads={"playback": load}))

    take(1, 0)
    take(2, 4)  # The first commit of an epoch counts.
    seal(store)
    take(3, 4)
    active = store.head("s", "playback").active
    assert active == (Active(1, "sealed", 0), Active(2, "open", 4))
    assert store.head("s", "search").active == ()


def test_blocks_merge_by_level_while_open_and_all_when_closed(store: StateStore) -> None:
    for number in range(1, 5):
        commit(store, number, number)
    commit(store, 5, 5, dimensions='{"users": 2}')
    many = {"kind": "states", "limit_rows": 99, "newest": 99}
    assert store.groups("s", fan_in=5, **many) == []
    assert store.groups("s", fan_in=4, **many) == [group(1, 2, 3, 4)]
    assert store.replace(group(1, 2), merged(12))
    assert store.groups("s", fan_in=3, **many) == []
    seal(store)
    assert store.groups("s", fan_in=99, **many) == [group(3, 4, 6, level=1, closed=True)]
    assert store.groups("t", fan_in=1, **many) == []


def test_a_group_has_a_bounded_number_of_rows(store: StateStore) -> None:
    for number in range(1, 6):
        commit(store, number, number)
    seal(store)
    (found,) = store.groups("s", "states", fan_in=2, limit_rows=3, newest=99)
    assert found.blocks == (1, 2, 3)


def events(*micros: int) -> Part:
    rows = pa.table({"event_time": pa.array(micros, pa.timestamp("us"))})
    return events_part(("s", "t"), rows)


def test_events_wait_once_for_all_their_states_and_are_joined(store: StateStore) -> None:
    store.register(["t"])
    for at in (5, 7, 9):
        store.commit(MicroBatch(1, {"playback": {0: at}}, [events(at, at + 1)]))
    assert store.crowds(fan_in=4, newest=99) == []
    (crowd,) = store.crowds(fan_in=3, newest=99)
    assert crowd == Crowd(0, (1, 2, 3), ("s", "t"))
    together = pa.concat_tables(store.crowded(crowd))
    assert store.put_together(crowd, events_part(crowd.states, together))
    for state in ("s", "t"):
        _, (block,) = store.snapshot(state, "playback")
        assert (block.kind, block.rows.num_rows) == ("events", 6)
    # The crowd is gone: joining it again changes nothing.
    assert not store.put_together(crowd, events_part(crowd.states, together))
    store.prune("s", 1)
    assert store.snapshot("s", "playback")[1] == []
    assert len(store.snapshot("t", "playback")[1]) == 1


def test_blocks_without_an_event_in_a_time_range_are_left_out(store: StateStore) -> None:
    for at in (10, 20, 30):
        store.commit(MicroBatch(1, {"playback": {0: at}}, [events(at, at + 5)]))

    def between(first: int | None, last: int | None) -> list[int]:
        _, blocks = store.snapshot("s", "playback", first_us=first, last_us=last)
        return [block.number for block in blocks]

    assert between(None, None) == [1, 3, 5]
    assert between(15, 20) == [1, 3]
    assert between(16, 19) == []
    assert between(26, None) == [5]
    assert between(None, 10) == [1]


def test_compaction_gives_way_to_pruning(store: StateStore) -> None:
    commit(store, 1, 1)
    commit(store, 2, 2)
    (found,) = store.groups("s", "states", fan_in=2, limit_rows=99, newest=99)
    seal(store)
    assert store.prune("s", 1) == 2
    assert store.tables(found.blocks) == []
    assert not store.replace(found, merged(3))
    assert held(store) == []


def test_epochs_that_every_state_has_from_batch_are_forgotten(store: StateStore) -> None:
    for epoch in range(1, 4):
        commit(store, epoch, epoch)
        seal(store)
    store.register(["t"])
    commit(store, 9, 9)
    store.prune("s", 2)
    assert [a.epoch for a in store.head("s", "playback").active] == [1, 2, 3, 4]
    store.prune("t", 3)
    assert [a.epoch for a in store.head("s", "playback").active] == [3, 4]
    assert store.epochs() == [(3, "sealed"), (4, "open")]
    assert store.head("s", "playback").pruned_to == 2
    assert store.sealed_epoch() == 3
    # The open epoch stays, whatever a batch run claims.
    store.prune("s", 99)
    store.prune("t", 99)
    assert store.epochs() == [(4, "open")]
    assert store.position("playback").next == {0: 9, 1: 0}


def test_a_batch_of_repeats_does_not_turn_time_back(store: StateStore) -> None:
    commit(store, 1, 1)
    store.commit(MicroBatch(1, progress={"playback": Progress(None, duplicates=3)}))
    store.commit(MicroBatch(1, progress={"search": Progress(None, duplicates=1)}))
    assert store.progress() == {
        "playback": Progress(T0, events=1, duplicates=3),
        "search": Progress(None, duplicates=1),
    }


def test_starting_over_after_the_epochs_of_the_lake(store: StateStore) -> None:
    commit(store, 4, 1)
    store.rebase(
        {
            "playback": (7, Position({0: 2, 1: 0}, {0: 6, 1: 3})),
            "search": (9, Position({0: 0}, {0: 1})),
        }
    )
    assert store.open_epoch() == 10
    assert store.sealed_epoch() == 9
    assert store.position("playback") == Position({0: 6, 1: 3}, {0: 6, 1: 3})
    assert store.position("search").next == {0: 1}
    assert store.registered() == set()
    assert held(store) == []
    assert store.head("s", "playback").active == (Active(7, "sealed", 0),)
    assert store.unsealed("playback") == {0: (6, 6), 1: (3, 3)}


# -- windows and alerts --------------------------------------------------------------------


def touch(store: StateStore, start: datetime, late: int = 0) -> None:
    store.commit(MicroBatch(store.open_epoch(), windows=[Touched("v", start, late)]))


def test_windows_are_open_then_final_then_revised(store: StateStore) -> None:
    touch(store, T0)
    touch(store, T0)
    assert store.windows("v") == [(T0, "open", 0, 0)]
    assert store.finish_windows("v", T0) == []
    assert store.finish_windows("v", T0 + timedelta(microseconds=1)) == [T0]
    store.raise_alerts("v", [T0], [])
    # A window that became final on time is not of note any more.
    assert store.windows("v") == []
    touch(store, T0, late=2)
    assert store.windows("v") == [(T0, "revised", 0, 2)]
    store.raise_alerts("v", [T0], [])
    touch(store, T0, late=1)
    assert store.windows("v") == [(T0, "revised", 1, 3)]
    store.raise_alerts("v", [T0], [])
    assert store.windows("v") == [(T0, "final", 2, 3)]
    assert store.finish_windows("v", T0 + timedelta(days=1)) == []


def test_a_late_event_revises_a_window_that_was_not_looked_at_yet(store: StateStore) -> None:
    touch(store, T0)
    touch(store, T0, late=1)
    touch(store, T0)
    assert store.windows("v") == [(T0, "revised", 0, 1)]


def test_so_many_windows_are_finished_at_once(store: StateStore) -> None:
    starts = [T0 + timedelta(minutes=5 * i) for i in range(5)]
    store.commit(MicroBatch(1, windows=[Touched("v", start) for start in starts]))
    assert store.finish_windows("v", T0 + timedelta(days=1), limit=3) == starts[:3]


def alert(level: str = "HIGH", detail: str = "{}", name: str = "a") -> Alert:
    end = T0 + timedelta(minutes=5)
    return Alert(name, 0, "v", T0, end, level, '{"country": "USA"}', detail, end)


def test_an_alert_is_new_when_it_says_something_new(store: StateStore) -> None:
    assert store.raise_alerts("v", [T0], [alert()]) == [alert()]
    assert store.raise_alerts("v", [T0], [alert()]) == []
    (louder,) = store.raise_alerts("v", [T0], [alert(detail='{"n": 2}'), alert()][:1])
    assert louder.revision == 1
    (calmer,) = store.raise_alerts("v", [T0], [alert(level="LOW")])
    assert calmer.revision == 2
    assert [a.revision for a in store.alerts()] == [0, 1, 2]
    assert store.raised("v", [T0]) == {T0: {"a"}}
    assert store.raised("v", [T0 + timedelta(hours=1)]) == {}
    assert store.raised("w", [T0]) == {}


def test_alerts_are_published_once(store: StateStore) -> None:
    first, second = alert(), alert(name="b")
    store.raise_alerts("v", [T0], [first, second])
    assert store.alerts(unpublished=True) == [first, second]
    assert store.published_to() == {}
    store.published([first], {0: 1})
    assert store.alerts(unpublished=True) == [second]
    assert store.published_to() == {0: 1}


# -- the file ------------------------------------------------------------------------------


def test_a_failed_commit_leaves_nothing(store: StateStore, path: Path) -> None:
    commit(store, 1, 1)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE windows")
    connection.close()
    with pytest.raises(StateError, match=r"no such table: windows\n.*Nothing of this step"):
        store.commit(
            MicroBatch(
                1,
                {"playback": {0: 9}},
                [Part(("s",), states(2), "states")],
                windows=[Touched("v", T0)],
            )
        )
    assert store.position("playback").next == {0: 1, 1: 0}
    assert held(store) == [(1, [1])]


def test_a_damaged_block_is_named(store: StateStore, path: Path) -> None:
    commit(store, 1, 1)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE bodies SET bytes = zeroblob(LENGTH(bytes))")
    connection.close()
    with pytest.raises(StateError, match="state body 1 is damaged"):
        store.snapshot("s", "playback")
    # The file is not left inside a transaction.
    commit(store, 2, 2)


def test_a_newer_format_is_refused(path: Path) -> None:
    StateStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(WorkspaceError, match="has format 99"):
        StateStore(path)


def test_another_file_is_refused(path: Path) -> None:
    path.write_bytes(b"no database at all, but long enough to look at" * 100)
    with pytest.raises(StateError, match=r"not a database\n.*playhead rebuild"):
        StateStore(path)


def test_a_closed_store_says_so(store: StateStore) -> None:
    store.close()
    store.close()
    for attempt in (store.epochs, lambda: store.snapshot("s", "playback"), store.own):
        with pytest.raises(StateError, match="closed"):
            attempt()


def test_several_may_make_the_file_at_once(path: Path) -> None:
    errors: list[BaseException] = []

    def make() -> None:
        try:
            StateStore(path).close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    store = StateStore(path)
    assert store.epochs() == [(1, "open")]
    store.close()


def test_threads_share_a_store(store: StateStore) -> None:
    stop, torn = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            _, blocks = store.snapshot("s", "playback")
            if len(blocks) != store_offsets(store, len(blocks)):
                torn.append(len(blocks))

    def store_offsets(store: StateStore, at_least: int) -> int:
        """Offsets only grow, so the later look shows at least as many as blocks were seen."""
        return at_least if store.position("playback").next[0] >= at_least else -1

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(1, 60):
        commit(store, number, number)
    stop.set()
    thread.join()
    assert not torn
    assert len(held(store)) == 59
