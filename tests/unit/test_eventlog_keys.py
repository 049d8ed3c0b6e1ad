"""Key hashes: the same for ever, whatever the layout of the column, and well spread."""

import os
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.errors import EventLogError
from playhead.eventlog import hash_strings, partition_of

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


GOLDEN_HASHES = [
    "33fe8bd4f9c57863",
    "5d0165640785df62",
    "2808b3e6f8824751",
    "9770e180486ebcff",
    "95978cf5371a1a03",
    "44d84b2c1856fb43",
    "0000000000000000",
]
GOLDEN_HASHES_1 = [
    "0a385ef24fa6a992",
    "c10d559488c6fcd0",
    "b5bc5925636d5a8b",
    "28a87e95cc8ffbb4",
    "3323ab7476ad1427",
    "2a545dfb8754cb65",
    "0000000000000000",
]
GOLDEN_PARTITIONS = [0, 0, 0, 1, 1, 1, 1, 2, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1, 0, 2, 0, 1, 0, 2]


def mix(x: int) -> int:
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def plain_hash(text: str | None, seed: int = 0) -> int:
    """The formula of the module's docstring, one string and one word at a time."""
    if text is None:
        return 0
    content = text.encode()
    base = mix((seed + GOLDEN) & MASK)
    total = mix(len(content) ^ base)
    for k in range((len(content) + 7) // 8):
        word = int.from_bytes(content[8 * k : 8 * k + 8], "little")
        total += mix(word ^ mix((base + (k + 1) * GOLDEN) & MASK))
    return mix(total & MASK)


def test_hashes_are_the_same_for_ever() -> None:
    column = pa.array(["", "a", "user_00001", "user_10000", "Zoë 語😀", "x" * 100, None])
    assert [f"{h:016x}" for h in hash_strings(column).tolist()] == GOLDEN_HASHES
    assert [f"{h:016x}" for h in hash_strings(column, seed=1).tolist()] == GOLDEN_HASHES_1


def test_partitions_are_the_same_for_ever() -> None:
    users = pa.array([f"user_{i:05d}" for i in range(24)])
    assert partition_of(users, 3).tolist() == GOLDEN_PARTITIONS
    assert partition_of(users, 1).tolist() == [0] * 24
    assert partition_of(users, 3).dtype == np.int32


@given(
    st.lists(st.none() | st.text(max_size=90), max_size=30),
    st.integers(0, MASK),
    st.integers(0, 30),
    st.sampled_from(["string", "large", "view", "dictionary"]),
)
def test_equals_the_plain_formula_in_every_layout(
    texts: list[str | None], seed: int, cut: int, layout: str
) -> None:
    column = pa.array(texts, pa.string())
    if layout == "dictionary":
        column = column.dictionary_encode()
    else:
        types = {"string": pa.string(), "large": pa.large_string(), "view": pa.string_view()}
        column = column.cast(types[layout])
    expected = [plain_hash(text, seed) for text in texts]
    assert hash_strings(column, seed).tolist() == expected
    assert hash_strings(column.slice(cut), seed).tolist() == expected[cut:]
    chunked = pa.chunked_array([column[:cut], column[cut:]], column.type)
    assert hash_strings(chunked, seed).tolist() == expected


@pytest.mark.parametrize("length", [7, 8, 9, 63, 64, 65, 127, 128, 129, 10_000, 300_001])
def test_long_strings_among_short_ones(length: int) -> None:
    texts = ["a", "x" * length, "", "語" * (length // 3), None, "bc"]
    assert hash_strings(pa.array(texts)).tolist() == [plain_hash(text) for text in texts]


def test_a_column_of_nulls_and_one_of_nothing() -> None:
    assert hash_strings(pa.nulls(3)).tolist() == [0, 0, 0]
    assert hash_strings(pa.nulls(3, pa.string())).tolist() == [0, 0, 0]
    assert hash_strings(pa.array([], pa.string())).tolist() == []
    assert hash_strings(pa.chunked_array([], pa.string())).tolist() == []


def test_refuses_what_holds_no_strings() -> None:
    with pytest.raises(EventLogError, match="int64"):
        hash_strings(pa.array([1, 2]))


def test_ids_do_not_collide_and_fill_partitions_evenly() -> None:
    ids = pa.array([f"session_{i:06d}" for i in range(300_000)])
    assert len(np.unique(hash_strings(ids))) == 300_000
    for partitions in (2, 3, 8, 100):
        counts = np.bincount(partition_of(ids, partitions), minlength=partitions)
        expected = 300_000 / partitions
        assert np.abs(counts - expected).max() < 5 * expected**0.5


def test_one_bit_changes_half_of_the_hash() -> None:
    rng = random.Random(7)
    base = [rng.randbytes(13) for _ in range(2_000)]
    before = hash_strings(pa.array(base, pa.binary()))
    for bit in range(0, 13 * 8, 5):
        flipped = [(int.from_bytes(b, "big") ^ (1 << bit)).to_bytes(13, "big") for b in base]
        change = before ^ hash_strings(pa.array(flipped, pa.binary()))
        shares = np.unpackbits(change.view(np.uint8)).reshape(2_000, 64).mean(axis=0)
        assert np.abs(shares - 0.5).max() < 0.07


def test_two_seeds_are_independent() -> None:
    ids = pa.array([os.urandom(6).hex() for _ in range(50_000)])
    same = hash_strings(ids) ^ hash_strings(ids, seed=1)
    shares = np.unpackbits(same.view(np.uint8)).reshape(-1, 64).mean(axis=0)
    assert np.abs(shares - 0.5).max() < 0.02
