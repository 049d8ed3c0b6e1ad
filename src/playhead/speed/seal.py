"""Sealing: an epoch's events, exactly those that the state counts, appended to the lake."""

import json
import logging
from collections.abc import Mapping

from playhead.errors import StateError
from playhead.eventlog import EventLog
from playhead.lake import Lake, raw_table
from playhead.lake.tables import raw_name
from playhead.speed.archive import Archiver
from playhead.speed.records import Position
from playhead.speed.state import StateStore

logger = logging.getLogger(__name__)

EPOCH = "playhead.epoch"
OFFSETS = "playhead.offsets"
GROUP = "speed"


class Sealer:
    """Moves epochs from the event log to the lake, each once.

    Args:
        archiver: used by nobody else.
    """

    def __init__(self, log: EventLog, state: StateStore, lake: Lake, archiver: Archiver) -> None:
        self._log, self._state, self._lake = log, state, lake
        self._archiver = archiver

    def resume(self) -> None:
        """Take up where the lake and the state stand, however the last process ended.

        Epochs that it had begun to seal are finished. Where the lake holds epochs that the state
        does not know, because its file was deleted or is an old copy, the state starts over after
        them; events that only the lake has then wait for the batch layer.
        """
        last = self._last_in_lake()
        newest = max((epoch for epoch, _ in last.values()), default=0)
        if newest >= self._state.open_epoch():
            logger.warning(
                "the lake holds epochs up to %d, the state does not: it starts over after them; "
                "run `playhead batch` to close the gap",
                newest,
            )
            self._state.rebase(last)
        self.finish_begun()

    def seal(self) -> int | None:
        """Seal the open epoch; None if it holds no events."""
        # The lake takes epochs in their order: one that failed before goes first.
        self.finish_begun()
        epoch = self._state.cut()
        if epoch is not None:
            self._finish(epoch)
        return epoch

    def finish_begun(self) -> None:
        """Put closed epochs that are not in the lake yet there, in their order."""
        for epoch, status in self._state.epochs():
            if status == "sealing":
                self._finish(epoch)

    def _last_in_lake(self) -> dict[str, tuple[int, Position]]:
        """By topic, the last epoch with events of it, and where in the event log it stands."""
        found = {}
        for table in self._lake.tables("raw"):
            properties = self._lake.properties(table)
            if EPOCH in properties:
                ranges = {int(p): at for p, at in json.loads(properties[OFFSETS]).items()}
                position = Position(
                    {p: first for p, (first, _) in ranges.items()},
                    {p: after for p, (_, after) in ranges.items()},
                )
                found[table.removeprefix(raw_name(""))] = (int(properties[EPOCH]), position)
        return found

    def _finish(self, epoch: int) -> None:
        ranges = self._state.range_of(epoch)
        for topic, position in ranges.items():
            if position.holds_events:
                self._append(epoch, topic, position)
        self._state.sealed(epoch)
        for topic, position in ranges.items():
            self._log.commit(GROUP, topic, position.next)
        logger.info("sealed epoch %d", epoch)

    def _append(self, epoch: int, topic: str, position: Position) -> None:
        """Append one topic's events, unless the lake holds this epoch already."""
        fields = self._log.schema(topic)
        spec = raw_table(topic, fields)
        spec.create_in(self._lake)

        def not_there(properties: Mapping[str, str]) -> bool:
            return int(properties.get(EPOCH, 0)) < epoch

        ranges = {str(p): [first, position.next[p]] for p, first in position.first.items()}
        there = self._lake.properties(spec.name)
        if not not_there(there):
            _check_ours(topic, epoch, ranges, there)
            return
        with self._lake.draft(spec.name) as draft:
            self._archiver.add(draft, topic, fields, position, epoch)
            written = self._lake.publish(
                spec.name,
                draft,
                properties={EPOCH: str(epoch), OFFSETS: json.dumps(ranges)},
                guard=not_there,
            )
        if written.skipped:
            _check_ours(topic, epoch, ranges, self._lake.properties(spec.name))


def _check_ours(
    topic: str, epoch: int, ranges: Mapping[str, list[int]], there: Mapping[str, str]
) -> None:
    """See that an epoch in the lake is this speed layer's own.

    Raises:
        StateError: another one has sealed other events under its number.
    """
    if int(there[EPOCH]) == epoch and json.loads(there[OFFSETS]) != ranges:
        raise StateError(
            f"epoch {epoch} of {topic}: another speed layer has sealed it with offsets "
            f"{there[OFFSETS]}, this one has {json.dumps(ranges)}",
            hint="One speed layer alone writes to a lake: stop the other one. Where this one is to "
            "go on, delete its state.db first: it starts over after the lake.",
        )
