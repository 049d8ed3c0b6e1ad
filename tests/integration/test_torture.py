"""The torture harness: a short run of it, and that it would see what it looks for."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from layers import SmallWorkspace, searches
from stages import Moment
from torture.life import Life, Tally, drain
from torture.plan import Plan, plan_life
from torture.points import POINTS
from torture.truth import DifferenceError, Ledger
from torture.work import WORK, open_workspace
from torture.world import first_dimensions, pick, read_world, write_world

KILLS = 12


def test_a_dozen_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    tally, life = Tally(), 0
    while tally.kills < KILLS:
        folder = tmp_path / str(life)
        folder.mkdir()
        Life(folder, plan_life(1, life), tally).run(kills=KILLS)
        life += 1
    assert tally.by_point


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [2, 3])
def test_hundreds_of_kills(tmp_path: Path, seed: int) -> None:
    tally = Tally()
    for life in range(8):
        folder = tmp_path / str(life)
        folder.mkdir()
        Life(folder, plan_life(seed, life), tally).run()
    assert tally.kills > 100


@pytest.mark.parametrize("role", POINTS)
def test_every_commit_point_is_a_function(role: str) -> None:
    assert role in WORK
    for function in POINTS[role].values():
        Moment(function, 1).place()


def test_a_seed_fixes_the_plan() -> None:
    assert plan_life(5, 2) == plan_life(5, 2)
    assert plan_life(5, 2) != plan_life(5, 3)


# -- what the reckoning sees -------------------------------------------------------------------

EVENTS = 30


@pytest.fixture
def world(tmp_path: Path) -> pa.Table:
    write_world(tmp_path, Plan("w", (), EVENTS))
    return read_world(tmp_path)


@pytest.fixture
def opened(tmp_path: Path, world: pa.Table) -> Iterator[SmallWorkspace]:
    with open_workspace(tmp_path) as made:
        first_dimensions(made)
        made.log.append("playback", pick(world, range(20)))
        made.log.append("search", searches([1, 2]))
        yield made


def test_the_reckoning_accepts_what_was_sent(opened: SmallWorkspace, world: pa.Table) -> None:
    drain(opened)
    maybe = Ledger(set(range(10)), [set(range(5, 20)), {25, 26}], {28}, {1}, {2, 3})
    assert maybe.check(opened, world) == 22


@pytest.mark.parametrize(
    ("ledger", "what"),
    [
        (Ledger(set(range(21)), searches={1, 2}), "lost: 1 events of playback, such as .'e20'"),
        (Ledger(set(range(19)), searches={1, 2}), "never sent: 1 events of playback: .'e19'"),
        (Ledger(set(range(20)), searches={1, 2, 3}), "lost: 1 events of search"),
        (Ledger(set(range(19)), [{19, 20}], searches={1, 2}), "half: 1 of 2 sent at once"),
        (Ledger(set(range(20)), searches={1, 2}, spend=11), "view countries"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reckoning_tells_what_is_wrong(
    opened: SmallWorkspace, world: pa.Table, ledger: Ledger, what: str
) -> None:
    drain(opened)
    with pytest.raises(DifferenceError, match=what):
        ledger.check(opened, world)


def test_the_reckoning_sees_an_event_that_is_counted_twice(
    opened: SmallWorkspace, world: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain(opened)
    opened.log.append("playback", pick(world, [3]))
    shutil.rmtree(opened.path / "ids")
    monkeypatch.setattr("playhead.speed.recall.Recaller.recall", lambda *_, **__: 0)
    opened.speed(drain=True)
    with pytest.raises(DifferenceError, match="view counts"):
        Ledger(set(range(20)), searches={1, 2}).check(opened, world)
