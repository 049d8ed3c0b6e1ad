"""Cuts a body into the bytes of its events, however bad some of them are."""

import re
from collections.abc import Sequence

import msgspec
import numpy as np

from playhead.contracts.structs import DECODE_ERRORS
from playhead.errors import BodyTooLargeError, ContractError

Json = bytes | msgspec.Raw
"""The bytes of one JSON value."""

_BOM = b"\xef\xbb\xbf"
_WHITESPACE = b" \t\r\n"
_RAW = msgspec.json.Decoder(msgspec.Raw)
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_BYTE = re.compile(r" \(byte (\d+)\)$")

# The other escapes are matched too, so that the "\\ud800" of an escaped backslash is left alone.
_ESCAPES = re.compile(rb"\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL)
_ANY_LETTER = rb"\u0041"

# An item, however short, costs about 60 bytes of memory before it can be counted.
_SEPARATORS = 1_000_000
_SEPARATORS_AN_EVENT = 64


def without_mark(body: bytes) -> bytes:
    """The body without the byte order mark that some systems put first."""
    return body.removeprefix(_BOM)


def is_object(body: bytes) -> bool:
    """Whether the body's first value is an object, and no array of them."""
    first = re.match(rb"[ \t\r\n]*(.)", body)
    return first is not None and first[1] == b"{"


def split_array(body: bytes, max_events: int) -> Sequence[Json]:
    """The items of a JSON array, in order, or the one object of a body that is no array.

    What JSON's grammar allows is cut, though no event may be it: halves of surrogate pairs,
    and bytes that are no UTF-8.

    Raises:
        BodyTooLargeError: there are more than `max_events`.
        ContractError: the body is neither; the message names the byte.
    """
    _refuse_separators(body, b",", max_events)
    try:
        items = _items(body)
    except DECODE_ERRORS as error:
        items = _items_with_halves(body, error)
    refuse_more(len(items), max_events)
    return items


def split_lines(body: bytes, max_events: int) -> list[tuple[int, bytes]]:
    """The lines that are not blank, each with its number from 0.

    Raises:
        BodyTooLargeError: there are more than `max_events`.
    """
    _refuse_separators(body, b"\n", max_events)
    lines = [(i, line) for i, line in enumerate(body.split(b"\n")) if line.strip(_WHITESPACE)]
    refuse_more(len(lines), max_events)
    return lines


def refuse_more(count: int, max_events: int) -> None:
    """Raise BodyTooLargeError if there are more events than a body may hold."""
    if count > max_events:
        raise BodyTooLargeError(
            f"the body holds {count:,} events, and at most {max_events:,} are taken at once",
            hint="send it in parts",
        )


def has_lone_surrogate(raw: Json) -> bool:
    """Whether half of a surrogate pair is all that keeps some bytes from being JSON."""
    return not _is_json(raw) and _is_json(_without_halves(bytes(raw)))


def _is_json(raw: Json) -> bool:
    try:
        _RAW.decode(raw)
    except DECODE_ERRORS:
        return False
    return True


def _items(body: bytes) -> Sequence[Json]:
    return [_RAW.decode(body)] if is_object(body) else _RAWS.decode(body)


def _items_with_halves(body: bytes, error: Exception) -> Sequence[Json]:
    masked = _without_halves(body)
    try:
        items = _items(masked)
    except DECODE_ERRORS as still:
        raise _unreadable(body, still) from None
    if masked == body:
        raise _unreadable(body, error)
    # The mask is as long as the body, and the items are views of it: their places are the same.
    start = np.frombuffer(masked, np.uint8).ctypes.data
    views = [np.frombuffer(item, np.uint8) for item in items]
    places = [(view.ctypes.data - start, len(view)) for view in views]
    return [body[at : at + length] for at, length in places]


def _without_halves(body: bytes) -> bytes:
    """The body with a letter for each escape of a surrogate; as long as before."""
    return _ESCAPES.sub(lambda m: _ANY_LETTER if len(m[0]) == len(_ANY_LETTER) else m[0], body)


def _unreadable(body: bytes, error: Exception) -> ContractError:
    found = _BYTE.search(str(error))
    if found is not None:
        what, place = str(error)[: found.start()], f"byte {found[1]}"
    elif isinstance(error, RecursionError):
        what, place = "it is nested too deeply", "its values"
    elif "truncated" in str(error):
        what, place = "it ends too early", f"byte {len(body)}"
    else:
        what, place = str(error), "byte 0"
    return ContractError(
        f"the body cannot be read, at {place}: {what}",
        hint='send [{"event_id": ...}, ...], or one such object a line as NDJSON',
    )


def _refuse_separators(body: bytes, separator: bytes, max_events: int) -> None:
    """Refuse a body of very many and very short items before they take their memory."""
    most = max(_SEPARATORS, _SEPARATORS_AN_EVENT * max_events)
    if (count := body.count(separator)) > most:
        raise BodyTooLargeError(
            f"the body has {count:,} times {separator!r}, and {most:,} are the most",
            hint="send it in parts",
        )
