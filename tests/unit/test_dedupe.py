"""Repeats: the first of each id is new, within the window and the limit."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.speed import dedupe
from playhead.speed.dedupe import SeenEvents

T0 = datetime(2025, 1, 1)
DAY = timedelta(hours=24)
IDS = st.lists(st.sampled_from([f"e{i}" for i in range(12)]), max_size=20)


@given(st.lists(IDS, max_size=12))
def test_new_is_what_no_batch_had_before(batches: list[list[str]]) -> None:
    seen, known = SeenEvents(window=DAY), set()
    for ids in batches:
        expected = []
        for name in ids:
            expected.append(name not in known)
            known.add(name)
        assert seen.add(pa.array(ids, pa.string()), T0).tolist() == expected
    assert len(seen) == len(known)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), min_size=1, max_size=20))
def test_of_several_the_earliest_is_new(arrivals: list[tuple[str, int]]) -> None:
    ids, times = zip(*arrivals, strict=True)
    mask = SeenEvents(window=DAY).unseen(pa.array(ids), np.array(times, np.int64)).mask
    for name in set(ids):
        places = [i for i, other in enumerate(ids) if other == name]
        first = min(places, key=lambda i: (times[i], i))
        assert [i for i in places if mask[i]] == [first]


def test_looking_does_not_remember() -> None:
    seen = SeenEvents(window=DAY)
    unseen = seen.unseen(pa.array(["a", "a", "b"]))
    assert unseen.mask.tolist() == [True, False, True]
    assert seen.unseen(pa.array(["a"])).mask.tolist() == [True]
    seen.remember(unseen, T0)
    assert seen.unseen(pa.chunked_array([["a"], ["c"]])).mask.tolist() == [False, True]


def test_nothing_is_nothing() -> None:
    seen = SeenEvents(window=DAY)
    assert seen.add(pa.array([], pa.string()), T0).tolist() == []
    assert len(seen) == 0


def test_ids_are_forgotten_after_the_window() -> None:
    seen = SeenEvents(window=DAY)
    seen.add(pa.array(["a"]), T0)
    assert not seen.add(pa.array(["a"]), T0 + DAY)[0]
    assert seen.add(pa.array(["b"]), T0 + DAY + timedelta(seconds=1))[0]
    assert seen.add(pa.array(["a"]), T0 + DAY + timedelta(seconds=1))[0]


def test_a_steady_stream_forgets_the_old_and_keeps_the_rest() -> None:
    """Merging runs must not carry old ids along for ever, nor throw young ones away."""
    seen = SeenEvents(window=DAY)
    for hour in range(24 * 5):
        seen.add(pa.array([f"{hour}-{i}" for i in range(10)]), T0 + timedelta(hours=hour))
    last = T0 + timedelta(hours=24 * 5 - 1)
    assert 10 * 24 <= len(seen) <= 10 * 24 * 1.3
    assert seen.forgotten == 0
    young = [f"{24 * 5 - 1 - hour}-0" for hour in range(24)]
    assert not seen.add(pa.array(young), last).any()


def test_beyond_the_limit_only_the_oldest_go() -> None:
    seen = SeenEvents(window=DAY, limit=800)
    for batch in range(50):
        seen.add(pa.array([f"{batch}-{i}" for i in range(40)]), T0 + timedelta(seconds=batch))
    assert len(seen) <= 800
    assert seen.forgotten == 50 * 40 - len(seen)
    assert len(seen) >= 800 * 0.8
    young = [f"{batch}-0" for batch in range(50 - 15, 50)]
    assert not seen.add(pa.array(young), T0 + timedelta(minutes=1)).any()


def test_half_a_hash_in_common_is_no_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    real = dedupe.hash_pairs

    def halves(ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(len(ids), np.uint64), real(ids)[1]

    monkeypatch.setattr(dedupe, "hash_pairs", halves)
    seen = SeenEvents(window=DAY)
    assert seen.add(pa.array(["a", "a", "b"]), T0).tolist() == [True, False, True]
    assert seen.add(pa.array(["b", "a"]), T0).tolist() == [False, False]
