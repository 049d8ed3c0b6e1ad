"""Random changes of a shared state, with deaths in between: all machines end up with the same."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from journals import T0, TOPIC, Machine, alert, micro_batch
from playhead.errors import LakeError, StateError
from playhead.lake import Lake
from playhead.speed.journal import Journal
from playhead.speed.records import Part, Position
from playhead.speed.shared import SharedState
from playhead.speed.state import StateStore

WRITERS, READERS = ("a", "b"), ("c", "d")


class DeathError(Exception):
    """The process dies here."""


class World:
    """Machines at one lake; one of them has the speed layer, which may die at any moment.

    Attributes:
        committed: micro-batches that came to be, of one event each: the last one's offset.
        pruned: the epoch up to which some machine has pruned.
    """

    def __init__(self, r: random.Random, folder: Path, lake: Lake) -> None:
        self.r = r
        self.machines = {name: Machine(folder / name, lake) for name in (*WRITERS, *READERS)}
        self.pruned = 0
        self.store = self.start("a")

    def close(self) -> None:
        for machine in self.machines.values():
            machine.close()

    def start(self, name: str) -> SharedState:
        """A speed layer starts on a machine, whatever became of the last one."""
        self.writer = name
        store = self.machines[name].writer()
        store.own()
        if TOPIC not in store.range_of(store.open_epoch()):
            store.begin({TOPIC: {0: 0}})
        if "s" not in store.registered():
            store.cut()
            store.register(["s"])
        return store

    @contextmanager
    def dying(self) -> Iterator[None]:
        """The process may die before or after the lake has what it is told."""
        told, moment = Journal.append, self.r.choice(["never", "never", "before", "after"])

        def append(journal: Journal, *args: Any, **more: Any) -> bool:
            if moment == "before":
                raise DeathError
            done = told(journal, *args, **more)
            if moment == "after":
                raise DeathError
            return done

        with patch.object(Journal, "append", append):
            yield

    def step(self) -> None:
        act = self.r.choice([*[self.commit] * 4, self.note, self.note, self.seal, *self.others()])
        try:
            with self.dying():
                act()
        except DeathError:
            self.store = self.start(self.r.choice(WRITERS))

    def others(self) -> list[Any]:
        return [
            *(self.look, self.look, self.shorten, self.change_states, self.compact),
            *(self.prune, self.take_over, self.rebase, self.fall_silent),
        ]

    def commit(self) -> None:
        after = self.store.position(TOPIC).next[0] + 1
        states = tuple(sorted(self.store.registered()))
        late = self.r.randrange(2)
        self.store.commit(micro_batch(self.store, after, after, states=states, late=late))

    def note(self) -> None:
        if self.r.random() < 0.5:
            windows = [T0 + timedelta(hours=self.r.randrange(3))]
            raised = [alert(self.r.randrange(3), str(self.r.randrange(3)))]
            late = self.store.late("v", windows) if self.r.random() < 0.7 else None
            self.store.raise_alerts("v", windows, raised, late=late)
        else:
            with self.store.held():
                waiting = self.store.alerts(unpublished=True)
                self.store.published(waiting, {0: len(waiting)})

    def seal(self) -> None:
        self.store.cut()
        for epoch, status in self.store.epochs():
            if status == "sealing":
                self.store.sealed(epoch)

    def look(self) -> None:
        self.machines[self.r.choice(READERS)].look()

    def shorten(self) -> None:
        self.store.shorten()

    def change_states(self) -> None:
        if "t" in self.store.registered():
            self.store.unregister(["t"])
        else:
            self.store.cut()
            self.store.register(["t"])

    def compact(self) -> None:
        """Any file may hold the same rows in other blocks."""
        name = self.r.choice([self.writer, *READERS])
        store = self.store.beside() if name == self.writer else self.machines[name].local()
        for crowd in store.crowds(fan_in=2, newest=store.newest_block()):
            store.put_together(crowd, Part(crowd.states, pa.concat_tables(store.crowded(crowd))))
        store.close()

    def prune(self) -> None:
        store = StateStore(self.machines[self.r.choice([self.writer, *READERS])].path)
        self.pruned = max(self.pruned, store.sealed_epoch())
        store.prune("s", store.sealed_epoch())
        store.close()

    def take_over(self) -> None:
        """The other machine's speed layer starts; this one is told so when it writes."""
        if self.r.random() < 0.7:
            # Never told: what the other one makes of the journal knows nothing of it.
            self.store.raise_alerts("v", [T0], [alert(9, str(self.r.random()))])
        before, self.store = self.store, self.start("b" if self.writer == "a" else "a")
        try:
            before.cut()
            before.commit(micro_batch(before, 10_000, 10_000))
        except StateError:
            return
        raise AssertionError("two speed layers write at once")

    def rebase(self) -> None:
        """The lake holds epochs that the state does not know."""
        if self.r.random() < 0.2:
            at = self.store.position(TOPIC)
            epoch = self.store.open_epoch() + 1
            self.store.rebase({TOPIC: (epoch, Position(at.next, at.next))})
            self.store.register(["s"])

    def fall_silent(self) -> None:
        """The lake takes a micro-batch, or does not, and does not say so; the layer tries again."""
        told, does = Journal.append, self.r.random() < 0.5

        def append(journal: Journal, *args: Any, **more: Any) -> bool:
            if does:
                told(journal, *args, **more)
            raise LakeError("the catalog does not answer")

        with patch.object(Journal, "append", append):
            try:
                self.commit()
            except LakeError:
                assert not does
            else:
                assert does

    def holds(self, name: str) -> dict[str, Any]:
        """What a machine holds of what no machine has pruned."""
        found = self.machines[name].holds()
        for table in ("epochs", "ranges", "loads"):
            found[table] = [row for row in found[table] if row[0] > self.pruned]
        return found


@settings(max_examples=max(settings().max_examples // 4, 1))
@given(r=st.randoms(use_true_random=False), steps=st.integers(1, 24))
def test_every_machine_ends_up_with_the_same_state(r: random.Random, steps: int) -> None:
    with TemporaryDirectory() as folder, Lake(Path(folder) / "lake") as lake:
        world = World(r, Path(folder), lake)
        for _ in range(steps):
            world.step()
        world.store.flush()
        for name in world.machines:
            world.machines[name].look()
            store = StateStore(world.machines[name].path)
            if world.pruned:
                store.prune("s", world.pruned)
            # Each event was counted once, whoever died when.
            events = world.machines[name].holds()["topics"]
            assert sum(row[2] for row in events) == store.position(TOPIC).next[0]
            store.close()
        first = world.holds("a")
        assert all(world.holds(name) == first for name in world.machines)
        world.close()
