"""Random views over random events: merged equals full, and full equals DuckDB's own answer."""

import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from law_events import (
    DIMENSIONS,
    MOVIES_TABLE,
    USERS_TABLE,
    check_merged,
    plain,
    random_batches,
    random_events,
    same_values,
)
from law_grammar import Grammar

from playhead.errors import EngineError
from playhead.views import View


@given(
    r=st.randoms(use_true_random=False),
    seed=st.integers(0, 2**32),
    rows=st.sampled_from([0, 1, 7, 40, 150]),
)
def test_any_split_order_and_tree_gives_the_full_answer(
    r: random.Random, seed: int, rows: int
) -> None:
    made = Grammar(r).view()
    data = random.Random(seed)
    events = random_events(data, rows)
    batches = random_batches(data, events)
    view = View.parse(
        "law",
        made.sql,
        schema={
            "playback": events.schema, "users": USERS_TABLE.schema, "movies": MOVIES_TABLE.schema,
        },
    )  # fmt: skip
    full = check_merged(view, batches, seed=seed)
    if made.plain:
        whole = [batch for batch in batches if batch.num_columns]
        topic = pa.concat_tables(whole, promote_options="permissive")
        theirs = plain(made.sql, {"playback": topic}, DIMENSIONS)
        assert same_values(full, theirs), (
            f"{made.sql}\nours   {full.to_pylist()[:9]}\nplain  {theirs.to_pylist()[:9]}"
        )


def test_a_sum_that_outgrows_its_type_is_an_error() -> None:
    events = pa.table({"k": pa.array([2**63 - 1, 2**63 - 1], pa.int64())})
    view = View.parse("law", "SELECT SUM(k) AS s FROM clicks", schema=events.schema)
    for batches in ([events], [events.slice(0, 1), events.slice(1)]):
        with pytest.raises(EngineError, match="wider DECIMAL"):
            check_merged(view, batches)
