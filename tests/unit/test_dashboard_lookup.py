"""Who asks for all of a view sees what was known some time ago at once, and then what is."""

import asyncio
from pathlib import Path

from layers import Running, load, load_dimensions, send, watches, workspace
from playhead.dashboard.feed import Feed
from playhead.dashboard.filters import Filters, Period
from playhead.dashboard.questions import Question, Reply


def _told(feed: Feed, question: Question) -> list[Reply]:
    """The replies to a question until one is of now."""

    async def ask() -> list[Reply]:
        told: list[Reply] = []
        stopping = asyncio.Event()

        def tell(reply: Reply) -> None:
            told.append(reply)
            if not reply.is_stale:
                stopping.set()

        watch = feed.watch(question, tell)
        await asyncio.wait_for(feed.run(stopping), 20)
        watch.close()
        return told

    return asyncio.run(ask())


def test_the_last_answer_comes_first_and_the_exact_one_follows(tmp_path: Path) -> None:
    with workspace(tmp_path / "w", "counts", "windows") as made:
        load_dimensions(made)
        load(made, watches(6))
        made.batch()
        with Running(made) as layer:
            before = made.view("counts").to_arrow()
            send(made, watches(4, start=6, minute=6))
            layer.step()
        feed = Feed(made)
        try:
            question = Question.about(made.views["counts"], "FROM counts", every_s=5.0)
            first, *_, last = _told(feed, question)
            assert first.is_stale
            assert first.table is not None
            assert first.table.equals(before)
            assert last.table is not None
            assert last.table.equals(made.view("counts").to_arrow())
            assert not last.table.equals(before)
            assert [reply.is_stale for reply in _told(feed, question)] == [False]
        finally:
            feed.close()


def test_periods_of_a_view_without_windows_share_its_rows(tmp_path: Path) -> None:
    with workspace(tmp_path / "w", "counts", "windows") as made:
        counts, windows = made.views["counts"], made.views["windows"]
        day = Filters(Period("24h"))
        whole = Question.about(counts, "FROM counts")
        assert whole.is_whole
        assert Question.about(windows, "FROM windows").is_whole
        now = Question.about(windows, "FROM windows", day)
        before = Question.about(windows, "FROM windows", day, before=True)
        assert not now.is_whole
        assert now.group != before.group
        assert Question.about(counts, "FROM counts", day).group == whole.group
