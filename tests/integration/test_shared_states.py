"""Live states in the lake across processes and machines: killed at any moment, taken over."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from journals import TOPIC, Machine, micro_batch
from lake_homes import Home, SharedHome
from playhead.cluster.postgres import Postgres
from playhead.cluster.store import ObjectStore
from playhead.errors import StateError
from playhead.lake import Lake
from playhead.speed.journal import TABLE
from playhead.speed.shared import SharedState

KILLED = 2

COMMITS = """
import sys
from pathlib import Path
from journals import TOPIC, Machine, alert, micro_batch
from playhead.lake import Lake
from playhead.speed import shared

shared.BASE_AFTER = 6
store = Machine(Path(sys.argv[1]), Lake(Path(sys.argv[2]))).writer()
store.own()
print("started", flush=True)
while True:
    after = store.position(TOPIC).next[0] + 1
    store.commit(micro_batch(store, after, after))
    store.raise_alerts("v", [], [alert(after)])
    print(after, flush=True)
    store.tend()
    if after % 5 == 0:
        store.sealed(store.cut())
"""


def prepared(machine: Machine) -> SharedState:
    store = machine.writer()
    store.own()
    store.register(["s"])
    store.begin({TOPIC: {0: 0}})
    store.flush()
    return store


def killed_after(machine: Machine, lake: Path, seconds: float) -> int:
    """Commit in another process, which is killed so long after its start; what it reported last."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMITS, str(machine.folder), str(lake)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    said = process.stdout.read().splitlines()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return int(said[-1]) if said else 0


def test_a_process_that_is_killed_again_and_again_commits_each_micro_batch_once(
    tmp_path: Path,
) -> None:
    r, folder = random.Random(7), tmp_path / "lake"
    with Lake(folder) as lake:
        writer, reader = Machine(tmp_path / "a", lake), Machine(tmp_path / "b", lake)
        prepared(writer).close()
        for _ in range(KILLED):
            reported = killed_after(writer, folder, 0.2 + r.random() / 2)
            store = writer.writer()
            store.own()
            after = store.position(TOPIC).next[0]
            # What was reported is there, and at most one more, which the lake had already.
            assert reported in (0, after - 1, after)
            store.flush()
            reader.look()
            assert reader.holds() == writer.holds()
            rows = [n for of_epoch in reader.holds()["rows"].values() for n in of_epoch]
            assert sorted(rows) == list(range(1, after + 1))
            store.close()
        assert after > KILLED
        for machine in (writer, reader):
            machine.close()


@pytest.fixture
def home(tmp_path: Path, database: Postgres, store: ObjectStore) -> Home:
    return SharedHome(tmp_path / "lakes", database, store)


@pytest.fixture
def lakes(home: Home) -> Iterator[list[Lake]]:
    """The same lake as three machines open it."""
    opened = [home.open() for _ in range(3)]
    yield opened
    for lake in opened:
        lake.close()


@pytest.mark.cluster
def test_a_second_machine_takes_over_and_the_first_one_is_refused(
    tmp_path: Path, lakes: list[Lake]
) -> None:
    first, second, third = (
        Machine(tmp_path / name, lake) for name, lake in zip("abc", lakes, strict=True)
    )
    one = prepared(first)
    for after in range(1, 4):
        one.commit(micro_batch(one, after, after))
    third.look()
    two = second.writer()
    two.own()
    with pytest.raises(StateError, match="took over"):
        one.commit(micro_batch(one, 4, 4))
    for after in range(4, 7):
        two.commit(micro_batch(two, after, after))
    assert two.shorten()
    assert len(lakes[0].snapshot(TABLE).files) == 1
    one.close()
    again = first.writer()
    again.own()
    assert again.position(TOPIC).next == {0: 6}
    again.commit(micro_batch(again, 7, 7))
    for machine in (second, third):
        machine.look()
        assert machine.holds() == first.holds()
        assert machine.holds()["rows"] == {("s", 1): list(range(1, 8))}
    for machine in (first, second, third):
        machine.close()
