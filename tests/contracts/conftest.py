"""The implementations that the contract suites run against, and what they start from."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from playhead.clock import Clock, ManualClock
from playhead.eventlog import EventLog, SqliteEventLog
from playhead.testing.eventlog import MemoryEventLog

NOON = datetime(2025, 3, 1, 12)

EVENT_LOGS: dict[str, Callable[[Path, Clock], EventLog]] = {
    "sqlite": lambda folder, clock: SqliteEventLog(folder / "eventlog.db", clock=clock),
    "memory": lambda _, clock: MemoryEventLog(clock=clock),
}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture(params=sorted(EVENT_LOGS))
def open_log(request: pytest.FixtureRequest) -> Callable[[Path, Clock], EventLog]:
    """Opens an event log of one implementation in a folder of its own."""
    factory: Callable[[Path, Clock], EventLog] = EVENT_LOGS[request.param]
    return factory


@pytest.fixture
def log(
    open_log: Callable[[Path, Clock], EventLog], tmp_path: Path, clock: ManualClock
) -> Iterator[EventLog]:
    with open_log(tmp_path, clock) as opened:
        yield opened
