"""States made by several processes, each of some files: those of one process, digit for digit."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layers import SmallWorkspace, Watch, load, load_dimensions, ordered, watches, workspace
from playhead.batch import states
from playhead.batch.recompute import Recomputer, state_table
from playhead.batch.shared import processes as division
from playhead.batch.shared import states as shared_states
from playhead.batch.shared.states import SharedStateEngine
from playhead.errors import LakeError
from playhead.lake.tables import clean_name
from shared_processes import ShuffledProcesses

VIEWS = ("counts", "countries", "sessions", "latest", "running")
DAY = 24 * 60


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallWorkspace]:
    """Events of several months, in files that overlap, with repeats among them."""
    with workspace(tmp_path_factory.mktemp("shares") / "w", *VIEWS) as made:
        load_dimensions(made)
        for number in range(3):
            first = watches(40, start=number * 30, minute=-90 * DAY + number, step=DAY * 3 + 7)
            near = [Watch(1_000 + number * 10 + i, minute=i * 9 + number, user=i) for i in range(9)]
            load(made, [*first, *near])
        yield made


def merged(opened: SmallWorkspace) -> dict[str, list[tuple[Any, ...]]]:
    """All states of the last run, merged within their buckets, by table."""
    found = {}
    with opened._connect() as con:
        for view in opened.views.values():
            for leaf in view.leaves:
                name = state_table(view, leaf)
                con.execute(f"CREATE OR REPLACE VIEW states AS FROM {opened.lake.scan(name)}")
                found[name] = ordered(con.execute(leaf.merge(extra=True)).to_arrow_table())
    return found


def rows(opened: SmallWorkspace) -> int:
    return sum(opened.lake.snapshot(name).rows for name in opened.lake.tables("state"))


@pytest.fixture(scope="module")
def wanted(opened: SmallWorkspace) -> tuple[dict[str, list[tuple[Any, ...]]], int]:
    """The states by one process, and how many rows they are."""
    with opened._connect() as connection:
        Recomputer(opened.lake, connection).run(opened.views.values(), epoch=0, full=True)
    return merged(opened), rows(opened)


@settings(max_examples=4)
@given(
    processes=st.sampled_from([1, 3, 99]),
    most=st.sampled_from([60, 10_000]),
    at_once=st.sampled_from([3, 10_000]),
    many=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_states_of_shares_are_those_of_one_process(
    opened: SmallWorkspace,
    wanted: tuple[dict[str, list[tuple[Any, ...]]], int],
    processes: int,
    most: int,
    at_once: int,
    many: bool,
    seed: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch, opened._connect() as connection:
        patch.setattr(division, "MIN_ROWS", 1)
        patch.setattr(division, "MAX_ROWS", most)
        patch.setattr(shared_states, "MERGED_EVENTS", at_once)
        patch.setattr(states, "MARKED_ROWS", 1 if many else 1_000_000)
        there = ShuffledProcesses(processes, random.Random(seed))
        runs = Recomputer(opened.lake, connection, SharedStateEngine(there)).run(
            opened.views.values(), epoch=0, full=True
        )
        assert {run.status for run in runs} == {"recomputed"}
        # What belongs to one group was brought together, too.
        assert (merged(opened), rows(opened)) == wanted
    assert there.most > 1 or (processes == 1 and most > 60)
    if at_once == 3:
        assert {place.part for place in there.keys} > {0}


def test_a_file_that_is_damaged_is_named(opened: SmallWorkspace) -> None:
    events = opened.lake.snapshot(clean_name("playback"))
    file = Path(events.files[0].path)
    body = file.read_bytes()
    with opened._connect() as connection:
        there = SharedStateEngine(ShuffledProcesses(1, random.Random(0)))
        damaged = Recomputer(opened.lake, connection, there)
        try:
            file.write_bytes(body[:-8] + b"damaged!")
            with pytest.raises(LakeError, match=file.name):
                damaged.run(opened.views.values(), epoch=0, full=True)
        finally:
            file.write_bytes(body)
