"""kill -9 in the middle of a recovery: the next one finishes it, and every event counts once."""

from pathlib import Path

import pytest

from layers import assert_merged_is_full, counted, rows, workspace
from letters import TOPIC, Dead, post, watch_body
from playhead.batch.deadletters import Wanted
from stages import VIEWS, Moment, kill_at

LETTERS = 2_500
"""More than are recovered at once: their events and marks are appended in turns."""

APPEND = "playhead.eventlog.sqlite:SqliteEventLog.append"
MARK = "playhead.batch.recover:Recoverer._mark"
MOMENTS = [
    Moment(APPEND, 1, after=False),
    Moment(APPEND, 1),
    Moment(MARK, 1, after=False),
    Moment(MARK, 1),
    Moment(APPEND, 3),
    Moment(MARK, 2, after=False),
    Moment(MARK, 2),
]


def _body(number: int) -> bytes:
    """Every third event has no id of its own."""
    return watch_body(number, event_id=None) if number % 3 == 0 else watch_body(number)


@pytest.mark.parametrize("sealed", [False, True], ids=["in the log", "in the lake"])
@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_killed_it_goes_on_and_nothing_counts_twice(
    tmp_path: Path, moment: Moment, sealed: bool
) -> None:
    path = tmp_path / "w"
    with workspace(path, *VIEWS) as opened:
        post(opened, [Dead(number, _body(number)) for number in range(LETTERS)])
        if sealed:
            opened.speed(drain=True)
    kill_at(path, "recover", moment)
    with workspace(path, *VIEWS) as opened:
        if sealed:
            opened.speed(drain=True)
        opened.recover()
        opened.speed(drain=True)
        with opened.dead_letters() as letters:
            assert letters.count(Wanted()) == 0
            assert letters.count(Wanted(recovered=True)) == LETTERS
        assert counted(opened) == LETTERS
        marks = f"SELECT COUNT(*) AS n FROM {TOPIC} WHERE event_type = 'recovered'"
        assert rows(opened, marks) == [{"n": LETTERS}]
        opened.batch()
        assert counted(opened) == LETTERS
        assert_merged_is_full(opened, ["counts"])
