"""Events alone in their groups: their states are what grouping would have made of them."""

import random

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from law_events import DIMENSIONS, MOVIES_TABLE, USERS_TABLE, random_events
from law_grammar import Grammar

from playhead.engines import DuckDBEngine, connect
from playhead.serving.singles import mark_singles, partial_of_marked, pays
from playhead.speed.enrich import Enricher
from playhead.views import View


@given(
    r=st.randoms(use_true_random=False),
    seed=st.integers(0, 2**32),
    rows=st.sampled_from([1, 7, 40]),
)
def test_singles_have_the_states_of_groups(r: random.Random, seed: int, rows: int) -> None:
    events = random_events(random.Random(seed), rows)
    schemas = {
        "playback": events.schema, "users": USERS_TABLE.schema, "movies": MOVIES_TABLE.schema,
    }  # fmt: skip
    view = View.parse("law", Grammar(r).view().sql, schema=schemas)
    leaf = view.leaves[0]
    wide = Enricher.of([leaf], DIMENSIONS).widen(events)
    assume(pays(leaf, 1 << 30))
    engine = DuckDBEngine()
    with connect() as connection:
        assume(mark_singles(connection, leaf, "marked", wide))
        ours = connection.execute(partial_of_marked(leaf, "marked")).to_arrow_table()
    theirs = engine.partial(leaf, wide)
    assert ours.schema == theirs.schema
    assert repr(engine.sort(ours).to_pylist()) == repr(engine.sort(theirs).to_pylist()), view.text


@pytest.mark.parametrize(
    ("users", "alone"),
    [("abcdefgh", 8), ("aabcdefgh", 7), ("aabbccddeefg", None), ("aaaa", None)],
)
def test_it_pays_where_most_are_alone(users: str, alone: int | None) -> None:
    view = View.parse("v", "SELECT user_id, COUNT(*) AS n FROM playback GROUP BY ALL")
    (leaf,) = view.leaves
    with connect() as connection:
        marked = mark_singles(connection, leaf, "marked", pa.table({"user_id": list(users)}))
        assert marked == (alone is not None)
        if marked:
            rows = connection.execute("SELECT COUNT(*) FROM marked WHERE group__single").fetchone()
            assert rows == (alone,)


def test_what_it_is_for() -> None:
    def leaf(sql: str) -> bool:
        return pays(View.parse("v", sql).leaves[0], 1 << 20)

    assert leaf("SELECT user_id, COUNT(*) AS n FROM playback GROUP BY ALL")
    assert not pays(View.parse("v", "SELECT user_id FROM playback GROUP BY ALL").leaves[0], 99)
    assert not leaf("SELECT COUNT(*) AS n FROM playback")
    assert not leaf("SELECT action, COUNT(DISTINCT user_id) AS n FROM playback GROUP BY ALL")
