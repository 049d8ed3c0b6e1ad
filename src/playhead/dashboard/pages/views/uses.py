"""Which charts of the dashboards are made of which view, found by building the pages once."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fastapi import Request
from nicegui import ui
from nicegui.client import Client

from playhead.dashboard.board import Board
from playhead.dashboard.feed import Tell
from playhead.dashboard.page import Page, Spec
from playhead.dashboard.pages import live, quality
from playhead.dashboard.pages.history import page as history
from playhead.dashboard.pages.platform import page as platform
from playhead.dashboard.questions import Asked, Question

__all__ = ["PAGES", "Use", "uses"]

logger = logging.getLogger(__name__)

PAGES: Sequence[Spec] = (live.SPEC, history.SPEC, platform.SPEC, quality.SPEC)
"""The pages that show charts of views."""


@dataclass(frozen=True)
class Use:
    """A card that shows answers of a view.

    Attributes:
        path: of its page.
    """

    page: str
    path: str
    title: str


class _Unshown(Page):
    """A page in no browser: it notes what its cards ask, and asks nothing."""

    def __init__(self, board: Board, request: Request, spec: Spec) -> None:
        super().__init__(board, request, spec)
        self.noted: list[tuple[str, Use]] = []

    def note(self, title: str, questions: Sequence[Question]) -> None:
        use = Use(self.spec.title, self.spec.path, title)
        self.noted += [(question.view, use) for question in questions]

    def watch(self, asked: Asked, tell: Tell, *, lasting: bool = False) -> None:
        """Nothing is asked."""


async def uses(board: Board) -> Mapping[str, tuple[Use, ...]]:
    """The cards made of each view, as the pages are without filters.

    To be awaited in a task of its own: within a page, what is built would become a part of it.
    """
    return _found(board)


@lru_cache(maxsize=1)
def _found(board: Board) -> Mapping[str, tuple[Use, ...]]:
    found: dict[str, dict[Use, None]] = {}
    for spec in PAGES:
        for view, use in _noted(board, spec):
            found.setdefault(view, {})[use] = None
    return {view: tuple(several) for view, several in found.items()}


def _noted(board: Board, spec: Spec) -> list[tuple[str, Use]]:
    scope = {"type": "http", "method": "GET", "path": spec.path, "query_string": b"",
             "headers": [], "path_params": {}}  # fmt: skip
    client = Client(ui.page(spec.path))
    try:
        with client:
            page = _Unshown(board, Request(scope), spec)
            page.body = ui.element("div")
            page.rebuild()
            return page.noted
    except Exception:
        # One page that cannot be built is told where it is opened; the others' charts are known.
        logger.exception("the page %s cannot be built", spec.path)
        return []
    finally:
        client.delete()
