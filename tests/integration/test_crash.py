"""kill -9 in every stage: run it again to its end, and all is there, once."""

import random
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from layers import (
    Running,
    SmallWorkspace,
    Watch,
    assert_merged_is_full,
    counted,
    load_dimensions,
    searches,
    send,
    watch_line,
    watches,
    workspace,
    write_files,
)
from playhead.speed.alerts import TOPIC as ALERTS
from stages import STAGES, VIEWS, Moment, kill_at, speed_process

LAKE = "playhead.lake.lake:Lake._write"
DRAFTS = "playhead.lake.lake:Lake.publish"
STATE = "playhead.speed.state:StateStore"
LOG = "playhead.eventlog.sqlite:SqliteEventLog.append"

MOMENTS = {
    # Dimensions and reports are written at once, raw and cleaned events as drafts, sealed ones too.
    "load": [
        Moment(LAKE, 1),
        Moment(DRAFTS, 1, after=False),
        Moment(DRAFTS, 1),
        Moment(DRAFTS, 1, after=False),
    ],
    "replay": [Moment(LOG, 2), Moment(LOG, 2, after=False)],
    "speed": [
        Moment(f"{STATE}.commit", 2, after=False),
        Moment(f"{STATE}.commit", 2),
        Moment(f"{STATE}.raise_alerts", 1),
        Moment(f"{STATE}.published", 1, after=False),
    ],
    "seal": [
        Moment(f"{STATE}.cut", 1),
        Moment(DRAFTS, 1),
        Moment(f"{STATE}.sealed", 1, after=False),
        Moment(f"{STATE}.sealed", 1),
    ],
    "batch": [
        Moment(DRAFTS, 1),
        Moment(DRAFTS, 1, after=False),
        Moment(DRAFTS, 2),
        Moment(f"{STATE}.prune", 1, after=False),
        Moment(f"{STATE}.prune", 2),
    ],
    "compaction": [
        Moment(f"{STATE}.replace", 1, after=False),
        Moment(f"{STATE}.replace", 1),
    ],
}
OLD = watches(30)


class Life:
    """A workspace to which more and more happens, and the ids that it has to hold."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "w"
        self.ids = {event.event_id for event in OLD}
        self.turns = 0
        with workspace(self.path, *VIEWS) as opened:
            (self.path / "playhead.toml").write_text("[speed]\nmax_events = 30\n")
            load_dimensions(opened)
            send(opened, OLD)
            opened.speed(drain=True)
            opened.batch()

    def prepare(self, stage: str) -> None:
        """Give a stage something to do, some of it for the second time."""
        self.turns += 1
        first = self.turns * 1000
        if stage in ("load", "replay"):
            lines = [watch_line(first + number, user=number % 7) for number in range(40)]
            files = {"watch_history": [*lines, lines[0]]}
            if self.turns == 1:
                files["users"] = [{"user_id": "u1", "email": "x", "country": "Peru"}]
            write_files(self.path.parent / "files", files)
            self.ids |= {line["session_id"] for line in lines}
            return
        # Each turn is some hours after the one before, so that windows become final.
        events = [*watches(60, start=first, minute=self.turns * 300, step=0.5), *OLD[:5]]
        self.ids |= {event.event_id for event in events}
        with workspace(self.path, *VIEWS) as opened:
            send(opened, events)
            opened.log.append("search", searches([self.turns]))
            if stage in ("batch", "compaction"):
                running = Running(opened, max_events=10)
                with running as layer:
                    running.catch_up()
                    layer.seal()

    def finish(self) -> None:
        with workspace(self.path, *VIEWS) as opened:
            opened.speed(drain=True)
            opened.batch()
            check(opened, self.ids)


def check(opened: SmallWorkspace, ids: Collection[str]) -> None:
    """All is there, once, and both layers agree; what was raised was published, once."""
    assert_merged_is_full(opened)
    assert counted(opened) == len(ids)
    found = opened.query("SELECT event_id FROM playback").to_arrow().column("event_id")
    assert sorted(found.to_pylist()) == sorted(ids)
    check_alerts(opened)


def check_alerts(opened: SmallWorkspace) -> None:
    """What was raised was published, once."""
    ends = opened.log.end_offsets(ALERTS)[0]
    sent = opened.log.read(ALERTS, 0, 0).column("event_id").to_pylist() if ends else []
    assert sorted(sent) == sorted(f"{a.alert_id}-{a.revision}" for a in opened.state.alerts())
    assert len(sent) == len(set(sent))
    assert opened.state.alerts(unpublished=True) == []


@pytest.mark.parametrize("stage", MOMENTS)
def test_kill_9_loses_nothing_and_doubles_nothing(tmp_path: Path, stage: str) -> None:
    life = Life(tmp_path)
    for moment in MOMENTS[stage]:
        life.prepare(stage)
        kill_at(life.path, stage, moment)
        with workspace(life.path, *VIEWS) as opened:
            if stage not in ("load", "replay"):
                # Before anything is repaired, too: whatever was committed is all that counts.
                assert_merged_is_full(opened)
            STAGES[stage](opened)
    life.finish()


def test_kill_9_at_any_moment_while_events_keep_coming(tmp_path: Path) -> None:
    life, picks, sent = Life(tmp_path), random.Random(7), list(OLD)
    for turn in range(3):
        with speed_process(life.path) as process, workspace(life.path, *VIEWS) as opened:
            ends = time.monotonic() + picks.uniform(0.05, 0.6)
            while time.monotonic() < ends:
                number = len(sent)
                events = [Watch(1000 + number + i, number / 20, i) for i in range(9)]
                send(opened, [*events, *sent[-5:]])
                sent += events
                if turn == 2:
                    opened.batch()
            process.kill()
    life.ids = {event.event_id for event in sent}
    life.finish()


def test_sigterm_drains(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.prepare("speed")
    with speed_process(life.path, seal_ms=60_000) as process:
        with workspace(life.path, *VIEWS) as opened:
            deadline = time.monotonic() + 60
            while opened.lag() and time.monotonic() < deadline:
                time.sleep(0.02)
        process.terminate()
        process.join(60)
        assert process.exitcode == 0
    with workspace(life.path, *VIEWS) as opened:
        # All that was read is in the lake, and no epoch is left half done.
        assert opened.lag() == 0
        assert all(first == last for first, last in opened.state.unsealed("playback").values())
        assert not [status for _, status in opened.state.epochs() if status == "sealing"]
        opened.batch()
        check(opened, life.ids)
