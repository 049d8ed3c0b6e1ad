"""The feed: each question asked once for all, only when something has changed, and exactly."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from layers import T0, Running, SmallWorkspace, Watch, load_dimensions, send, watches, workspace
from playhead.dashboard.feed import Feed
from playhead.dashboard.filters import Filters, Period
from playhead.dashboard.questions import Look, Question, Reply, span_of, where_sql
from playhead.dashboard.rows import Aside, ViewRows
from playhead.engines import connect
from playhead.serving import Span

VIEW = "active_viewers"
SELECT = (
    "SELECT window_start, country, SUM(active_users) AS users, SUM(sessions) AS sessions "
    "FROM active_viewers WHERE {where} GROUP BY ALL ORDER BY ALL"
)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[SmallWorkspace]:
    with workspace(tmp_path / "w", VIEW, "monthly_engagement") as made:
        load_dimensions(made)
        made.batch()
        yield made


def ask(opened: SmallWorkspace, filters: Filters | None = None) -> Question:
    return Question.about(opened.views[VIEW], SELECT, filters, every_s=0.05)


def running(feed: Feed, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test beside the feed's loop."""

    async def both() -> None:
        stopping = asyncio.Event()
        loop = asyncio.create_task(feed.run(stopping))
        try:
            await asyncio.wait_for(test(), 60)
        finally:
            stopping.set()
            await loop

    try:
        asyncio.run(both())
    finally:
        feed.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


def counted(reply: Reply) -> int:
    return 0 if reply.table is None else sum(reply.table.column("sessions").to_pylist())


# -- what is told --------------------------------------------------------------------------


def test_replies_follow_what_comes(opened: SmallWorkspace) -> None:
    feed, told = Feed(opened), list[Reply]()
    with Running(opened) as layer:

        async def test() -> None:
            feed.watch(ask(opened), told.append)
            await until(lambda: bool(told))
            assert told[0].problem is not None
            assert told[0].problem.kind == "empty"
            send(opened, watches(10))
            layer.step()
            await until(lambda: counted(told[-1]) == 10)
            assert told[-1].problem is None
            assert told[-1].newest == T0 + timedelta(minutes=9)
            assert told[-1].watermark == T0 - timedelta(minutes=1)
            replies = len(told)
            await asyncio.sleep(0.4)
            assert len(told) == replies, "nothing has changed"

        running(feed, test)


def test_one_answer_serves_all_who_watch(opened: SmallWorkspace) -> None:
    feed, first, second = Feed(opened), list[Reply](), list[Reply]()
    send(opened, watches(10))
    with Running(opened) as layer:
        layer.step()

        async def test() -> None:
            one = feed.watch(ask(opened), first.append)
            await until(lambda: bool(first))
            feed.watch(ask(opened), second.append)
            assert second[0] is first[-1]
            one.close()
            one.close()
            send(opened, [Watch(100, minute=1)])
            layer.step()
            await until(lambda: counted(second[-1]) == 11)
            assert counted(first[-1]) == 10

        running(feed, test)


def test_filters_are_part_of_the_question(opened: SmallWorkspace) -> None:
    send(opened, watches(10))
    with Running(opened) as layer:
        layer.step()
    filters = Filters(values={"country": ("USA",), "genre": ("Genre 1",)})
    question = ask(opened, filters)
    assert question.missing == ("genre",)
    feed, told = Feed(opened), list[Reply]()

    async def test() -> None:
        feed.watch(question, told.append)
        await until(lambda: bool(told) and told[-1].table is not None)
        rows = told[-1].table
        assert rows is not None
        assert set(rows.column("country").to_pylist()) == {"USA"}
        assert rows.equals(opened.query(told[-1].sql).to_arrow().cast(rows.schema))

    running(feed, test)


def test_a_question_that_fails_leaves_the_others_alone(opened: SmallWorkspace) -> None:
    send(opened, watches(3))
    with Running(opened) as layer:
        layer.step()
    feed, good, bad = Feed(opened), list[Reply](), list[Reply]()
    wrong = Question.about(opened.views[VIEW], "SELECT nothing FROM active_viewers WHERE {where}")

    async def test() -> None:
        feed.watch(wrong, bad.append)
        feed.watch(ask(opened), good.append)
        await until(lambda: bool(bad) and bool(good) and counted(good[-1]) == 3)
        assert bad[-1].problem is not None
        assert bad[-1].problem.kind == "failed"
        assert "nothing" in bad[-1].problem.text

    running(feed, test)


