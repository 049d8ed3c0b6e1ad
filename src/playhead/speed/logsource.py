"""Takes events in from the event log, in this process."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from playhead.eventlog import EventLog
from playhead.speed.coding import Coder
from playhead.speed.dimensions import DimensionTables
from playhead.speed.enrich import Enricher
from playhead.speed.intake import Plan, Taker
from playhead.speed.source import Intake, Source
from playhead.speed.topic import LiveTopic


class LogSource(Source):
    """Reads each topic ahead while there is much, and widens its events with the dimensions.

    Args:
        pool: runs what is done ahead.
        limit: of one topic at once, about.
    """

    def __init__(self, log: EventLog, pool: ThreadPoolExecutor, *, limit: int) -> None:
        self._log, self._pool, self._limit = log, pool, limit
        self._plans: dict[str, Plan] = {}
        self._takers: dict[str, Taker] = {}

    def plan(self, topic: LiveTopic, dimensions: DimensionTables) -> None:
        leaves = [leaf for _, leaf in topic.leaves]
        enricher = Enricher.of(leaves, dimensions.tables)
        own = {"event_time", *(c for leaf in leaves for c in leaf.event_columns)}
        keys = {event for leaf in leaves for k in leaf.lookups for event, _ in k.on}
        self._plans[topic.name] = Plan(
            topic.name,
            states=topic.states,
            read=tuple(sorted(own | keys | {"event_id"})),
            kept=(*sorted(own), *enricher.columns),
            enricher=enricher,
            coder=Coder(),
        )
        if topic.name not in self._takers:
            self._takers[topic.name] = Taker(self._log, self._pool, limit=self._limit)

    @contextmanager
    def take(self, topics: Iterable[LiveTopic]) -> Iterator[Mapping[str, Intake]]:
        found: dict[str, Intake] = {}
        for topic in topics:
            intake = self._takers[topic.name].take(self._plans[topic.name], topic.next)
            if intake is not None:
                found[topic.name] = intake
        yield found

    def waits(self, topics: Iterable[LiveTopic]) -> bool:
        # What is there is given at once.
        return False

    def stop(self) -> None:
        for taker in self._takers.values():
            taker.stop()
