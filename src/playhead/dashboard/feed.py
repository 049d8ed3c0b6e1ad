"""Asks each question once for all browsers, again and again, and tells whoever watches.

Questions over the same rows of the same view are one group: the view is merged once for all of
them, and only if something that its answer is made of has changed. A group that is slow to answer
is asked more rarely, and never holds up another. Who asks for all of a view sees its last answer
at once, marked as one of then, and the answer of now as soon as it is made.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import duckdb

from playhead.assemble import Workspace
from playhead.dashboard.questions import Asked, Look, Problem, Question, Reply, span_of
from playhead.dashboard.rows import Aside, ViewRows
from playhead.engines import connect
from playhead.engines.duckdb import ARROW_ROWS
from playhead.errors import CoverageError, PlayheadError
from playhead.serving import find_view
from playhead.views import View

__all__ = ["Feed", "Watch"]

logger = logging.getLogger(__name__)

Tell = Callable[[Reply], None]

_THREADS = 4
_QUICK_THREADS = 2
"""For what is known already: it must not wait for answers that are being made."""
_UNHURRIED_S = 5.0
"""Questions that are asked no more often than this are shown an older answer first."""
_TURN_S = 0.05
_REST = 3.0
"""A group rests at least so many times as long as its answer took."""
_VIEWS_EVERY_S = 1.0
_KEPT_S = 120.0
"""The replies that nobody watches any more are kept for so long, for whoever comes back."""
_MEMORY, _DUCKDB_THREADS = "512MB", 2


class Watch:
    """One browser's interest in a question; closed with the page."""

    def __init__(self, feed: "Feed", asked: Asked, tell: Tell, every_s: float) -> None:
        self._feed, self.asked, self.tell, self.every_s = feed, asked, tell, every_s

    def close(self) -> None:
        """Be told no more; may be called twice."""
        self._feed._leave(self)


@dataclass
class _Group:
    """Questions that are answered together."""

    asked: dict[Asked, Reply] = field(default_factory=dict)
    watches: set[Watch] = field(default_factory=set)
    rows: ViewRows | None = None
    identity: Hashable = None
    due_at: float = 0.0
    left_at: float = 0.0
    is_running: bool = False
    looked_up: set[Asked] = field(default_factory=set)

    @property
    def every_s(self) -> float:
        return min((watch.every_s for watch in self.watches), default=_KEPT_S)

    @property
    def watched(self) -> set[Asked]:
        return {watch.asked for watch in self.watches}

    def unknown(self) -> list[Question]:
        """Questions without a reply for which an older one would do, each only once."""
        watched = self.watched
        self.looked_up &= watched
        new = [
            each
            for each in watched - self.asked.keys() - self.looked_up
            if isinstance(each, Question) and (each.is_whole or each.every_s >= _UNHURRIED_S)
        ]
        self.looked_up.update(new)
        return new


@dataclass(frozen=True)
class _Found:
    """What a turn of a group found; no replies: all is as before."""

    replies: dict[Asked, Reply]
    identity: Hashable


