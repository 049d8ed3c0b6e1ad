"""Enrichment: what a LEFT JOIN by key would give, for every event."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from playhead.errors import StateError
from playhead.speed import hashindex
from playhead.speed.enrich import Dimension, Enricher, merged_lookups
from playhead.views import View

KEYS = st.one_of(st.none(), st.sampled_from(["u1", "u2", "u3", "", "ü"]))
COUNTRY = """
    SELECT u.country, COUNT(*) AS n FROM playback AS p
    LEFT JOIN users AS u ON p.user_id = u.user_id GROUP BY ALL
"""
RATED = """
    SELECT AVG(r.avg_rating) AS rating FROM playback AS p
    JOIN pair_ratings AS r ON p.user_id = r.user_id AND p.movie_id = r.movie_id
"""


def users(*names: str | None) -> pa.Table:
    countries = [None if n is None else f"of {n}" for n in names]
    return pa.table(
        {"user_id": pa.array(names, pa.string()), "country": pa.array(countries, pa.string())}
    )


def column(*values: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])


@given(st.sets(KEYS), st.lists(KEYS, max_size=10))
def test_each_event_finds_its_row(known: set[str | None], asked: list[str | None]) -> None:
    rows = sorted(known, key=str)
    dimension = Dimension("users", users(*rows), ["user_id"])
    found = dimension.find([column(*asked)])
    expected = [rows.index(a) if a is not None and a in known else None for a in asked]
    assert found.to_pylist() == expected
    countries = dimension.take("country", found).to_pylist()
    assert countries == [None if row is None else f"of {rows[row]}" for row in expected]


@given(st.sets(st.tuples(KEYS, KEYS), max_size=8), st.lists(st.tuples(KEYS, KEYS), max_size=10))
def test_a_key_of_two_columns_needs_both(
    known: set[tuple[str | None, str | None]], asked: list[tuple[str | None, str | None]]
) -> None:
    rows = sorted(known, key=str)
    table = pa.table({"a": column(*(a for a, _ in rows)), "b": column(*(b for _, b in rows))})
    found = Dimension("pairs", table, ["a", "b"]).find(
        [column(*(a for a, _ in asked)), column(*(b for _, b in asked))]
    )
    assert found.to_pylist() == [
        rows.index(pair) if None not in pair and pair in known else None for pair in asked
    ]


def test_keys_that_share_half_a_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hashindex.hash_pairs

    def half(keys: pa.ChunkedArray) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        return np.zeros(len(keys), np.uint64), whole(keys)[1]

    monkeypatch.setattr(hashindex, "hash_pairs", half)
    dimension = Dimension("users", users("u1", "u2", "u3"), ["user_id"])
    found = dimension.find([column("u2", "u1", "u9", None, "u3")])
    assert found.to_pylist() == [1, 0, None, None, 2]


def test_every_key_of_a_full_index_is_found() -> None:
    names = [f"u{number}" for number in range(5_000)]
    dimension = Dimension("users", users(*names), ["user_id"])
    asked = [*reversed(names), "nobody"]
    assert dimension.find([column(*asked)]).to_pylist() == [*range(4_999, -1, -1), None]


def test_keys_that_come_often_are_found_as_others_are() -> None:
    dimension = Dimension("users", users("u1", "u2"), ["user_id"])
    asked = ["u2", None, "u1", "u9"] * 2_000
    assert dimension.find([column(*asked)]).to_pylist() == [1, None, 0, None] * 2_000


def test_the_order_of_a_key_of_several_columns_counts() -> None:
    pairs = pa.table({"a": ["x", "y", "xy"], "b": ["y", "x", ""]})
    dimension = Dimension("pairs", pairs, ["a", "b"])
    found = dimension.find([column("y", "x", "xy", ""), column("x", "y", "", "xy")])
    assert found.to_pylist() == [1, 0, 2, None]


def test_two_rows_of_one_key_are_refused() -> None:
    with pytest.raises(StateError, match=r"users: key user_id = u1 has more than one row"):
        Dimension("users", users("u1", "u2", "u1"), ["user_id"])
    # Rows without a key are no rows of it.
    Dimension("users", users(None, None, "u1"), ["user_id"])


def test_an_empty_dimension_loses_no_event() -> None:
    (leaf,) = View.parse("v", COUNTRY).leaves
    events = pa.table({"user_id": ["u1", None]})
    wide = Enricher.of([leaf], {"users": users()}).widen(events)
    assert wide.to_pydict() == {
        "user_id": ["u1", None],
        "users__country": [None, None],
        "users__found": [False, False],
    }
    assert Enricher.of([leaf], {"users": users("u1")}).widen(events.slice(0, 0)).num_rows == 0


def test_keys_of_another_type_meet() -> None:
    table = pa.table({"user_id": pa.array([1, 2]), "country": ["a", "b"]})
    found = Dimension("users", table, ["user_id"]).find([column("2", None, "1")])
    assert found.to_pylist() == [1, None, 0]


def test_leaves_share_their_lookups() -> None:
    leaves = [
        *View.parse("v", COUNTRY).leaves,
        *View.parse("w", COUNTRY.replace("u.country", "u.gender")).leaves,
        *View.parse("x", RATED).leaves,
    ]
    lookups = merged_lookups(leaves)
    assert [(k.dimension, k.columns) for k in lookups] == [
        ("users", ("country", "gender")),
        ("pair_ratings", ("avg_rating",)),
    ]
    assert merged_lookups([]) == ()
