"""What all pages of one process share: the workspace, the feed, the keys, drawings made already."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from playhead.api.cells import Cells
from playhead.assemble import Workspace
from playhead.dashboard.feed import Feed
from playhead.dashboard.login import Login
from playhead.dashboard.meters import Meters
from playhead.dashboard.questions import Reply
from playhead.views import View

__all__ = ["Board", "Draw"]

Draw = Callable[[Sequence[Reply]], Any]
"""Makes of some replies what an element shows; a function of a module, so that all browsers that
show the same share what it makes."""

_DRAWINGS = 512


class Board:
    """One process of dashboards.

    Args:
        workspace: stays the caller's to close.
        cells: runs the SQL of people; stays the caller's to close.
    """

    def __init__(self, workspace: Workspace, cells: Cells, login: Login) -> None:
        self.workspace = workspace
        self.cells = cells
        self.login = login
        self.feed = Feed(workspace)
        self.meters = Meters(workspace)
        self._drawings: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    @property
    def views(self) -> Mapping[str, View]:
        """The views as they are now, by name."""
        return self.workspace.views

    def drawn(self, draw: Draw, replies: Sequence[Reply]) -> Any:
        """What is shown of these replies, made once for all browsers; it must not be changed."""
        key = (draw, *replies)
        if key not in self._drawings:
            self._drawings[key] = draw(replies)
            if len(self._drawings) > _DRAWINGS:
                self._drawings.popitem(last=False)
        return self._drawings[key]
