"""Where batch and speed meet: every gap and every overlap is an error that names it."""

from collections.abc import Sequence

import pytest

from playhead.batch.recompute import StateCoverage
from playhead.errors import CoverageError
from playhead.serving.coverage import InLake, check_coverage
from playhead.speed.records import Active, StateView


def speed(
    active: Sequence[int] = (),
    *,
    since: int | None = 1,
    pruned: int = 0,
    open_epoch: int = 9,
    load: int = 0,
) -> StateView:
    """A state kept from `since` on; its last epoch is open."""
    found = tuple(Active(e, "open" if e == open_epoch else "sealed", load) for e in active)
    return StateView(since, pruned, found, tuple((e, "{}") for e in active))


def check(
    batch: StateCoverage | None,
    held: StateView,
    lake: InLake | None = None,
    *,
    repeats: int = 0,
) -> StateCoverage:
    return check_coverage(
        "v", "playback", batch, held, lake or InLake(), lambda _active, _load: repeats
    )


NOTHING = speed(since=None)


@pytest.mark.parametrize(
    ("batch", "held", "lake"),
    [
        (None, NOTHING, InLake()),
        (None, speed([1, 2, 9]), InLake(2)),
        (StateCoverage(2), speed([1, 2, 9]), InLake(2)),
        (StateCoverage(2), speed([3, 9], pruned=2), InLake(3)),
        (StateCoverage(2, 1), speed([3, 9], since=3, load=1), InLake(3, 1)),
        (StateCoverage(8), speed([9]), InLake(8)),
        # Epoch 3 is being sealed: the lake holds it already, the batch layer read it.
        (StateCoverage(3), speed([3, 9]), InLake(3)),
        (StateCoverage(5, 2), NOTHING, InLake(5, 2)),
        # A state file that was lost has nothing to add to what batch has.
        (StateCoverage(7), speed([], since=None, open_epoch=1), InLake(7)),
    ],
)
def test_they_meet(batch: StateCoverage | None, held: StateView, lake: InLake) -> None:
    assert check(batch, held, lake) == (batch or StateCoverage())


@pytest.mark.parametrize(
    ("batch", "held", "lake", "message"),
    [
        (None, NOTHING, InLake(0, 1), "not built yet: load 1 waits of playback"),
        (None, NOTHING, InLake(0, 3), "not built yet: loads 1 to 3 wait"),
        (None, speed([1], since=2), InLake(1), "not built yet: epoch 1 waits"),
        (None, speed([1, 2], since=None), InLake(), "not built yet: epochs 1 to 2 wait"),
        (None, speed([1, 9], since=3), InLake(1, 1), "not built yet: load 1 and epoch 1 wait"),
        (None, speed([6], pruned=5), InLake(6), "not built yet: epochs 1, 5 wait"),
        (StateCoverage(0, 1), NOTHING, InLake(0, 3), "loads 2 to 3 wait of playback"),
        (StateCoverage(2), speed([4, 9], since=5), InLake(4), "a gap: epoch 4 of playback is in"),
        (StateCoverage(2), speed([3, 4, 9], since=5), InLake(4), "a gap: epochs 3 to 4 "),
        (StateCoverage(2), speed([3, 6, 9], since=None), InLake(6), "a gap: epochs 3, 6, 9 "),
        # The state file is gone, and nothing was told about it yet.
        (StateCoverage(2), speed(since=None, open_epoch=1), InLake(4), "a gap: epoch 4 "),
        # Blocks were pruned that the batch layer, restored from a copy, does not have.
        (StateCoverage(2), speed([9], pruned=5), InLake(5), "a gap: epochs 3, 5 "),
        (StateCoverage(9), speed([9]), InLake(9), "an overlap: .* up to 9 .* epoch 9 is still"),
    ],
)  # fmt: skip
def test_they_do_not_meet(
    batch: StateCoverage | None, held: StateView, lake: InLake, message: str
) -> None:
    with pytest.raises(CoverageError, match=f"^view v[: ].*{message}") as caught:
        check(batch, held, lake)
    assert "playhead batch" in str(caught.value)


def test_an_epoch_and_a_later_load_may_hold_the_same_event() -> None:
    batch, lake = StateCoverage(2, 4), InLake(3, 4)
    held = speed([3], load=2, open_epoch=3)
    assert check(batch, held, lake, repeats=0) == batch
    with pytest.raises(CoverageError, match=r"5 events .* in epoch 3 and in loads 3 to 4") as error:
        check(batch, held, lake, repeats=5)
    assert "speed --drain" in str(error.value)
    with pytest.raises(CoverageError) as error:
        check(batch, speed([3], load=3), lake, repeats=5)
    assert "speed --drain" not in str(error.value)
    # Epochs that knew of the load, and epochs that batch covers, are not looked at.
    assert check(batch, speed([3], load=4), lake, repeats=5) == batch
    assert check(StateCoverage(3, 4), speed([3], load=2), lake, repeats=5)


def test_many_epochs_are_not_all_named() -> None:
    with pytest.raises(CoverageError, match=r"epochs 3, 5, .*, 21 and more of playback"):
        check(StateCoverage(1), speed(range(3, 99, 2), since=None, open_epoch=99))
