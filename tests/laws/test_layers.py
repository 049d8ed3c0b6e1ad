"""The law of the layers: whatever happens in whatever order, merged equals full, and each event
counts once."""

import shutil
import tempfile
from decimal import Decimal
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from layers import (
    Running,
    Watch,
    assert_is_full,
    assert_merged_is_full,
    counted,
    distinct_ids,
    load,
    load_dimensions,
    ratings,
    rows,
    send,
    workspace,
)
from playhead.errors import CoverageError

VIEWS = ("counts", "windows", "countries", "sessions", "latest", "content_performance")

MINUTES = st.one_of(
    st.integers(0, 45),
    st.sampled_from([-60, -60 * 24 * 40, 60 * 24 * 365 * 30, -60 * 24 * 365 * 60]),
)
WATCH = st.builds(
    Watch,
    number=st.integers(0, 15),
    minute=MINUTES,
    user=st.integers(0, 6),
    movie=st.integers(0, 3),
    watched=st.one_of(st.none(), st.decimals(0, 500, places=2).map(Decimal)),
)
EVENTS = st.lists(WATCH, min_size=1, max_size=6)
PLAIN = [
    *["seal"] * 3,
    *["batch"] * 3,
    *["restart", "forget"] * 2,
    *["step", "refresh", "compact", "judge", "full batch", "users", "ratings"],
]
STEPS = st.one_of(
    st.tuples(st.sampled_from(["send", "take", "take", "load"]), EVENTS),
    st.tuples(st.sampled_from(PLAIN)),
)


A = [Watch(number, number, number) for number in range(6)]
B = [Watch(number, number + 24 * 60, number) for number in range(4)]
C = [Watch(number, number, number) for number in range(4, 12)]


class Life:
    """A workspace that things happen to, and what is true of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent: list[Watch] = []
        self.may_wait = False
        self.versions = 0
        with workspace(path, *VIEWS) as fresh:
            load_dimensions(fresh)
            fresh.batch()
        self.open()

    def open(self) -> None:
        self.workspace = workspace(self.path, *VIEWS)
        self.running = Running(self.workspace, max_events=7)

    def close(self) -> None:
        """As if the process had died: nothing is sealed or told to end."""
        self.running.__exit__()
        self.workspace.close()

    def do(self, name: str, events: list[Watch] | None = None) -> None:
        layer = self.running.layer
        match name:
            case "send":
                self.sent += events or []
                send(self.workspace, events or [])
            case "take":
                self.do("send", events)
                self.running.catch_up()
            case "load":
                self.sent += events or []
                self.may_wait = True
                load(self.workspace, events or [])
            case "batch" | "full batch":
                self.workspace.batch(full=name == "full batch")
            case "restart":
                self.close()
                self.open()
            case "forget":
                self.close()
                for file in self.path.glob("state.db*"):
                    file.unlink()
                self.may_wait = True
                self.open()
            case "users":
                self.versions += 1
                load_dimensions(self.workspace, users=self.versions % 7, spend=self.versions)
            case "ratings":
                self.versions += 1
                pair = [(self.versions % 5, self.versions % 3, self.versions % 5 + 1)]
                self.workspace.log.append("rating", ratings(pair))
            case _:
                getattr(layer, name)()

    def check(self) -> None:
        """Each answer that is given is exact; none is withheld without a reason."""
        for name in VIEWS:
            try:
                answer = self.workspace.view(name)
            except CoverageError:
                assert self.may_wait
                continue
            if not any(part.mixed for part in answer.coverage):
                assert_is_full(self.workspace, answer)

    def settle(self) -> None:
        """Take everything in, seal it and recompute: then all is there, once."""
        self.running.catch_up()
        self.running.layer.seal()
        self.workspace.batch()
        self.running.layer.refresh()
        assert_merged_is_full(self.workspace)
        assert counted(self.workspace) == distinct_ids(self.sent)
        ids = "SELECT COUNT(*) AS n, COUNT(DISTINCT event_id) AS ids FROM playback"
        assert rows(self.workspace, ids) == [
            {"n": distinct_ids(self.sent), "ids": distinct_ids(self.sent)}
        ]


@settings(max_examples=max(settings().max_examples // 5, 1))
@given(st.lists(STEPS, min_size=4, max_size=14))
# A file with events that an open epoch counts.
@example([("take", A), ("load", A), ("batch",), ("seal",), ("batch",)])
# An event that moves to another day, because the log had it before the file.
@example([("send", A), ("load", B), ("batch",), ("step",), ("seal",), ("batch",)])
# A state file that is lost with epochs in the lake: covered ones, and others.
@example([("take", A), ("seal",), ("batch",), ("forget",), ("take", B), ("seal",), ("batch",)])
@example([("take", A), ("seal",), ("forget",), ("take", C), ("seal",), ("take", B), ("batch",)])
# Repeats of what was loaded, sealed and read, after a death.
@example([("load", A), ("batch",), ("take", C), ("seal",), ("restart",), ("take", B)])
def test_merged_equals_full_after_every_step(steps: list[tuple[str, ...]]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        life = Life(folder / "w")
        try:
            for step in steps:
                life.do(*step)
                life.check()
            life.settle()
        finally:
            life.close()
    finally:
        shutil.rmtree(folder)