def test_a_look_that_fails_keeps_its_last_value(opened: SmallWorkspace) -> None:
    feed, told = Feed(opened), list[Reply]()
    values: list[int] = [1]

    def look(_: object) -> int:
        if not values:
            raise ValueError("gone")
        return values[0]

    async def test() -> None:
        feed.watch(Look(look, 0.05), told.append)
        await until(lambda: bool(told))
        values.clear()
        await until(lambda: told[-1].problem is not None)
        assert told[-1].value == 1
        assert told[-1].problem is not None
        assert "gone" in told[-1].problem.text
        replies = len(told)
        await asyncio.sleep(0.3)
        assert len(told) == replies, "the same problem is told once"

    running(feed, test)


def test_a_view_that_waits_for_the_batch_layer_says_so(tmp_path: Path) -> None:
    with workspace(tmp_path / "w", VIEW) as opened:
        send(opened, watches(3))
        feed, told = Feed(opened), list[Reply]()

        async def test() -> None:
            feed.watch(ask(opened), told.append)
            await until(lambda: bool(told))

        running(feed, test)
        assert told[-1].problem is not None


def test_once_asks_without_watching(opened: SmallWorkspace) -> None:
    send(opened, watches(4))
    with Running(opened) as layer:
        layer.step()
    feed, found = Feed(opened), list[Reply]()

    async def test() -> None:
        found.append(await feed.once(ask(opened)))

    running(feed, test)
    assert counted(found[0]) == 4
    assert feed.known(ask(opened)) is None


# -- settled and open windows --------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rows_in_two_parts_are_the_answer(opened: SmallWorkspace, seed: int) -> None:
    """Also with events that come late, at whatever time the settled part is made anew."""
    luck, view = random.Random(seed), opened.views[VIEW]
    with connect() as tables, Running(opened) as layer:
        aside = Aside(opened, tables)
        rows, number = ViewRows(opened, aside), 0
        for turn in range(14):
            newest = turn * 7.0
            events = [
                Watch(number + i, max(0.0, newest - luck.choice([0, 0, 1, 8, 40])), i % 5)
                for i in range(12)
            ]
            number += len(events)
            send(opened, events)
            layer.step()
            watermark = opened.watermark(view)
            start = T0 - timedelta(minutes=10)
            span = Span(start)
            whole, _ = opened.session.answer(view, span)

            def is_same(span: Span = span, whole: Any = whole, at: Any = watermark) -> bool:
                rows._looked_at = float("-inf")
                rows.identity(view, span, at)
                with rows.readable(view, span) as cursor:
                    sql = "SELECT * FROM active_viewers ORDER BY ALL"
                    found = cursor.execute(sql).to_arrow_table()
                    cursor.register("whole", whole)
                    wanted = cursor.execute("SELECT * FROM whole ORDER BY ALL").to_arrow_table()
                return bool(found.equals(wanted))

            begun = time.monotonic()
            while not is_same():
                assert time.monotonic() - begun < 20, f"turn {turn} differs"
                time.sleep(0.01)
        assert rows._settled is not None, "the two parts have been tried"
        rows.close()
        aside.close()


def test_what_has_settled_is_not_read_again(opened: SmallWorkspace) -> None:
    view = opened.views[VIEW]
    send(opened, watches(60))
    with connect() as tables, Running(opened) as layer:
        layer.step()
        aside, span = Aside(opened, tables), Span(T0)
        rows = ViewRows(opened, aside)
        rows.identity(view, span, opened.watermark(view))
        kept = rows._settled
        assert kept is not None
        for minute in (59.5, 59.9):
            send(opened, [Watch(int(minute * 100), minute)])
            layer.step()
            rows._looked_at = float("-inf")
            rows.identity(view, span, opened.watermark(view))
        assert rows._settled is kept
        assert rows._settling is None
        aside.close()


# -- what a question says ------------------------------------------------------------------


def test_time_and_values_become_sql(opened: SmallWorkspace) -> None:
    view = opened.views[VIEW]
    start = T0 + timedelta(minutes=7, seconds=3)
    wanted = (("country", ("USA", "Côte d'Ivoire")),)
    assert where_sql(view, start, None, wanted) == (
        f"\"window_start\" >= TIMESTAMP '{T0 + timedelta(minutes=5)}' AND "
        "\"country\" IN ('USA', 'Côte d''Ivoire')"
    )
    assert where_sql(view, None, None, ()) == "TRUE"
    months = opened.views["monthly_engagement"]
    first = start.replace(day=1, hour=0, minute=0, second=0)
    assert str(first) in where_sql(months, start, None, ())
    assert span_of(months, start, None) is None
    assert span_of(view, start, None) == Span(T0 + timedelta(minutes=5))


def test_the_period_before_is_as_long(opened: SmallWorkspace) -> None:
    filters = Filters(Period("6h"))
    question = Question.about(opened.views[VIEW], SELECT, filters, before=True)
    newest = T0 + timedelta(days=1)
    assert question.bounds(newest) == (newest - timedelta(hours=12), newest - timedelta(hours=6))
