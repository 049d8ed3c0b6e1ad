"""One page in one browser: its filters in the address, what it watches, what is around it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

import pyarrow as pa
from fastapi import Request
from nicegui import ui

from playhead.batch.sqltext import identifier
from playhead.dashboard.board import Board
from playhead.dashboard.feed import Tell, Watch
from playhead.dashboard.filters import Filters, Period
from playhead.dashboard.questions import WHERE, Asked, Problem, Question
from playhead.errors import UnknownViewError
from playhead.views import View

__all__ = ["Page", "Spec"]


@dataclass(frozen=True)
class Spec:
    """A page of the dashboards.

    Attributes:
        path: such as "/live"; parts in braces are arguments of the page.
        title: in the navigation and the browser's tab.
        icon: its name in Material Icons.
        build: makes the content for the filters as they are.
        period: of time, where the address names none.
        periods: that are offered: what the address says, such as "6h", and how it is called;
            "" is all of the time. Empty: the page has no time.
        dimensions: that can be filtered by.
        compares: whether the period before can be shown beside.
        in_navigation: whether the navigation leads to it.
        kept: the questions that it asks first, which are looked at now and then while nobody does,
            so that they are answered already for whoever comes.
        keeps: names of what its address says besides filters, which links to it go on saying.
        fit: makes of it the page of one address, by what that says.
    """

    path: str
    title: str
    icon: str
    build: Callable[["Page"], None]
    period: Period = field(default_factory=Period)
    periods: Sequence[tuple[str, str]] = ()
    dimensions: Sequence[str] = ()
    compares: bool = False
    in_navigation: bool = True
    kept: Callable[[Board, Filters], Sequence[Asked]] = lambda _board, _filters: ()
    keeps: Sequence[str] = ()
    fit: Callable[["Spec", Board, Mapping[str, str]], "Spec"] | None = None


class Page:
    """What a page is made with.

    Attributes:
        path: without what stands behind its question mark.
        arguments: what the address says besides filters, and the parts of its path.
        overlay: where dialogs go, which outlive what opened them.
        body: the content, which is made anew when the filters change.
    """

    def __init__(self, board: Board, request: Request, spec: Spec) -> None:
        self.board, self.path = board, request.url.path
        self.arguments = {**request.query_params, **request.path_params}
        self.spec = spec = spec if spec.fit is None else spec.fit(spec, board, self.arguments)
        self.kept = {name: self.arguments[name] for name in spec.keeps if name in self.arguments}
        self.filters = Filters.parse(request.url.query, spec.period)
        self.cookies = request.cookies
        self._watches: list[Watch] = []
        self._lasting: list[Watch] = []
        self._parts: dict[int, list[Watch]] = {}
        self._followers: list[Callable[[], None]] = []
        self.client = ui.context.client
        self.client.on_delete(self.close)
        self.overlay = ui.element("div").classes("overlay")
        self.body: ui.element | None = None

    def close(self) -> None:
        """Watch nothing any more; may be called twice."""
        for watch in (*self._watches, *self._lasting):
            watch.close()
        self._watches.clear()
        self._lasting.clear()

    # -- asking ----------------------------------------------------------------------------

    def view(self, name: str) -> View:
        """A view by its name.

        Raises:
            UnknownViewError: there is none.
        """
        if name not in self.board.views:
            raise UnknownViewError(f"no view {name}")
        return self.board.views[name]

    def ask(
        self, view: str, select: str, *, before: bool = False, every_s: float = 0.5
    ) -> Question:
        """A SELECT over a view within the page's filters; `{where}` stands for them.

        Args:
            before: of the period before.
            every_s: seconds from one look to the next.
        """
        filters = self.filters
        return Question.about(self.view(view), select, filters, before=before, every_s=every_s)

    def watch(self, asked: Asked, tell: Tell, *, lasting: bool = False) -> None:
        """Be told of replies until the content is built anew; or, lasting, until the page goes."""
        watches = self._lasting if lasting else self._watches
        watches.append(self.board.feed.watch(asked, tell))

    async def rows(self, question: Question, most: int) -> "pa.Table | Problem":
        """The view's own rows behind a question, those of the newest time first."""
        view = self.view(question.view)
        newest = f" ORDER BY {identifier(view.window.key)} DESC" if view.window else ""
        select = f"SELECT * FROM {view.name} WHERE {WHERE}{newest} LIMIT {most}"
        reply = await self.board.feed.once(replace(question, select=select))
        return reply.problem if reply.table is None and reply.problem else reply.table

    # -- the address -----------------------------------------------------------------------

    def address(self, filters: Filters | None = None, path: str | None = None) -> str:
        """A link to the page with some filters."""
        query = (filters or self.filters).query(self.spec.period)
        told = "&".join(part for part in (query, urlencode(self.kept)) if part)
        return f"{path or self.path}{'?' if told else ''}{told}"

    def keep(self, told: Mapping[str, str]) -> None:
        """Let the address say this besides the filters; the content stays as it is."""
        self.kept = {name: value for name, value in {**self.kept, **told}.items() if value}
        ui.navigate.history.replace(self.address())

    def change(self, filters: Filters) -> None:
        """Show the page with other filters, and let its address say so."""
        if filters == self.filters:
            return
        self.filters = filters
        ui.navigate.history.push(self.address())
        for follow in self._followers:
            follow()
        self.rebuild()

    def follow(self, call: Callable[[], None]) -> None:
        """Be called whenever the filters have changed."""
        self._followers.append(call)

    def remake(self, place: ui.element, make: Callable[[], None]) -> None:
        """Make a part of the content anew; what it watched before is watched no more."""
        ended = self._parts.pop(place.id, [])
        for watch in ended:
            watch.close()
        self._watches = [watch for watch in self._watches if watch not in ended]
        place.clear()
        count = len(self._watches)
        with place:
            make()
        self._parts[place.id] = self._watches[count:]

    def note(self, title: str, questions: Sequence[Question]) -> None:
        """Be told that a card of this title shows the answers to some questions."""

    def rebuild(self) -> None:
        """Make the content anew."""
        for watch in self._watches:
            watch.close()
        self._watches.clear()
        self._parts.clear()
        if self.body is not None:
            self.body.clear()
            with self.body:
                self.spec.build(self)
