"""Serving: the one place where batch and speed meet."""

from playhead.serving.answer import Answer, Result
from playhead.serving.coverage import Coverage
from playhead.serving.lastanswers import LastAnswer, LastView
from playhead.serving.session import Session, find_view
from playhead.serving.sources import Span

__all__ = [
    "Answer",
    "Coverage",
    "LastAnswer",
    "LastView",
    "Result",
    "Session",
    "Span",
    "find_view",
]
