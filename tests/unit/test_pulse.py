"""Whoever waits for Spark hears that it works, and hears nothing when it does not."""

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

import playhead.engines.spark.pulse as rooms

pytest.importorskip("pyspark", reason="missing: pyspark")
pytestmark = pytest.mark.cluster

Look = Sequence[tuple[int, int]] | Exception


class Session:
    """A session of which each look finds other tasks: by stage, how many run and how many are done.

    Attributes:
        all_looked: set when every look was had, and one more.
    """

    def __init__(self, *looks: Look) -> None:
        self._looks = list(looks)
        self._now: Sequence[tuple[int, int]] = ()
        self.all_looked = threading.Event()
        self.sparkContext = SimpleNamespace(statusTracker=lambda: self)

    def getActiveStageIds(self) -> list[int]:
        if not self._looks:
            self.all_looked.set()
            return []
        now = self._looks.pop(0)
        if isinstance(now, Exception):
            raise now
        self._now = now
        return list(range(len(now)))

    def getStageInfo(self, stage: int) -> Any:
        active, done = self._now[stage]
        return SimpleNamespace(
            stageId=stage, numActiveTasks=active, numCompletedTasks=done, numFailedTasks=0
        )


def told(monkeypatch: pytest.MonkeyPatch, *looks: Look) -> int:
    """How often such a session is told of."""
    monkeypatch.setattr(rooms, "LOOK_S", 0.001)
    session: Any = Session(*looks)
    calls = []
    with rooms.pulse(lambda: session, lambda: calls.append(1)):
        assert session.all_looked.wait(30)
    return len(calls)


def test_tasks_that_begin_or_end_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, [(2, 0)], [(2, 1)], [(1, 2)], [(1, 2), (2, 0)]) == 4


def test_tasks_that_hang_and_a_session_without_any_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, [], [(2, 0)], [(2, 0)], [(2, 0)], []) == 1


def test_a_spark_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, ConnectionRefusedError(), [(1, 0)]) == 1


def test_a_session_that_is_not_there_is_not_asked_for_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rooms, "LOOK_S", 0.001)
    asked = threading.Event()

    def session() -> None:
        asked.set()

    with rooms.pulse(session, lambda: pytest.fail("nothing works")):
        assert asked.wait(30)