class Feed:
    """The questions of all open pages.

    Args:
        workspace: stays the caller's to close.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._groups: dict[Hashable, _Group] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "feed")
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, "feed-quick")
        self._duckdb = connect(
            memory_limit=_MEMORY, threads=_DUCKDB_THREADS, temp_dir=workspace.path / "tmp"
        )
        # It asks rows that are there already, and never a file.
        self._duckdb.execute("SET enable_external_access = false")
        self._aside = Aside(workspace, self._duckdb)
        self._views_looked_at = float("-inf")

    def close(self) -> None:
        """Ask nothing any more; may be called twice."""
        self._quick.shutdown(wait=True, cancel_futures=True)
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._aside.close()
        self._duckdb.close()

    def watch(self, asked: Asked, tell: Tell, every_s: float | None = None) -> Watch:
        """Be told of every new reply, in the event loop; of the last one at once.

        Args:
            tell: must not block.
            every_s: seconds from one look to the next; by default as the question has it.
        """
        group = self._groups.setdefault(asked.group, _Group())
        watch = Watch(self, asked, tell, asked.every_s if every_s is None else every_s)
        group.due_at = min(group.due_at, time.monotonic() + watch.every_s)
        group.watches.add(watch)
        if asked in group.asked:
            tell(group.asked[asked])
        else:
            # Its answer may be unchanged, but this question of it was never asked.
            group.identity = None
            group.due_at = 0.0
        return watch

    def known(self, asked: Asked) -> Reply | None:
        """The last reply; None before the first."""
        group = self._groups.get(asked.group)
        return None if group is None else group.asked.get(asked)

    async def once(self, question: Question) -> Reply:
        """A reply to one question, now, and never again."""
        group = _Group()
        wanted: set[Asked] = {question}
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._answer, group, wanted)
        if group.rows is not None:
            group.rows.close()
        return found.replies[question]

    def _leave(self, watch: Watch) -> None:
        group = self._groups.get(watch.asked.group)
        if group is not None and watch in group.watches:
            group.watches.discard(watch)
            group.left_at = time.monotonic()

    # -- the loop --------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Ask what is watched until `stopping`."""
        turns: set[asyncio.Task[None]] = set()

        def begin(work: Coroutine[Any, Any, None]) -> None:
            turn = asyncio.create_task(work)
            turns.add(turn)
            turn.add_done_callback(turns.discard)

        while not stopping.is_set():
            now = time.monotonic()
            for key, group in tuple(self._groups.items()):
                if not group.watches:
                    if now - group.left_at > _KEPT_S and not group.is_running:
                        del self._groups[key]
                        if group.rows is not None:
                            group.rows.close()
                    continue
                if new := group.unknown():
                    begin(self._look_up(group, new))
                if not group.is_running and group.due_at <= now:
                    group.is_running = True
                    begin(self._turn(group))
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), _TURN_S)
        if turns:
            await asyncio.wait(turns, timeout=1.0)

    async def _turn(self, group: _Group) -> None:
        wanted = group.watched
        begun = time.monotonic()
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._threads, self._answer, group, wanted)
            self._tell(group, found)
        except RuntimeError:
            # The threads have been told to end.
            logger.debug("a question came after the end", exc_info=True)
        except Exception:
            logger.exception("a question failed")
        finally:
            took = time.monotonic() - begun
            rest = max(group.every_s, _REST * took) if group.watched <= wanted else 0.0
            group.due_at = time.monotonic() + rest
            group.is_running = False

    async def _look_up(self, group: _Group, new: list[Question]) -> None:
        """Tell what was known some time ago of questions that have no reply yet."""
        try:
            loop = asyncio.get_running_loop()
            replies = await loop.run_in_executor(self._quick, self._of_then, new)
        except RuntimeError:
            logger.debug("a question came after the end", exc_info=True)
            return
        for asked, reply in replies.items():
            if asked not in group.asked:
                group.asked[asked] = reply
                for watch in tuple(group.watches):
                    if watch.asked == asked:
                        watch.tell(reply)

    def _tell(self, group: _Group, found: _Found) -> None:
        group.identity = found.identity
        # Forgets what nobody asks any more, such as the filters of a moment ago.
        if found.replies:
            watched = group.watched
            kept = {each: reply for each, reply in group.asked.items() if each in watched}
            group.asked = {**kept, **found.replies}
        for watch in tuple(group.watches):
            if (reply := found.replies.get(watch.asked)) is not None:
                watch.tell(reply)

    # -- in a thread -----------------------------------------------------------------------

    def _answer(self, group: _Group, wanted: set[Asked]) -> _Found:
        begun = time.monotonic()
        first = next(iter(wanted))
        try:
            if isinstance(first, Look):
                value = first.call(self.workspace)
                took = time.monotonic() - begun
                return _Found({first: Reply(value, made_at=_now(), took_s=took)}, None)
            questions = [each for each in wanted if isinstance(each, Question)]
            return self._answer_view(group, questions)
        except PlayheadError as error:
            waits = isinstance(error, CoverageError)
            problem = Problem("waits" if waits else "failed", error.message, error.hint or "")
        except Exception as error:
            logger.exception("a question failed")
            problem = Problem("failed", f"{type(error).__name__}: {error}", "See the log.")
        replies: dict[Asked, Reply] = {
            each: _with(group.asked.get(each), problem)
            for each in wanted
            if each not in group.asked or group.asked[each].problem != problem
        }
        return _Found({**group.asked, **replies} if replies else {}, None)

    def _of_then(self, new: list[Question]) -> dict[Asked, Reply]:
        """Replies made of the last answer of all of a view, before that of now is made.

        None of them where no answer is known, or where it is given at once anyway.
        """
        try:
            view = find_view(self.workspace.views, new[0].view)
            _, newest = self._newest(view)
            last = self.workspace.session.last_answer(view)
        except PlayheadError:
            return {}
        if last is None or (last.is_current and new[0].is_whole):
            return {}
        base = Reply(
            made_at=last.made_at,
            newest=newest,
            watermark=last.watermark,
            took_s=last.seconds,
            is_stale=not last.is_current,
        )
        with self._duckdb.cursor() as cursor:
            cursor.register(view.name, last.table)
            return self._selected(cursor, new, view, base)

    def _answer_view(self, group: _Group, questions: list[Question]) -> _Found:
        begun = time.monotonic()
        self._refresh()
        workspace, first = self.workspace, questions[0]
        view = find_view(workspace.views, first.view)
        oldest, newest = self._newest(view)
        span = None if first.is_whole else span_of(view, *first.bounds(newest))
        # Before the rows: what the watermark passes meanwhile is shown as open for one turn more.
        watermark = None if oldest is None else oldest - view.watermark
        rows = group.rows = group.rows or ViewRows(workspace, self._aside)
        identity = rows.identity(view, span, watermark)
        known = [group.asked[each] for each in questions if each in group.asked]
        is_known = len(known) == len(questions) and not any(reply.is_stale for reply in known)
        if identity == group.identity and is_known:
            return _Found({}, identity)
        base = Reply(
            made_at=_now(),
            newest=newest,
            watermark=watermark,
            revised=self._revised(view, span is not None),
            problem=_nothing(view) if newest is None else None,
        )
        with rows.readable(view, span) as cursor:
            replies = self._selected(cursor, questions, view, base)
        took = _since(begun)
        return _Found({k: replace(v, took_s=took) for k, v in replies.items()}, identity)

    def _selected(
        self, cursor: duckdb.DuckDBPyConnection, questions: list[Question], view: View, base: Reply
    ) -> dict[Asked, Reply]:
        """The replies to questions of one group, in a session that has the view's rows."""
        replies: dict[Asked, Reply] = {}
        for each in questions:
            start, end = each.bounds(base.newest)
            reply = replace(base, start=start, end=end, sql=each.sql(view, base.newest))
            try:
                table = cursor.execute(reply.sql).to_arrow_table(ARROW_ROWS)
                replies[each] = replace(reply, value=table)
            except duckdb.Error as error:
                problem = Problem("failed", f"{view.name}: {error}")
                replies[each] = replace(reply, problem=problem)
        return replies

    def _newest(self, view: View) -> tuple[datetime | None, datetime | None]:
        """The newest event time of the view's slowest and of its fastest topic; None: no event."""
        times = [self.workspace.session.newest(topic) for topic in view.topics]
        known = [time for time in times if time is not None]
        return min(known, default=None), max(known, default=None)

    def _revised(self, view: View, is_windowed: bool) -> dict[datetime, int]:
        """Windows that late events have changed, and how many did."""
        if view.window is None or not is_windowed:
            return {}
        windows = self.workspace.state.windows(view.name)
        return {start: late for start, _, revision, late in windows if revision}

    def _refresh(self) -> None:
        if time.monotonic() - self._views_looked_at > _VIEWS_EVERY_S:
            self._views_looked_at = time.monotonic()
            self.workspace.refresh()


def _with(before: Reply | None, problem: Problem) -> Reply:
    """The last answer, with the reason why there is none of now."""
    return replace(before or Reply(), problem=problem)


def _nothing(view: View) -> Problem:
    topics = " or ".join(view.topics)
    return Problem(
        "empty",
        f"No {topics} events have come yet.",
        "Send some to the gateway, or load files: playhead load FOLDER, then playhead batch.",
    )


def _since(begun: float) -> float:
    return time.monotonic() - begun


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
