"""Compaction: what becomes states, what stays events, and who is left alone."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from playhead.engines import connect
from playhead.errors import EngineError
from playhead.speed.compact import Compactor, Reduction, events_part
from playhead.speed.records import MicroBatch
from playhead.speed.state import StateStore
from playhead.views import View
from playhead.views.leaf import Leaf

PER_USER = "SELECT user_id, COUNT(*) AS n FROM playback GROUP BY ALL"


def leaf(name: str) -> Leaf:
    (found,) = View.parse(name, PER_USER).leaves
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    opened = StateStore(tmp_path / "state.db")
    opened.own()
    opened.register(["s", "t"])
    opened.begin({"playback": {0: 0}})
    yield opened
    opened.close()


def commit(store: StateStore, *users: str) -> None:
    times = pa.array(range(len(users)), pa.timestamp("us"))
    rows = pa.table({"event_time": times, "user_id": pa.array(users)})
    after = store.position("playback").next[0] + len(users)
    store.commit(MicroBatch(1, {"playback": {0: after}}, [events_part(("s", "t"), rows)]))


def kinds(store: StateStore, state: str) -> list[tuple[str, int]]:
    _, blocks = store.snapshot(state, "playback")
    return [(block.kind, block.rows.num_rows) for block in blocks]


def test_events_become_states_only_where_that_halves_them(store: StateStore) -> None:
    commit(store, *"aabbaabb")
    compactor = Compactor(store, connect(), sample_rows=4)
    compactor.leaves = [("s", leaf("few"))]
    assert compactor.compact() == 1
    assert kinds(store, "s") == [("states", 2)]
    # Nobody asked for the other state: the events that both shared are still its own.
    assert kinds(store, "t") == [("events", 8)]


def test_events_that_do_not_shrink_stay_as_they_are(store: StateStore) -> None:
    commit(store, *"abcdefgh")
    compactor = Compactor(store, connect(), sample_rows=4)
    compactor.leaves = [("s", leaf("many"))]
    assert compactor.compact() == 0
    assert kinds(store, "s") == [("events", 8)]


def test_one_view_that_fails_does_not_stop_the_others(
    store: StateStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commit(store, *"aabbaabb")
    bad, good = leaf("bad"), leaf("good")
    compactor = Compactor(store, connect(), sample_rows=4)
    compactor.leaves = [("s", bad), ("t", good)]
    partial = compactor._engine.partial

    def failing(asked: Leaf, events: pa.Table) -> pa.Table:
        if asked is bad:
            raise EngineError("a number outgrew its type")
        return partial(asked, events)

    monkeypatch.setattr(compactor._engine, "partial", failing)
    with caplog.at_level(logging.WARNING):
        assert compactor.compact() == 1
        assert compactor.compact() == 0
    assert [record.message for record in caplog.records] == [
        "s stays as it is: a number outgrew its type"
    ]
    assert kinds(store, "s") == [("events", 8)]
    assert kinds(store, "t") == [("states", 2)]


@pytest.mark.parametrize(
    ("rows", "groups", "more", "share"),
    [(1_000, 1_000, 10**7, 1.0), (1_000, 0, 10**7, 0.0), (100_000, 10_000, 10**6, 0.01)],
)
def test_what_a_sample_says_of_more_rows(rows: int, groups: int, more: int, share: float) -> None:
    assert Reduction(rows, groups).at(more) == pytest.approx(share, rel=0.01)


def test_rare_repeats_say_how_many_groups_there_are() -> None:
    """400,000 draws of a million meet 329,680; ten million draws meet nearly all."""
    assert Reduction(400_000, 329_680).at(10_000_000) == pytest.approx(0.1, rel=0.01)
