"""What must be there, recomputed plainly from what was sent and acknowledged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import pyarrow as pa

from layers import SQL, SmallWorkspace, ordered, searches
from playhead.contracts import DIMENSIONS, TOPICS
from playhead.speed.alerts import TOPIC as ALERTS
from playhead.testing.evaluate import evaluate
from playhead.views import View
from torture.world import event_id, of_topic, pick, user_rows


class DifferenceError(Exception):
    """A workspace that does not hold exactly what was sent to it."""


@dataclass
class Ledger:
    """What was sent, and what of it was acknowledged.

    Attributes:
        certain: numbers of playback events that have to be there.
        together: groups of numbers that were sent at once and never acknowledged: of each, all
            that nothing else brought are there, or none.
        loose: numbers that may or may not be there, each for itself.
        searches, maybe_searches: the same of search events, which are sent one by one.
        spend: of the users that were loaded last.
    """

    certain: set[int] = field(default_factory=set)
    together: list[set[int]] = field(default_factory=list)
    loose: set[int] = field(default_factory=set)
    searches: set[int] = field(default_factory=set)
    maybe_searches: set[int] = field(default_factory=set)
    spend: int = 10

    def check(self, opened: SmallWorkspace, world: pa.Table) -> int:
        """Compare a workspace at rest with what it has to hold; how many events that are.

        Raises:
            DifferenceError: something is lost, doubled, half there, or a digit differs.
        """
        playback = self._playback(opened)
        found = self._searches(opened)
        topics = {"playback": pick(world, sorted(playback)), "search": searches(sorted(found))}
        for name, view in opened.views.items():
            self._check_view(opened, view, topics, name)
        check_alerts(opened)
        return len(playback) + len(found)

    def _playback(self, opened: SmallWorkspace) -> set[int]:
        ids = _ids(opened, "playback")
        possible = self.certain.union(self.loose, *self.together)
        _compare("playback", ids, of_topic(self.certain), of_topic(possible))
        there = {number for number in possible if event_id(number) in ids}
        for place, group in enumerate(self.together):
            others = self.certain.union(self.loose, *_without(self.together, place))
            alone = group - others
            if 0 < len(alone & there) < len(alone):
                raise DifferenceError(f"half: {len(alone & there)} of {len(alone)} sent at once")
        return there

    def _searches(self, opened: SmallWorkspace) -> set[int]:
        ids = _ids(opened, "search")
        possible = self.searches | self.maybe_searches
        _compare("search", ids, {f"s{n}" for n in self.searches}, {f"s{n}" for n in possible})
        return {number for number in possible if f"s{number}" in ids}

    def _check_view(
        self, opened: SmallWorkspace, view: View, topics: Mapping[str, pa.Table], name: str
    ) -> None:
        events = topics[view.leaves[0].topic]
        plain, _ = evaluate(View.parse(name, SQL[name]), [events], self._dimensions())
        answer = opened.view(name).to_arrow()
        if not answer.schema.equals(plain.schema):
            raise DifferenceError(f"view {name}: {answer.schema} is not {plain.schema}")
        ours, theirs = ordered(answer), ordered(plain)
        if ours != theirs:
            wrong = sorted(set(ours) ^ set(theirs), key=repr)[:6]
            raise DifferenceError(f"view {name}: {len(ours)} rows, {len(theirs)} expected: {wrong}")
        if ordered(opened.full(name).to_arrow()) != theirs:
            raise DifferenceError(f"view {name}: its recomputation from the topics differs")

    def _dimensions(self) -> dict[str, pa.Table]:
        kinds = pa.schema([pa.field(f.name, f.type) for f in DIMENSIONS["users"].schema])
        rows = [
            row | {"monthly_spend": Decimal(row["monthly_spend"])} for row in user_rows(self.spend)
        ]
        return {"users": pa.Table.from_pylist(rows, kinds)}


def _without(groups: Sequence[set[int]], place: int) -> list[set[int]]:
    return [group for at, group in enumerate(groups) if at != place]


def _ids(opened: SmallWorkspace, topic: str) -> set[str]:
    """The ids that a topic holds, each once."""
    assert topic in TOPICS
    ids = opened.query(f"SELECT event_id FROM {topic}").to_arrow().column("event_id").to_pylist()
    if len(ids) != len(set(ids)):
        raise DifferenceError(f"doubled: {len(ids) - len(set(ids))} events of {topic}")
    return set(ids)


def _compare(topic: str, ids: set[str], certain: set[str], possible: set[str]) -> None:
    if lost := sorted(certain - ids):
        raise DifferenceError(f"lost: {len(lost)} events of {topic}, such as {lost[:5]}")
    if strange := sorted(ids - possible):
        raise DifferenceError(f"never sent: {len(strange)} events of {topic}: {strange[:5]}")


def check_alerts(opened: SmallWorkspace) -> None:
    """What was raised was published, once.

    Raises:
        DifferenceError: it was not.
    """
    sent = []
    for partition, offset in opened.log.start_offsets(ALERTS).items():
        at, end = offset, opened.log.end_offsets(ALERTS)[partition]
        while at < end:
            part = opened.log.read(ALERTS, partition, at).column("event_id").to_pylist()
            sent += part
            at += len(part)
    raised = [f"{alert.alert_id}-{alert.revision}" for alert in opened.state.alerts()]
    if len(set(sent)) != len(sent) or not set(sent) <= set(raised):
        raise DifferenceError(f"alerts: {len(sent)} published, {len(raised)} raised")
    if waiting := opened.state.alerts(unpublished=True):
        raise DifferenceError(f"alerts: {len(waiting)} were never published")
