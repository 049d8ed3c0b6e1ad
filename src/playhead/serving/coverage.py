"""What an answer is made of: how far the batch layer reaches, and what the speed layer adds.

The two meet by epoch, never by time. Where they leave a gap, or overlap, there is no answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from playhead.batch.recompute import StateCoverage
from playhead.errors import CoverageError
from playhead.speed.state import StateView


@dataclass(frozen=True)
class Coverage:
    """How one state of a view is put together.

    Attributes:
        view: the view's name.
        topic: whose events it counts.
        batch_epoch: epochs up to this one come from the batch layer.
        loads: loads up to this one come from the batch layer.
        speed_epochs: epochs that come from the speed layer, ascending.
        dimensions: versions of the dimensions that the batch states were made with.
        mixed: speed states were made with other versions; the next batch run heals them.
    """

    view: str
    topic: str
    batch_epoch: int
    loads: int
    speed_epochs: tuple[int, ...]
    dimensions: Mapping[str, int]
    mixed: bool = False


def check_coverage(
    view: str,
    topic: str,
    batch: StateCoverage | None,
    speed: StateView,
    loaded: int,
) -> Coverage:
    """The coverage of one state, if batch and speed meet without a gap or an overlap.

    Args:
        batch: coverage of the state table; None if the view was never built.
        speed: the speed layer's side, read before `batch`.
        loaded: the last load of the topic in the lake.

    Raises:
        CoverageError: naming the epochs or loads that neither or both layers hold.
    """
    if batch is None:
        if loaded == 0 and not _outside(speed, 0):
            batch = StateCoverage()
        else:
            raise _not_built(view, speed, loaded)
    if loaded > batch.load:
        raise CoverageError(
            f"view {view}: {_span('load', batch.load + 1, loaded)} of {topic} "
            "wait for the batch layer",
            hint="Run `playhead batch`.",
        )
    _check_overlap(view, batch, speed)
    if missing := _outside(speed, batch.epoch):
        raise CoverageError(
            f"view {view}: a gap: {_named(missing)} of {topic} are in neither the batch states "
            f"(up to epoch {batch.epoch}) nor the speed states",
            hint="Run `playhead batch`; it reads them from the lake.",
        )
    epochs = tuple(sorted({e for e, _, _ in speed.blocks if e > batch.epoch}))
    return Coverage(view, topic, batch.epoch, batch.load, epochs, batch.dimensions)


def _outside(speed: StateView, epoch: int) -> list[int]:
    """Epochs after `epoch` with events that the speed state does not hold."""
    if speed.since_epoch is None:
        return [e for e in speed.active if e > epoch]
    first_held = max(speed.since_epoch, speed.pruned_to + 1)
    return [e for e in speed.active if epoch < e < first_held]


def _check_overlap(view: str, batch: StateCoverage, speed: StateView) -> None:
    sealed = [e for e, status in speed.epochs if status == "sealed"]
    last = max(sealed, default=0)
    if batch.epoch > last:
        raise CoverageError(
            f"view {view}: an overlap: the batch states cover epochs up to {batch.epoch}, but the "
            f"speed layer has sealed none after {last}",
            hint="Was the speed state restored from a backup? Run `playhead batch --full`.",
        )


def _not_built(view: str, speed: StateView, loaded: int) -> CoverageError:
    waiting = []
    if loaded:
        waiting.append(_span("load", 1, loaded))
    if outside := _outside(speed, 0):
        waiting.append(_named(outside))
    return CoverageError(
        f"view {view} is not built yet: {' and '.join(waiting)} wait for the batch layer",
        hint="Run `playhead batch`.",
    )


def _span(word: str, first: int, last: int) -> str:
    return f"{word} {first}" if first == last else f"{word}s {first} to {last}"


def _named(epochs: list[int]) -> str:
    return _span("epoch", epochs[0], epochs[-1]) if len(epochs) < 3 else (
        f"epochs {', '.join(map(str, epochs[:10]))}{' and more' if len(epochs) > 10 else ''}"
    )  # fmt: skip
