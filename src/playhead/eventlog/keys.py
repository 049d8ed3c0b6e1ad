"""Stable 64-bit hashes of string columns: which partition a key belongs to, and which ids repeat.

The hash is part of the stored format: a key must meet the same partition for as long as a topic
lives, whatever the machine, the Playhead version or the layout of the column. For the UTF-8 bytes
`b` of a string and a seed `s`, with all arithmetic modulo 2**64:

    mix(x)    x ^= x >> 30; x *= 0xBF58476D1CE4E5B9; x ^= x >> 27; x *= 0x94D049BB133111EB;
              x ^= x >> 31                       (the finaliser of SplitMix64, Steele et al. 2014)
    key(k)    mix(mix(s + G) + (k + 1) * G)      with G = 0x9E3779B97F4A7C15
    word(k)   bytes 8k .. 8k+7 of b, little endian, zeros after the end
    hash      mix(mix(len(b) ^ mix(s + G)) + sum over k of mix(word(k) ^ key(k)))

A null hashes to 0 under every seed. Since the words are summed, each can be mixed on its own, so
a column is hashed eight bytes at a time across all its rows. Not a cryptographic hash: whoever
chooses ids on purpose can make two of them meet.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.errors import EventLogError

NULL_HASH = 0

_Hashes = npt.NDArray[np.uint64]
_Integers = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_27, _SHIFT_30, _SHIFT_31 = np.uint64(27), np.uint64(30), np.uint64(31)
_KEPT_BITS = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)

# Temporaries of this many rows stay in a core's second-level cache.
_ROWS_AT_ONCE = 1 << 15
# Longer strings are rare: their remaining words are flattened instead of visited word by word.
_WORDS_BY_ROW = 8


def hash_strings(column: pa.Array | pa.ChunkedArray, seed: int = 0) -> _Hashes:
    """The 64-bit hash of each string; two seeds make a 128-bit hash.

    Args:
        column: string, large_string, binary or dictionary-encoded ones, of any length and offset.
        seed: 0 <= seed < 2**64; hashes under different seeds are independent.

    Returns:
        uint64, shape (len(column),), in the column's order; nulls are `NULL_HASH`. Memory beyond
        the result is bounded, however long one string is.

    Raises:
        EventLogError: the column holds no strings.
    """
    hashes: _Hashes = _hashes(column, (seed,))[0]
    return hashes


def hash_pairs(column: pa.Array | pa.ChunkedArray) -> tuple[_Hashes, _Hashes]:
    """The hashes of each string under seeds 0 and 1, which make a 128-bit hash; see above."""
    first, second = _hashes(column, (0, 1))
    return first, second


def partition_of(column: pa.Array | pa.ChunkedArray, partitions: int) -> npt.NDArray[np.int32]:
    """The partition of each key: its hash under seed 0, modulo `partitions`.

    Args:
        column: as for `hash_strings`.
        partitions: how many there are, at least 1.

    Returns:
        int32, shape (len(column),), values 0 .. partitions - 1; nulls are in partition 0.
    """
    return (hash_strings(column) % np.uint64(partitions)).astype(np.int32)


def _hashes(column: pa.Array | pa.ChunkedArray, seeds: Sequence[int]) -> _Hashes:
    """uint64, shape (len(seeds), len(column))."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    hashes = np.empty((len(seeds), len(column)), dtype=np.uint64)
    start = 0
    for chunk in chunks:
        _hash_chunk(chunk, seeds, hashes[:, start : start + len(chunk)])
        start += len(chunk)
    return hashes


def _hash_chunk(chunk: pa.Array, seeds: Sequence[int], out: _Hashes) -> None:
    if pa.types.is_dictionary(chunk.type):
        _hash_dictionary(chunk, seeds, out)
    elif pa.types.is_null(chunk.type):
        out[:] = NULL_HASH
    else:
        _hash_plain(_plain(chunk), seeds, out)


def _hash_dictionary(chunk: pa.DictionaryArray, seeds: Sequence[int], out: _Hashes) -> None:
    # One more entry at the end, for the rows without an index.
    of_entry = np.full((len(seeds), len(chunk.dictionary) + 1), NULL_HASH, dtype=np.uint64)
    _hash_chunk(chunk.dictionary, seeds, of_entry[:, :-1])
    indices = chunk.indices.cast(pa.int64()).fill_null(len(chunk.dictionary))
    np.take(of_entry, indices.to_numpy(), axis=1, out=out)


def _plain(chunk: pa.Array) -> pa.Array:
    """The same strings in an array with an offsets buffer."""
    kind = chunk.type
    if pa.types.is_string_view(kind):
        return chunk.cast(pa.large_string())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return chunk
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return chunk
    raise EventLogError(
        f"A column of type {kind} cannot be hashed: it holds no strings.",
        hint="Use a string column, such as user_id or event_id, as the key.",
    )


