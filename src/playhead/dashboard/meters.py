"""What is kept between two looks at the platform, so that each costs little; one for a process."""

from functools import cached_property

from playhead.assemble import Workspace
from playhead.ops.flow import Flow, FlowMeter
from playhead.ops.quality import Quality, QualityReader
from playhead.ops.refused import LettersSummary, LetterTail

__all__ = ["Meters"]


class Meters:
    """Looks at one workspace; its methods are what a `Look` calls, from any thread.

    Args:
        workspace: stays open for as long as this is used.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def close(self) -> None:
        """Let go of what was opened; may be called twice."""
        for name in ("_flow", "_letters", "_quality"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    def flow(self, _workspace: Workspace) -> Flow:
        """Rates, lag, epochs, coverage and sizes."""
        return self._flow.measure()

    def letters(self, _workspace: Workspace) -> LettersSummary:
        """The newest dead letters."""
        return self._letters.summary()

    def quality(self, _workspace: Workspace) -> Quality:
        """The reports of loads, and the quarantine."""
        return self._quality.read()

    @cached_property
    def _flow(self) -> FlowMeter:
        return FlowMeter(self._workspace)

    @cached_property
    def _letters(self) -> LetterTail:
        return LetterTail(self._workspace.log)

    @cached_property
    def _quality(self) -> QualityReader:
        return QualityReader(self._workspace)
