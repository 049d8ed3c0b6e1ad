"""What a workspace must hold, recomputed plainly from what the clients sent."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from layers import ordered
from live_torture.events import TOPICS, event_id, fields, is_bad, origin, topic_of
from playhead.assemble import Workspace
from playhead.batch.deadletters import Wanted
from playhead.engines import connect
from playhead.lake.tables import clean_name
from torture.truth import DifferenceError

VIEWS = {
    f"live_{topic}": f"""
        SELECT event_type, user_id, COUNT(*) AS events, COUNT(DISTINCT event_id) AS ids
        FROM {topic} GROUP BY ALL
    """
    for topic in TOPICS
}
"""Views of every topic that clients send, beside the library's."""


@dataclass(frozen=True)
class Sent:
    """What one client sent: numbers that have to be there, and those that may be."""

    certain: frozenset[int]
    possible: frozenset[int]


class Ledger:
    """What all clients sent, by their names."""

    def __init__(self, sent: Mapping[str, Sent]) -> None:
        self._sent = sent

    def check(self, opened: Workspace) -> int:
        """Compare a workspace at rest with what it has to hold; how many events that are.

        Raises:
            DifferenceError: something is lost, doubled, or was never sent, or views differ.
        """
        found = {topic: self._check_topic(opened, topic) for topic in TOPICS}
        self._check_letters(opened)
        for topic, ids in found.items():
            _check_counts(opened, topic, ids)
        for name in opened.views:
            check_view(opened, name)
        return sum(map(len, found.values()))

    def _ids(self, *, certain: bool, bad: bool, topic: str | None = None) -> set[str]:
        """Ids of what was sent, of all topics or of one."""
        return {
            event_id(client, number)
            for client, sent in self._sent.items()
            for number in (sent.certain if certain else sent.possible)
            if is_bad(number) == bad and (topic is None or topic_of(number) == topic)
        }

    def _check_topic(self, opened: Workspace, topic: str) -> set[str]:
        told = opened.query(f"SELECT event_id FROM {topic}").to_arrow()
        found = _once(topic, told.column("event_id").to_pylist())
        with connect() as connection:
            scan = opened.lake.scan(clean_name(topic), columns=["event_id"])
            rows = connection.execute(f"SELECT event_id FROM {scan}").fetchall()
        clean = _once(f"clean {topic}", [row[0] for row in rows])
        certain = self._ids(certain=True, bad=False, topic=topic)
        possible = self._ids(certain=False, bad=False, topic=topic)
        for place, ids in ((topic, found), (f"clean {topic}", clean)):
            _compare(place, ids, certain, possible)
        if clean != found:
            raise DifferenceError(f"{topic}: {len(found)} events, of which {len(clean)} are clean")
        return found

    def _check_letters(self, opened: Workspace) -> None:
        """Every event that was refused has a letter, and no letter is about anything else."""
        with opened.dead_letters() as letters:
            told = letters.read(Wanted()).read_all().to_pylist()
        _once("dead letters", [row["letter_id"] for row in told])
        found = {str(json.loads(row["body"])["event_id"]) for row in told}
        certain, possible = (self._ids(certain=sure, bad=True) for sure in (True, False))
        _compare("dead letters", found, certain, possible)


def settle(opened: Workspace) -> None:
    """Bring a workspace to rest: all is in state, sealed, clean and recomputed.

    Raises:
        DifferenceError: events are left in the event log.
    """
    opened.speed(drain=True)
    opened.batch()
    opened.speed(drain=True)
    if opened.lag():
        raise DifferenceError(f"{opened.lag()} events are not in state after draining")


def check_view(opened: Workspace, name: str) -> None:
    """A view's merged answer has the rows, digits and types of plain recomputation.

    Raises:
        DifferenceError: it has not.
    """
    merged, full = opened.view(name).to_arrow(), opened.full(name).to_arrow()
    if not merged.schema.equals(full.schema):
        raise DifferenceError(f"view {name}: {merged.schema} is not {full.schema}")
    ours, theirs = ordered(merged), ordered(full)
    if ours != theirs:
        wrong = sorted(set(ours) ^ set(theirs), key=repr)[:6]
        raise DifferenceError(f"view {name}: merged and full differ, such as in {wrong}")


def _check_counts(opened: Workspace, topic: str, ids: Iterable[str]) -> None:
    """A topic's view counts what is there, as counted here from the events themselves."""
    sent = [fields(*origin(one)) for one in ids]
    expected = Counter((one["event_type"], one["user_id"]) for one in sent)
    rows = opened.view(f"live_{topic}").to_arrow().to_pylist()
    told = {(row["event_type"], row["user_id"]): (row["events"], row["ids"]) for row in rows}
    if told != {key: (count, count) for key, count in expected.items()}:
        counts = sum(events for events, _ in told.values())
        raise DifferenceError(f"view live_{topic}: counts {counts} of {expected.total()} events")


def _once(place: str, ids: list[str]) -> set[str]:
    if len(ids) != len(set(ids)):
        doubled = [one for one, count in Counter(ids).items() if count > 1]
        raise DifferenceError(f"doubled: {len(doubled)} of {place}, such as {doubled[:5]}")
    return set(ids)


def _compare(place: str, ids: set[str], certain: set[str], possible: set[str]) -> None:
    if lost := sorted(certain - ids):
        raise DifferenceError(f"lost: {len(lost)} of {place}, such as {lost[:5]}")
    if strange := sorted(ids - possible):
        raise DifferenceError(f"never sent: {len(strange)} of {place}: {strange[:5]}")
