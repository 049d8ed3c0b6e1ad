"""The decoder of live bodies: routing, refusals one by one, limits, clocks, and hostile bytes."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from playhead.contracts import TOPICS, Validator, contract
from playhead.contracts.mixed import Decoded, Limits, MixedDecoder
from playhead.errors import BodyTooLargeError, ContractError

NOW = datetime(2026, 3, 5, 20, 15)
DECODER = MixedDecoder()
SMALL = MixedDecoder(limits=Limits(max_events=3, max_field_bytes=20))


def watch(**changes: Any) -> dict[str, Any]:
    """A good playback event; a change to ... removes a field."""
    whole = {
        "event_id": "s1",
        "event_type": "watch",
        "event_time": "2026-03-05T20:14:33.123Z",
        "user_id": "u1",
        "session_id": "s1",
        "device_type": "Smart TV",
        "movie_id": "m1",
        "action": "stopped",
        "quality": "4K",
    } | changes
    return {k: v for k, v in whole.items() if v is not ...}


def beat(kind: str = "play", **changes: Any) -> dict[str, Any]:
    return watch(action=..., quality=..., event_type=kind, position_seconds=12.5) | changes


def title(**changes: Any) -> dict[str, Any]:
    known = ("event_id", "event_time", "movie_id")
    event = {k: v for k, v in watch().items() if k in known}
    return event | {"event_type": "title_changed", "imdb_rating": "7.25"} | changes


def body(*events: Any) -> bytes:
    return json.dumps(events).encode()


def array(*events: Any, decoder: MixedDecoder = DECODER, **arguments: Any) -> Decoded:
    return decoder.array(body(*events), NOW, **arguments)


def reason(raw: bytes) -> str:
    """Why an event is refused that stands between two good ones, in both JSON forms."""
    good = json.dumps(watch()).encode()
    as_array = DECODER.array(b"[" + good + b"," + raw + b"," + good + b"]", NOW)
    as_lines = DECODER.lines(good + b"\n" + raw + b"\n" + good, NOW)
    for decoded in (as_array, as_lines):
        (refused,) = decoded.rejected
        assert (refused.index, refused.raw, decoded.count) == (1, raw, 3)
        assert decoded.tables["playback"].num_rows == 2
    assert as_array.rejected == as_lines.rejected
    return as_array.rejected[0].reason


def with_number(digits: str) -> bytes:
    return json.dumps(watch(watch_duration_minutes="@")).replace('"@"', digits).encode()


def test_events_go_to_their_topics_in_order() -> None:
    events = [watch(), beat("play"), title(), beat("seek"), watch(event_id="s2"), beat("stop")]
    decoded = array(*events)
    assert {t: table.num_rows for t, table in decoded.tables.items()} == {
        "playback": 2,
        "heartbeat": 3,
        "catalog": 1,
    }
    assert all(table.schema == TOPICS[t].schema for t, table in decoded.tables.items())
    beats = decoded.tables["heartbeat"]
    assert beats["event_type"].to_pylist() == ["play", "seek", "stop"]
    assert beats["position_seconds"].to_pylist() == [Decimal("12.500")] * 3
    assert decoded.tables["catalog"]["imdb_rating"].to_pylist() == [Decimal("7.25")]
    assert (decoded.count, list(decoded.rejected)) == (6, [])


def test_dead_letters_do_not_come_from_outside() -> None:
    assert "dead_letters" not in DECODER._topic_of.values()
    assert "invalid value 'rejected'" in reason(json.dumps(watch(event_type="rejected")).encode())


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"event_type": ...}, "missing required field `event_type` (one of watch, search,"),
        ({"event_type": "boo"}, "event_type: invalid value 'boo' (allowed: watch, search, "),
        ({"event_type": 7}, "event_type: expected `str` (allowed: watch"),
        ({"event_type": None}, "event_type: expected `str` (allowed: watch"),
        ({"user_id": ...}, "missing required field `user_id`"),
        ({"user_id": ""}, "user_id: expected `str` of length >= 1"),
        ({"favourite": 1}, "unknown field `favourite`"),
        ({"page": "/x"}, "unknown field `page`"),
        ({"device_type": "Car"}, "device_type: invalid enum value 'Car' (allowed: Desktop, "),
        ({"user_rating": 2**31}, "user_rating: expected `int` <= 2147483647"),
        ({"user_rating": 10**400}, "user_rating: "),
        ({"event_time": "yesterday"}, "event_time: invalid RFC3339"),
        ({"event_time": 1772741673}, "event_time: expected `datetime`, got `int`"),
        ({"event_time": "2026-03-05"}, "event_time: invalid RFC3339"),
        ({"event_time": "2026-03-05T20:14Z"}, "event_time: invalid RFC3339"),
        ({"event_time": "2026-02-29T20:14:00Z"}, "event_time: invalid RFC3339"),
        ({"event_time": "2026-03-05T23:59:60Z"}, "event_time: invalid RFC3339"),
        ({"event_time": "0001-01-01T00:00:00Z"}, "more than 3650 days"),
        ({"event_time": "0001-01-01T00:00:00+05:00"}, "event_time: a time -6"),
        ({"event_time": "9999-12-31T23:00:00-05:00"}, "event_time: a time 2"),
        ({"event_time": "2026-03-05T20:20:01Z"}, "2026-03-05T20:20:01Z is more than 0:05:00 after"),
        ({"sent_at": "now"}, "sent_at: invalid RFC3339"),
        ({"watch_date": "2025-02-30"}, "watch_date: invalid RFC3339"),
        ({"watch_duration_minutes": "NaN"}, "watch_duration_minutes: NaN is out of range"),
        ({"watch_duration_minutes": "1e999999"}, "watch_duration_minutes: 1E+999999 is out of"),
        ({"watch_duration_minutes": 10**10}, "watch_duration_minutes: 10000000000 is out of"),
    ],
)
def test_a_bad_event_is_refused_alone(changes: dict[str, Any], wanted: str) -> None:
    said = reason(json.dumps(watch(**changes)).encode())
    assert wanted.lower() in said.lower()


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"1", "Expected `object`, got `int`"),
        (b"null", "Expected `object`, got `null`"),
        (b'"x"', "Expected `object`, got `str`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "event_type"),
        (json.dumps(watch(user_id="@")).replace("@", "\\ud800").encode(), "half of a surrogate"),
        (json.dumps(watch(user_id="@")).replace("@", "\\udc00 ").encode(), "half of a surrogate"),
        (json.dumps(watch(user_id="@")).encode().replace(b"@", b"\xff"), "'utf-8' codec can't"),
        (json.dumps(watch(user_id="@")).encode().replace(b"@", b"\xed\xa0\x80"), "'utf-8' codec"),
        (with_number("1e999999999999"), "watch_duration_minutes: "),
        (with_number("9" * 5000), "watch_duration_minutes: 9999"),
        (with_number("9999999999.995"), "watch_duration_minutes: 9999999999.995 is out of range"),
        (json.dumps(title(imdb_rating=99.996)).encode(), "imdb_rating: 99.996 is out of range"),
        (json.dumps(title(imdb_rating=-99.995)).encode(), "imdb_rating: -99.995 is out of range"),
    ],
)
def test_hostile_bytes_are_refused_alone(raw: bytes, wanted: str) -> None:
    assert wanted in reason(raw)


def test_what_is_said_of_a_refused_event() -> None:
    known, unknown = array(beat(position_seconds=None), watch(event_type="boo")).rejected
    assert (known.topic, known.version) == ("heartbeat", contract("heartbeat").version)
    assert (unknown.topic, unknown.version) == (None, None)


@pytest.mark.parametrize(
    ("text", "kept"),
    [("\\u0000", "\0"), ("\\ud83d\\ude00", "😀"), ("\\\\ud800", "\\ud800"), ("é", "é")],
)
def test_text_of_all_kinds_is_kept(text: str, kept: str) -> None:
    raw = json.dumps(watch(location_country="@"), ensure_ascii=False).replace("@", text)
    half = json.dumps(watch(user_id="@")).replace("@", "\\ud800")
    for sent in (f"[{raw}]", f"[{raw},{half}]"):
        decoded = DECODER.array(sent.encode(), NOW)
        assert decoded.tables["playback"]["location_country"].to_pylist() == [kept]


@pytest.mark.parametrize(
    ("digits", "exact"),
    [
        ("0.1", "0.10"),
        ("12.345", "12.35"),
        ("-12.345", "-12.35"),
        ("1.005", "1.01"),
        ("2.675", "2.68"),
        ("1.00499999999999999999", "1.00"),
        ("0.12499999999999999999999", "0.12"),
        ("1.0050000000000000000001", "1.01"),
        ("9999999999.99", "9999999999.99"),
        ("-9999999999.99", "-9999999999.99"),
        ("1e2", "100.00"),
        ("-0.0", "0.00"),
        ("1e-300", "0.00"),
        ("1e-99999999", "0.00"),
    ],
)
def test_numbers_are_exact_and_rounded_half_up(digits: str, exact: str) -> None:
    sent = b"[" + with_number(digits) + b"]"
    table = DECODER.array(sent, NOW).tables["playback"]
    assert str(table["watch_duration_minutes"][0].as_py()) == exact
    assert table.equals(Validator(contract("playback")).decode(sent))


@pytest.mark.parametrize(
    "sent",
    [
        "2026-03-05T20:14:33Z",
        "2026-03-05T20:14:33",
        "2026-03-05t20:14:33.5z",
        "2026-03-05 20:14:33.123456789Z",
        "2026-03-05T21:14:33+01:00",
        "2026-03-05T20:14:59.9999999Z",
    ],
)
def test_times_of_all_shapes(sent: str) -> None:
    events = body(watch(event_time=sent), watch())
    expected = Validator(contract("playback")).decode(events)
    assert DECODER.array(events, NOW).tables["playback"].equals(expected)
    alone = body(watch(event_time=sent))
    expected = Validator(contract("playback")).decode(alone)
    assert DECODER.array(alone, NOW).tables["playback"].equals(expected)


def times(decoded: Decoded) -> list[datetime]:
    found: list[datetime] = decoded.tables["playback"]["event_time"].to_pylist()
    return found


def test_a_wrong_clock_is_put_right() -> None:
    claimed, hour = datetime(2026, 3, 5, 20, 14, 33, 123000), timedelta(hours=1)
    wrong = (NOW + hour).isoformat()
    late = watch(event_time="2026-03-05T21:14:33.123Z", sent_at=wrong + "Z")
    zoned = watch(sent_at="2026-03-05T22:15:00+02:00")
    nearly = watch(sent_at=(NOW - timedelta(seconds=5)).isoformat())
    assert times(array(late, zoned, nearly, watch())) == [claimed] * 4
    assert times(array(watch(), zoned, sent_at=NOW + hour)) == [claimed - hour, claimed]
    assert "sent_at" not in array(late).tables["playback"].schema.names


def test_a_corrected_time_is_held_to_the_limits() -> None:
    sent = (NOW - timedelta(hours=1)).isoformat()
    moved = array(watch(sent_at=sent), watch(event_id="s2"))
    assert times(moved) == [datetime(2026, 3, 5, 20, 14, 33, 123000)]
    (refused,) = moved.rejected
    assert (refused.index, "21:14:33.123000Z is more than" in refused.reason) == (0, True)
    far = array(watch(sent_at="0001-01-01T00:00:00Z", event_time="9999-12-31T23:00:00Z"))
    assert "event_time: a time" in far.rejected[0].reason


@pytest.mark.parametrize(
    ("sent", "place"),
    [
        (b"", "byte 0: it ends too early"),
        (b"  ", "byte 2: it ends too early"),
        (b"[", "byte 1: it ends too early"),
        (b'[{"event_id": "a"', "byte 17: it ends too early"),
        (b'{"event_id": "a"', "byte 16: it ends too early"),
        (b"[{}, ]", "byte 5: JSON is malformed: trailing comma"),
        (b"[{}{}]", "byte 3: JSON is malformed"),
        (b"[NaN]", "byte 1: JSON is malformed"),
        (b"[01]", "byte 2: JSON is malformed: invalid number"),
        (b"[] x", "byte 4: JSON is malformed: trailing characters"),
        (b"nonsense", "byte 4: JSON is malformed"),
        (b'"text"', "byte 0: expected `array`, got `str`"),
        (b"1", "byte 0: expected `array`, got `int`"),
        (b"\xff\xfe[\x00]\x00", "byte 0: JSON is malformed"),
        (b"[" * 100_000, "nested too deeply"),
        (b'[{"a":' * 100_000, "nested too deeply"),
        (b'["\\x"]', "byte 3: JSON is malformed: invalid escaped character"),
    ],
)
def test_a_body_that_cannot_be_read(sent: bytes, place: str) -> None:
    with pytest.raises(ContractError, match="the body cannot be read") as caught:
        DECODER.array(sent, NOW)
    assert place.lower() in caught.value.message.lower()


@pytest.mark.parametrize("sent", [b"[]", b" [ ] ", b"\xef\xbb\xbf[]"])
def test_an_empty_array_has_no_events(sent: bytes) -> None:
    assert DECODER.array(sent, NOW) == Decoded({}, [], 0)


@pytest.mark.parametrize("sent", [b"", b"\n\n", b" \r\n\t\n"])
def test_no_lines_have_no_events(sent: bytes) -> None:
    assert DECODER.lines(sent, NOW).count == 0


@pytest.mark.parametrize("before", [b"", b" \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_one_object_is_one_event(before: bytes) -> None:
    decoded = DECODER.array(before + json.dumps(watch()).encode(), NOW)
    assert (decoded.count, decoded.tables["playback"].num_rows) == (1, 1)
    (refused,) = DECODER.array(before + b'{"event_type": "watch"}', NOW).rejected
    assert (refused.index, refused.topic) == (0, "playback")


def test_a_repeated_key_counts_last() -> None:
    raw = json.dumps(watch())[:-1] + ', "user_id": "u2"}'
    assert DECODER.lines(raw.encode(), NOW).tables["playback"]["user_id"].to_pylist() == ["u2"]


def test_lines() -> None:
    good = json.dumps(watch()).encode()
    sent = [b"\xef\xbb\xbf" + good, b"", b" \r", good + b"\r", b"{", good + good, good, good[:50]]
    decoded = DECODER.lines(b"\n".join(sent), NOW)
    assert decoded.tables["playback"].num_rows == 3
    assert [(r.index, r.raw) for r in decoded.rejected] == [(i, sent[i]) for i in (4, 5, 7)]
    assert decoded.count == 6


def test_an_event_over_two_lines_is_two_refusals() -> None:
    halves = [b'{"event_id": "},{"', b'{"}', b'"event_id": "a"}', json.dumps(watch()).encode()]
    decoded = DECODER.lines(b"\n".join(halves), NOW)
    assert [r.index for r in decoded.rejected] == [0, 1, 2]
    assert decoded.tables["playback"].num_rows == 1


@pytest.mark.parametrize("read", [SMALL.array, SMALL.lines])
def test_a_body_holds_only_so_many_events(read: Callable[..., Decoded]) -> None:
    four = b"\n".join([json.dumps(watch()).encode()] * 4)
    sent = four if read == SMALL.lines else b"[" + four.replace(b"\n", b",") + b"]"
    with pytest.raises(BodyTooLargeError, match="holds 4 events, and at most 3"):
        read(sent, NOW)
    many = b"1\n" * 2_000_000 if read == SMALL.lines else b"[" + b"1," * 2_000_000 + b"1]"
    with pytest.raises(BodyTooLargeError, match="2,000,000 times"):
        read(many, NOW)


def test_a_value_may_be_only_so_long() -> None:
    fits, not_fits = "é" * 10, "é" * 10 + "x"
    decoded = array(watch(user_id=fits), watch(user_id=not_fits), decoder=SMALL)
    assert decoded.tables["playback"]["user_id"].to_pylist() == [fits]
    assert decoded.rejected[0].reason == "user_id: 21 bytes, and at most 20 are taken"


def test_bodies_of_many_chunks_keep_their_order() -> None:
    events: list[dict[str, Any]] = [watch(event_id=f"s{i}") for i in range(4000)]
    events[::7] = [beat("pause", event_id=f"s{i}") for i in range(0, 4000, 7)]
    events[2346]["user_id"] = ""
    for decoded in (
        array(*events),
        DECODER.lines(b"\n".join(json.dumps(event).encode() for event in events), NOW),
    ):
        assert [refused.index for refused in decoded.rejected] == [2346]
        assert decoded.tables["heartbeat"].num_rows == 572
        ids = decoded.tables["playback"]["event_id"].to_pylist()
        assert ids == [f"s{i}" for i in range(4000) if i % 7 and i != 2346]
