"""Random views that are followed: the groups that changed give the answer of the whole state."""

import random
from collections.abc import Sequence
from typing import cast
from unittest.mock import patch

import pyarrow as pa
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from law_events import DIMENSIONS, MOVIES_TABLE, USERS_TABLE, random_events
from law_grammar import Grammar

from playhead.engines import DuckDBEngine, connect
from playhead.lake import Snapshot
from playhead.serving import follow
from playhead.serving.follow import Follower
from playhead.serving.history import KeptGroups
from playhead.serving.sources import Source
from playhead.speed.enrich import Enricher
from playhead.speed.records import Block, Kind
from playhead.views import View
from playhead.views.above import derive


class BatchStates:
    """A batch layer's table of states, of which several may have one key."""

    id, files, partitions = 1, ("a file",), ()

    def scan(self, **_: object) -> str:
        return "batch_states"


def followed_view(r: random.Random, schema: pa.Schema) -> View | None:
    """A random view that can be followed, if one comes soon."""
    schemas = {
        "playback": schema, "users": USERS_TABLE.schema, "movies": MOVIES_TABLE.schema,
    }  # fmt: skip
    for _ in range(4):
        view = View.parse("law", Grammar(r).view().sql, schema=schemas)
        if derive(view) is not None:
            return view
    return None


def blocks_of(r: random.Random, view: View, events: pa.Table) -> list[Block]:
    """The events in blocks of any size: as they came, or as states."""
    (leaf,) = view.leaves
    wide = Enricher.of([leaf], DIMENSIONS).widen(events)
    engine, blocks, start = DuckDBEngine(), [], 0
    for number in range(1, 9):
        part = wide.slice(start, r.randrange(wide.num_rows // 4 + 2))
        start += part.num_rows
        kind: Kind = "events" if r.random() < 0.5 else "states"
        rows = part if kind == "events" else engine.partial(leaf, part)
        blocks.append(Block(number, 1, kind, number, number, rows))
    return blocks


def compacted(r: random.Random, blocks: Sequence[Block], settled: int) -> list[Block]:
    """The blocks with some of the older ones put together, as compaction would."""
    old = [block for block in blocks if block.newest <= settled and block.kind == "events"]
    if len(old) < 2 or r.random() < 0.5:
        return list(blocks)
    rows = pa.concat_tables([block.rows for block in old])
    joined = Block(99 + settled, 1, "events", old[0].oldest, old[-1].newest, rows)
    return [*(block for block in blocks if block not in old), joined]


def _states(engine: DuckDBEngine, view: View, block: Block) -> pa.Table:
    return block.rows if block.kind == "states" else engine.partial(view.leaves[0], block.rows)


@settings(max_examples=max(settings().max_examples // 2, 1))
@given(
    r=st.randoms(use_true_random=False),
    seed=st.integers(0, 2**32),
    rows=st.sampled_from([0, 7, 40, 150]),
)
def test_what_is_followed_is_what_recomputation_gives(
    r: random.Random, seed: int, rows: int
) -> None:
    data = random.Random(seed)
    events = random_events(data, rows)
    view = followed_view(r, events.schema)
    assume(view is not None)
    assert view is not None
    (leaf,) = view.leaves
    blocks, engine, follower = (
        blocks_of(data, view, events),
        DuckDBEngine(),
        Follower(KeptGroups(None)),
    )
    followed, held, batch = 0, [], None
    at_once = data.choice([1, 5, 1 << 22])
    with connect() as connection, patch.object(follow, "_ROWS_AT_ONCE", at_once):
        for name, table in DIMENSIONS.items():
            connection.register(name, table)
        if data.random() < 0.5:
            history = blocks_of(data, view, random_events(data, rows))
            held = [_states(engine, view, block) for block in history]
            connection.register("batch_states", pa.concat_tables(held))
            batch = cast("Snapshot", BatchStates())
        upto = 0
        while upto < len(blocks):
            there = compacted(data, blocks[:upto], upto - 1) if upto else []
            source = Source(leaf, "law", batch, tuple(there), None, 0, upto)
            groups = follower.follow(connection, view, source)
            if groups is not None:
                sql = f"WITH {groups.readable(connection)} FROM ({groups.final})"
                ours = connection.execute(sql).to_arrow_table()
                states = [*held, *(_states(engine, view, block) for block in blocks[:upto])]
                if not states:
                    none = Enricher.of([leaf], DIMENSIONS).widen(events.slice(0, 0))
                    states = [engine.partial(leaf, none)]
                merged = {leaf.name: engine.merge(leaf, states)}
                theirs = engine.final(view, merged, DIMENSIONS)
                assert ours.schema == theirs.schema
                if not view.plans.ordered:
                    ours, theirs = engine.sort(ours), engine.sort(theirs)
                assert repr(ours.to_pylist()) == repr(theirs.to_pylist()), view.text
                followed += 1
            upto += data.randrange(1, 3) if upto else data.randrange(2)
    assume(followed)