def _hash_plain(strings: pa.Array, seeds: Sequence[int], out: _Hashes) -> None:
    offsets, data = _buffers(strings)
    for low in range(0, len(strings), _ROWS_AT_ONCE):
        bounds = offsets[low : low + _ROWS_AT_ONCE + 1].astype(np.int64)
        _hash_rows(data, bounds[:-1], np.diff(bounds), seeds, out[:, low : low + _ROWS_AT_ONCE])
    if strings.null_count:
        out[:, strings.is_null().to_numpy(zero_copy_only=False)] = NULL_HASH


def _buffers(strings: pa.Array) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """Offsets, shape (n + 1,), and the bytes that they point into (8 or more)."""
    wide = pa.types.is_large_string(strings.type) or pa.types.is_large_binary(strings.type)
    kind = np.dtype(np.int64 if wide else np.int32)
    _, offsets, data = strings.buffers()
    if len(strings) == 0 or offsets is None:
        return np.zeros(len(strings) + 1, dtype=kind), np.zeros(8, dtype=np.uint8)
    points = np.frombuffer(
        offsets, dtype=kind, count=len(strings) + 1, offset=strings.offset * kind.itemsize
    )
    content = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, np.uint8)
    if len(content) < 8:
        content = np.concatenate([content, np.zeros(8, dtype=np.uint8)])
    return points, content


def _hash_rows(
    data: npt.NDArray[np.uint8],
    starts: _Integers,
    lengths: _Integers,
    seeds: Sequence[int],
    out: _Hashes,
) -> None:
    """Hash the n strings at data[starts : starts + lengths] into `out`, shape (len(seeds), n)."""
    bases = [_mix(np.array([seed], dtype=np.uint64) + _GOLDEN) for seed in seeds]
    for hashes, base in zip(out, bases, strict=True):
        hashes[:] = _mix(lengths.astype(np.uint64) ^ base)
    for k in range(_WORDS_BY_ROW):
        rows = np.flatnonzero(lengths > 8 * k)
        if len(rows) == 0:
            break
        whole = len(rows) == len(lengths)
        at, left = (starts, lengths) if whole else (starts[rows], lengths[rows])
        words = _words(data, at + 8 * k, left - 8 * k)
        for hashes, base in zip(out, bases, strict=True):
            mixed = _mix(words ^ _key(base, np.array([k])))
            if whole:
                hashes += mixed
            else:
                hashes[rows] += mixed
    for hashes, base in zip(out, bases, strict=True):
        for rows, sums in _tails(data, starts, lengths, base):
            hashes[rows] += sums
        hashes[:] = _mix(hashes)


def _tails(
    data: npt.NDArray[np.uint8], starts: _Integers, lengths: _Integers, base: _Hashes
) -> Iterator[tuple[_Integers, _Hashes]]:
    """Rows, and the sums of their mixed words from `_WORDS_BY_ROW` on, in bounded pieces."""
    long = np.flatnonzero(lengths > 8 * _WORDS_BY_ROW)
    if len(long) == 0:
        return
    counts = (lengths[long] + 7) // 8 - _WORDS_BY_ROW
    ends = np.cumsum(counts)
    for low in range(0, int(ends[-1]), _ROWS_AT_ONCE):
        flat = np.arange(low, min(low + _ROWS_AT_ONCE, int(ends[-1])))
        owner = np.searchsorted(ends, flat, side="right")
        k = flat - (ends - counts)[owner] + _WORDS_BY_ROW
        rows = long[owner]
        words = _words(data, starts[rows] + 8 * k, lengths[rows] - 8 * k)
        mixed = _mix(words ^ _key(base, k))
        heads = np.flatnonzero(np.diff(owner, prepend=-1))
        yield rows[heads], np.add.reduceat(mixed, heads)


def _words(data: npt.NDArray[np.uint8], at: _Integers, left: _Integers) -> _Hashes:
    """The little-endian words at data[at], cut to the `left` (1 or more) bytes of the string."""
    last = len(data) - 8
    view: _Hashes = np.ndarray((last + 1,), dtype="<u8", buffer=data, strides=(1,))
    if int(at.max()) <= last:
        words = view[at]
    else:
        safe = np.minimum(at, last)
        words = view[safe] >> ((at - safe) * 8).astype(np.uint64)
    if int(left.min()) < 8:
        words &= _KEPT_BITS[np.minimum(left, 8)]
    return words


def _key(base: _Hashes, k: _Integers) -> _Hashes:
    return _mix(base + (k + 1).astype(np.uint64) * _GOLDEN)


def _mix(x: _Hashes) -> _Hashes:
    x = x ^ (x >> _SHIFT_30)
    x *= _MIX_1
    x ^= x >> _SHIFT_27
    x *= _MIX_2
    x ^= x >> _SHIFT_31
    return x
