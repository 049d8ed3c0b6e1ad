"""The ids of the dedupe window in memory: found again at a start, kept in files ever after."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from playhead.clock import Clock
from playhead.speed.background import Background
from playhead.speed.config import SpeedConfig
from playhead.speed.dedupe import Run, SeenEvents
from playhead.speed.idfiles import IdFiles, IdKeeper, Remembered
from playhead.speed.recall import Recaller
from playhead.speed.state import StateStore
from playhead.speed.topic import LiveTopic, Taken

_KEPT_AT_ONCE = 1_000_000

Kept = tuple[Remembered, SeenEvents]
"""What was in files of a topic, and the same as ids that are seen."""


class IdMemory:
    """Gives each topic its ids, and keeps them.

    Args:
        state: whose owner the files name.
    """

    def __init__(
        self, recaller: Recaller, state: StateStore, config: SpeedConfig, clock: Clock
    ) -> None:
        self._recaller, self._state = recaller, state
        self._config, self._clock = config, clock
        self._began = clock.now() - timedelta(seconds=clock.monotonic())
        folder = config.ids_folder
        self._files = None if folder is None else IdFiles(folder)
        self._keeper = None if self._files is None else IdKeeper(self._files)
        self._keeping: Background | None = None

    def load(self, owner: str | None) -> dict[str, Kept]:
        """What the last owner of the state has kept in files, by topic."""
        kept = {} if self._files is None else self._files.load_all(owner, self._now())
        return {name: (one, self._seen(one.runs)) for name, one in kept.items()}

    def recall(self, topic: LiveTopic, found: Kept | None = None) -> None:
        """Remember the ids of the dedupe window, however they came.

        Args:
            found: what was kept of the topic in files.
        """
        topic.newest = self._recaller.newest(topic.name)
        now, loads = self._now(), None
        if found is not None:
            kept, topic.seen = found
            last = max((run.arrived for run in kept.runs), default=None)
            since = self._since(topic, last)
            loads = self._recaller.resume(
                topic.name, topic.seen, kept, topic.next, now=now, since=since
            )
        if loads is None:
            topic.seen = self._seen()
            since = self._since(topic)
            loads = self._recaller.recall(topic.name, topic.seen, now=now, since=since)
        topic.loads = loads
        if found is not None:
            # Under this owner's name, so that a start after a death before long finds it as well.
            self.keep(topic)

    def recall_loads(self, topic: LiveTopic) -> None:
        """Count the ids of loads that came meanwhile as seen."""
        if topic.seen is not None:
            topic.loads = self._recaller.recall_loads(
                topic.name, topic.seen, now=self._now(), after=topic.loads
            )
            topic.newest = self._recaller.newest(topic.name)

    def misses_loads(self, topic: LiveTopic) -> bool:
        """Whether there are loads whose ids are not remembered yet."""
        return topic.seen is not None and self._recaller.loaded(topic.name) != topic.loads

    def remember(self, topic: LiveTopic, taken: Taken) -> None:
        """Count what a trigger has committed as seen."""
        if topic.seen is None:
            return
        topic.seen.remember(taken.unseen, self._now(), taken.arrived)
        topic.unkept += len(taken.unseen.first)
        if self._keeping is not None and topic.unkept >= _KEPT_AT_ONCE:
            self.keep(topic)

    def keep(self, topic: LiveTopic) -> None:
        """Have the ids that are remembered in files; they are written now or soon."""
        owner = self._state.owner_here
        if self._keeper is None or topic.seen is None or owner is None:
            return
        topic.unkept = 0
        remembered = Remembered(topic.seen.runs, dict(topic.next), topic.loads)
        self._keeper.want(topic.name, remembered, owner)
        if self._keeping is None:
            self._keeper.write()
        else:
            self._keeping.wake()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Write the files on a thread of their own, as long as the block runs."""
        if self._keeper is None:
            yield
            return
        with Background("ids", self._keeper.write) as self._keeping:
            try:
                yield
            finally:
                self._keeping = None

    def check(self) -> None:
        """Raise what that thread failed with, if it did."""
        if self._keeping is not None:
            self._keeping.check()

    def _seen(self, runs: Sequence[Run] = ()) -> SeenEvents:
        seen = SeenEvents(window=self._config.dedupe_window, limit=self._config.dedupe_limit)
        seen.restore(runs)
        return seen

    def _since(self, topic: LiveTopic, last: datetime | None = None) -> datetime:
        window, now = self._config.dedupe_window, self._clock.now()
        return self._recaller.since(topic.name, now=now, window=window, last=last)

    def _now(self) -> datetime:
        """The time of day when the layer was made and what has passed since: it never jumps."""
        return self._began + timedelta(seconds=self._clock.monotonic())
