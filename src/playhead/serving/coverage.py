"""What an answer is made of: how far the batch layer reaches, and what the speed layer adds.

The two meet by epoch, never by time. Where they leave a gap, or overlap, there is no answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from playhead.batch.recompute import StateCoverage
from playhead.errors import CoverageError
from playhead.speed.records import Active, StateView

BATCH = "Run `playhead batch`."


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
        mixed: some states were made with another version of a dimension than it has now; the
            next batch run heals them.
    """

    view: str
    topic: str
    batch_epoch: int
    loads: int
    speed_epochs: tuple[int, ...]
    dimensions: Mapping[str, int]
    mixed: bool = False


@dataclass(frozen=True)
class InLake:
    """What the lake holds of a topic: its last epoch and its last load; 0 for none."""

    epoch: int = 0
    load: int = 0


Repeats = Callable[[Active, int], int]
"""How many events of an epoch a load has brought as well that the epoch did not know of, up to
the load of this number.
"""


def check_coverage(
    view: str,
    topic: str,
    batch: StateCoverage | None,
    speed: StateView,
    lake: InLake,
    repeats: Repeats,
) -> StateCoverage:
    """The batch layer's part of one state, if batch and speed meet without a gap or an overlap.

    Args:
        batch: coverage of the state table; None if the view was never built.
        speed: the speed layer's side, read before `batch` and `lake`.

    Raises:
        CoverageError: naming the epochs or loads that neither or both layers hold.
    """
    if batch is None:
        if lake.load or (missing := _missing(speed, lake, 0)):
            raise _not_built(view, topic, lake.load, _missing(speed, lake, 0))
        batch = StateCoverage()
    if lake.load > batch.load:
        raise CoverageError(
            f"view {view}: {_wait(_span('load', batch.load + 1, lake.load))} of {topic} "
            "for the batch layer",
            hint=BATCH,
        )
    _check_overlap(view, topic, batch, speed, repeats)
    if missing := _missing(speed, lake, batch.epoch):
        raise CoverageError(
            f"view {view}: a gap: {_named(missing)} of {topic} "
            f"{'is' if len(missing) == 1 else 'are'} in neither the batch states "
            f"(up to epoch {batch.epoch}) nor the speed states",
            hint=f"{BATCH} It reads what is sealed from the lake; if the gap stays, the speed "
            "layer has to be started again, to keep this view.",
        )
    return batch


def _missing(speed: StateView, lake: InLake, covered: int) -> list[int]:
    """Epochs with events after `covered` that the speed state does not hold, ascending."""
    known = {active.epoch for active in speed.active} | {lake.epoch}
    if speed.since_epoch is None:
        return sorted(epoch for epoch in known if epoch > covered)
    first_held = max(speed.since_epoch, speed.pruned_to + 1)
    missing = {epoch for epoch in known if covered < epoch < first_held}
    if speed.pruned_to > covered:
        missing |= {covered + 1, speed.pruned_to}
    return sorted(missing)


def _check_overlap(
    view: str, topic: str, batch: StateCoverage, speed: StateView, repeats: Repeats
) -> None:
    for active in speed.active:
        if active.status == "open" and active.epoch <= batch.epoch:
            raise CoverageError(
                f"view {view}: an overlap: the batch states cover epochs up to {batch.epoch} of "
                f"{topic}, but epoch {active.epoch} is still open in the speed layer",
                hint="Is the speed state an old copy? Start the speed layer: it goes on after "
                "the lake's last epoch. Then run `playhead batch`.",
            )
        if active.epoch > batch.epoch and active.load < batch.load:
            count = repeats(active, batch.load)
            if count:
                raise CoverageError(
                    f"view {view}: an overlap: {count} events of {topic} are in epoch "
                    f"{active.epoch} and in {_span('load', active.load + 1, batch.load)}, too",
                    hint=BATCH
                    if active.status == "sealed"
                    else "Seal the epoch by `playhead speed --drain` (or wait for the speed layer "
                    "to do so), then run `playhead batch`.",
                )


def _not_built(view: str, topic: str, loaded: int, missing: list[int]) -> CoverageError:
    waiting = [_span("load", 1, loaded)] if loaded else []
    waiting += [_named(missing)] if missing else []
    return CoverageError(
        f"view {view} is not built yet: {_wait(' and '.join(waiting))} of {topic} "
        "for the batch layer",
        hint=BATCH,
    )


def _wait(what: str) -> str:
    single = " and " not in what and not what.split()[0].endswith("s")
    return f"{what} {'waits' if single else 'wait'}"


def _span(word: str, first: int, last: int) -> str:
    return f"{word} {first}" if first == last else f"{word}s {first} to {last}"


def _named(epochs: list[int]) -> str:
    if len(epochs) == epochs[-1] - epochs[0] + 1:
        return _span("epoch", epochs[0], epochs[-1])
    shown = ", ".join(map(str, epochs[:10]))
    return f"epochs {shown}{' and more' if len(epochs) > 10 else ''}"
