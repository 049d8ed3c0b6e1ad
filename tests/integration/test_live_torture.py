"""The live torture harness: short runs of it, failing disks, and that it sees what is wrong."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from failing_disk import build_shim, compiler
from layers import load_dimensions
from live_torture.events import event, is_bad
from live_torture.ledger import VIEWS, Ledger, Sent, settle
from live_torture.life import Life, Tally
from live_torture.plan import BLOWS, Blow, Deed, Round, plan_round
from playhead.assemble import Workspace
from playhead.contracts import TOPICS
from playhead.gateway import serving
from torture.truth import DifferenceError

KILLS = ("gateway-1", "speed", "batch", "supervisor")


def kills(*targets: str) -> Round:
    """One blow to each, and to the client with a spool."""
    blows = [Blow(0.4, Deed.KILL, target) for target in targets]
    return Round((*blows[:2], Blow(0.1, Deed.KILL_CLIENT), *blows[2:]), "full", batch=True)


@pytest.mark.timeout(600)
def test_a_kill_of_every_process_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    tally = Tally()
    Life(tmp_path, tally).run([kills(*KILLS)])
    assert tally.kills.total() >= len(KILLS)
    assert tally.statuses[202] > 0
    assert tally.certain > 100


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_failing_disk_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    """Full, later failing to sync: it refuses meanwhile, and goes on by itself afterwards."""
    if compiler() is None:
        pytest.skip("missing: a C compiler (cc, gcc or clang)")
    fails = Blow(0.5, Deed.FAIL, lasts_s=3.0)
    again = Blow(0.0, Deed.KILL, "supervisor")
    tally = Tally()
    rounds = [
        Round((fails,), "full", batch=True),
        Round((again,), "sync", batch=False),
        Round((fails,), "sync", batch=True),
    ]
    Life(tmp_path, tally, shim=build_shim(tmp_path)).run(rounds)
    syncs = tally.failed_calls["fsync"] + tally.failed_calls["fdatasync"]
    assert 0 < syncs < tally.failed_calls.total()
    assert tally.statuses[503] > 0


def test_a_seed_fixes_the_plan() -> None:
    assert plan_round(5, 2) == plan_round(5, 2)
    assert plan_round(5, 2) != plan_round(5, 3)
    assert len(plan_round(5, 2).blows) == BLOWS
    deeds = {blow.deed for number in range(50) for blow in plan_round(1, number).blows}
    assert deeds == set(Deed)
    sound = [plan_round(1, number, fails=False) for number in range(50)]
    assert not any(blow.deed is Deed.FAIL for one in sound for blow in one.blows)


# -- what the reckoning sees -------------------------------------------------------------------

COUNT = 60
GOOD, BAD = 14, 22


@contextmanager
def resting(path: Path) -> Iterator[Workspace]:
    """A workspace at rest that holds the first events of one client."""
    with Workspace.create(path) as made:
        for name, sql in VIEWS.items():
            (path / "views" / f"{name}.sql").write_text(sql)
        load_dimensions(made)
        with serving(path) as gateway:
            sent = [event("c", number) for number in range(COUNT)]
            answer = httpx.post(f"{gateway.url}/v1/events", json=sent, timeout=20).json()
        assert [one["index"] for one in answer["rejected"]] == list(filter(is_bad, range(COUNT)))
        settle(made)
        yield made


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with resting(tmp_path_factory.mktemp("reckoning") / "w") as made:
        yield made


def sent(certain: Iterable[int], possible: Iterable[int] | None = None) -> Ledger:
    sure = frozenset(certain)
    return Ledger({"c": Sent(sure, sure if possible is None else frozenset(possible))})


def test_the_reckoning_accepts_what_was_sent(opened: Workspace) -> None:
    good = sum(not is_bad(number) for number in range(COUNT))
    assert sent(range(COUNT)).check(opened) == good
    assert sent(range(COUNT // 2), range(COUNT + 9)).check(opened) == good


@pytest.mark.parametrize(
    ("ledger", "what"),
    [
        (sent([*range(COUNT), 70]), "lost: 1 of playback, such as .'c:70'"),
        (sent(set(range(COUNT)) - {GOOD}), f"never sent: 1 of playback: .'c:{GOOD}'"),
        (sent([*range(COUNT), 91]), "lost: 1 of dead letters, such as .'c:91'"),
        (sent(set(range(COUNT)) - {BAD}), f"never sent: 1 of dead letters: .'c:{BAD}'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reckoning_tells_what_is_wrong(opened: Workspace, ledger: Ledger, what: str) -> None:
    with pytest.raises(DifferenceError, match=what):
        ledger.check(opened)


def test_the_reckoning_sees_an_event_that_is_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with resting(tmp_path / "w") as made:
        (partition,) = [p for p, end in made.log.end_offsets("search").items() if end][:1]
        again = made.log.read("search", partition, 0, max_events=1)
        made.log.append("search", again.select(TOPICS["search"].schema.names))
        shutil.rmtree(made.path / "ids")
        monkeypatch.setattr("playhead.speed.recall.Recaller.recall", lambda *_, **__: 0)
        made.speed(drain=True)
        with pytest.raises(DifferenceError, match=r"view live_search: counts \d+ of \d+ events"):
            sent(range(COUNT)).check(made)
