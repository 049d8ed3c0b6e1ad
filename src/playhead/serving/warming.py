"""Makes the whole answers that take long before anybody asks for them."""

import logging
import threading
from collections.abc import Callable, Iterable

from playhead.errors import CoverageError, PlayheadError, QueryTimeoutError
from playhead.serving.lastanswers import SLOW_S
from playhead.serving.session import Session
from playhead.serving.stop import Stop
from playhead.views import View

logger = logging.getLogger(__name__)

VIEW_S = 180.0
"""A view that takes longer is left to those who ask for it."""


class _Unless(Stop):
    """Ends after some time, or with an event."""

    def __init__(self, seconds: float, event: threading.Event) -> None:
        super().__init__(seconds)
        self._event = event

    @property
    def is_over(self) -> bool:
        return self._event.is_set() or super().is_over


def warm(
    session: Session,
    views: Iterable[View],
    stop: threading.Event,
    tell: Callable[[str], None],
    *,
    view_s: float = VIEW_S,
) -> None:
    """Make the whole answer of each view that is slow, or of which nothing is known.

    A view without an exact answer is passed over; what fails is logged. An answer that is too
    large to be kept, or takes longer than `view_s`, is not tried again for a day.

    Args:
        stop: ends it, in the middle of an answer, too.
        tell: told the name of each view.
    """
    for view in sorted(views, key=lambda view: -session.last_seconds(view, unknown=SLOW_S)):
        if stop.is_set():
            return
        if session.last_seconds(view, unknown=SLOW_S) >= SLOW_S and not session.is_refused(view):
            tell(view.name)
            _make(session, view, _Unless(view_s, stop), stop)


def _make(session: Session, view: View, until: Stop, stop: threading.Event) -> None:
    try:
        with session.until(until):
            if not session.remember(view):
                session.refuse(view)
    except CoverageError as error:
        logger.debug("no answer of %s to keep: %s", view.name, error.message)
    except QueryTimeoutError:
        if not stop.is_set():
            logger.info("the answer of %s takes long, and is not kept", view.name)
            session.refuse(view)
    except PlayheadError as error:
        logger.warning("no answer of %s to keep: %s", view.name, error.message)
