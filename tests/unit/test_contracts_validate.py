"""The JSON validator and its inverse."""

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from playhead.contracts import (
    DIMENSIONS,
    TOPICS,
    Contract,
    Field,
    Validator,
    contract,
    to_json_lines,
)
from playhead.errors import ContractError

ALL = [*TOPICS, *DIMENSIONS]
VALIDATORS = {name: Validator(contract(name)) for name in ALL}
PLAYBACK = VALIDATORS["playback"]


def event(**changes: Any) -> dict[str, Any]:
    """A good playback event, with only its required fields; a change to ... removes a field."""
    whole = {
        "event_id": "s1",
        "event_type": "watch",
        "event_time": "2025-03-05T20:14:33.123456Z",
        "user_id": "u1",
        "session_id": "s1",
        "device_type": "Smart TV",
        "movie_id": "m1",
        "action": "stopped",
        "quality": "4K",
    } | changes
    return {k: v for k, v in whole.items() if v is not ...}


def body(*events: Any) -> bytes:
    return json.dumps(events).encode()


def one(**changes: Any) -> dict[str, Any]:
    """The only row of a playback event with these changes, as Python values."""
    (row,) = PLAYBACK.decode(body(event(**changes))).to_pylist()
    return row


def with_number(field: str, digits: str) -> bytes:
    """A playback event whose `field` is a JSON number of exactly these digits."""
    return body(event(**{field: "@"})).replace(b'"@"', digits.encode())


def test_required_fields_are_enough() -> None:
    table = PLAYBACK.decode(body(event(), event(event_id="s2")))
    assert table.schema == contract("playback").schema
    assert table["event_id"].to_pylist() == ["s1", "s2"]
    assert table["watch_date"].null_count == 2


def test_every_kind_of_value() -> None:
    row = one(watch_date="2025-03-05", is_download=True, user_rating=3, progress_percentage=99.5)
    assert row["event_time"] == datetime(2025, 3, 5, 20, 14, 33, 123456)
    assert row["watch_date"] == date(2025, 3, 5)
    assert (row["is_download"], row["user_rating"]) == (True, 3)
    assert row["progress_percentage"] == Decimal("99.50")


def test_null_is_absent() -> None:
    assert one(user_rating=None, watch_duration_minutes=None)["user_rating"] is None


def test_an_empty_array_is_an_empty_table() -> None:
    table = PLAYBACK.decode(b"[]")
    assert (table.num_rows, table.schema) == (0, contract("playback").schema)
    assert PLAYBACK.decode_each(b" [ ] ")[0].num_rows == 0
    assert PLAYBACK.decode_lines(b"\n\n").num_rows == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user_id": ...}, "missing required field `user_id`"),
        ({"user_id": None}, r"user_id: expected `str`, got `null`"),
        ({"user_id": ""}, r"user_id: expected `str` of length >= 1"),
        ({"session_id": ...}, "missing required field `session_id`"),
        ({"favourite": 1}, "unknown field `favourite`"),
        ({"partition": 1}, "unknown field `partition`"),
        ({"device_type": "Car"}, r"device_type: invalid enum value 'Car' \(allowed: Desktop, "),
        ({"event_type": "search"}, r"event_type: invalid enum value 'search' \(allowed: watch\)"),
        ({"user_rating": 3.5}, r"user_rating: expected `int \| null`, got `float`"),
        ({"user_rating": "3"}, r"user_rating: expected `int \| null`, got `str`"),
        ({"user_rating": 2**31}, r"user_rating: expected `int` <= 2147483647"),
        ({"is_download": "True"}, r"is_download: expected `bool \| null`, got `str`"),
        ({"event_time": "yesterday"}, "event_time: invalid RFC3339"),
        ({"event_time": 1741205673}, "event_time: expected `datetime`, got `int`"),
        ({"event_time": "0001-01-01T00:00:00+05:00"}, "event_time: .* out of range"),
        ({"event_time": "9999-12-31T23:00:00-05:00"}, "event_time: .* out of range"),
        ({"watch_date": "2025-02-30"}, "watch_date: invalid RFC3339"),
        ({"watch_duration_minutes": "NaN"}, "watch_duration_minutes: NaN is out of range"),
        ({"watch_duration_minutes": "Infinity"}, "watch_duration_minutes: Infinity is out of"),
        ({"watch_duration_minutes": "1e999999"}, r"watch_duration_minutes: 1E\+999999 is out of"),
        ({"watch_duration_minutes": 10**10}, "watch_duration_minutes: 10000000000 is out of"),
        ({"watch_duration_minutes": [1]}, "watch_duration_minutes: expected"),
    ],
)
def test_a_bad_event_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        PLAYBACK.decode(body(event(), event(**changes)))
    table, rejected = PLAYBACK.decode_each(body(event(), event(**changes), event(event_id="s3")))
    assert table["event_id"].to_pylist() == ["s1", "s3"]
    (refused,) = rejected
    assert (refused.index, json.loads(refused.raw)) == (1, event(**changes))
    with pytest.raises(ContractError, match=reason):
        raise ContractError(refused.reason[0].lower() + refused.reason[1:])


@pytest.mark.parametrize("item", [b"1", b"null", b"[]", b'"x"', b'{"event_id": "\xff"}'])
def test_what_is_no_event_is_refused_alone(item: bytes) -> None:
    good = json.dumps(event()).encode()
    table, rejected = PLAYBACK.decode_each(b"[" + item + b"," + good + b"]")
    assert table.num_rows == 1
    assert [(r.index, r.raw) for r in rejected] == [(0, item)]


@pytest.mark.parametrize("bad", [b"", b"{}", b"[", b"[{]", b"nonsense", b"1", b"\xff", b"[" * 9999])
def test_a_body_that_is_no_array(bad: bytes) -> None:
    with pytest.raises(ContractError, match="playback"):
        PLAYBACK.decode(bad)
    with pytest.raises(ContractError, match="no JSON array of events"):
        PLAYBACK.decode_each(bad)


def test_the_place_in_a_long_body() -> None:
    events = [event(event_id=f"s{i}") for i in range(5000)]
    events[4321]["quality"] = "8K"
    with pytest.raises(ContractError, match=r"\[4321\]\.quality: invalid enum value '8K'"):
        PLAYBACK.decode(body(*events))
    table, rejected = PLAYBACK.decode_each(body(*events))
    assert table.num_rows == 4999
    assert [r.index for r in rejected] == [4321]
    assert table["event_id"].to_pylist() == [f"s{i}" for i in range(5000) if i != 4321]


@pytest.mark.parametrize(
    ("digits", "exact"),
    [
        ("0.1", "0.10"),
        ("12.345", "12.35"),
        ("-12.345", "-12.35"),
        ("1.005", "1.01"),
        ("2.675", "2.68"),
        ("1.00499999999999999999", "1.00"),
        ("9999999999.99", "9999999999.99"),
        ("1e2", "100.00"),
        ("7", "7.00"),
        ("1e-300", "0.00"),
    ],
)
def test_decimals_are_exact_and_rounded_half_up(digits: str, exact: str) -> None:
    sent = with_number("watch_duration_minutes", digits)
    for table in (PLAYBACK.decode(sent), PLAYBACK.decode_each(sent)[0]):
        assert str(table["watch_duration_minutes"][0].as_py()) == exact
    assert one(watch_duration_minutes=digits)["watch_duration_minutes"] == Decimal(exact)


def test_a_number_that_rounds_out_of_its_precision_is_refused() -> None:
    sent = with_number("watch_duration_minutes", "9999999999.995")
    table, rejected = PLAYBACK.decode_each(sent)
    assert (table.num_rows, len(rejected)) == (0, 1)


@pytest.mark.parametrize(
    ("sent", "hour"),
    [
        ("2025-03-05T20:00:00Z", 20),
        ("2025-03-05T20:00:00", 20),
        ("2025-03-05 20:00:00+00:00", 20),
        ("2025-03-05T20:00:00+05:00", 15),
        ("2025-03-05T20:00:00-03:00", 23),
    ],
)
def test_times_become_naive_utc(sent: str, hour: int) -> None:
    table = PLAYBACK.decode(body(event(event_time=sent), event(event_time="2025-03-05T00:00:00")))
    assert table["event_time"].type == pa.timestamp("us")
    assert table["event_time"][0].as_py() == datetime(2025, 3, 5, hour)


def test_json_lines() -> None:
    lines = b"\n".join(json.dumps(event(event_id=f"s{i}")).encode() for i in range(2500))
    assert PLAYBACK.decode_lines(lines + b"\r\n\n").num_rows == 2500


def test_bad_lines_are_refused_alone() -> None:
    good = json.dumps(event()).encode()
    lines = [good, b"", b"{", good + b", " + good, good[:20], good[20:], good]
    table, rejected = PLAYBACK.decode_lines_each(b"\n".join(lines))
    assert table.num_rows == 2
    assert [r.index for r in rejected] == [2, 3, 4, 5]
    with pytest.raises(ContractError):
        PLAYBACK.decode_lines(b"\n".join(lines))


def test_two_events_on_a_line_are_refused() -> None:
    good = json.dumps(event()).encode()
    with pytest.raises(ContractError, match="two stand on one line"):
        PLAYBACK.decode_lines(good + b"," + good)


def test_json_lines_out() -> None:
    table = PLAYBACK.decode(body(event(watch_duration_minutes="12.30", watch_date="2025-03-05")))
    (line,) = to_json_lines(table).splitlines()
    assert b'"watch_duration_minutes":12.30' in line
    assert b'"event_time":"2025-03-05T20:14:33.123456Z"' in line
    assert b"user_rating" not in line


def values(field: Field) -> st.SearchStrategy[Any]:
    if field.values:
        strategy: st.SearchStrategy[Any] = st.sampled_from(field.values)
    elif pa.types.is_string(field.type):
        strategy = st.text(min_size=1 if field.not_empty else 0, max_size=8)
    elif pa.types.is_binary(field.type):
        strategy = st.binary(max_size=8)
    elif pa.types.is_decimal(field.type):
        top = 10**field.type.precision - 1
        scale = field.type.scale
        strategy = st.integers(-top, top).map(lambda n: Decimal(n).scaleb(-scale))
    elif pa.types.is_timestamp(field.type):
        strategy = st.datetimes()
    elif pa.types.is_date(field.type):
        strategy = st.dates()
    elif pa.types.is_boolean(field.type):
        strategy = st.booleans()
    else:
        strategy = st.integers(-(2**31), 2**31 - 1)
    return strategy if field.required else st.none() | strategy


def tables(known: Contract) -> st.SearchStrategy[pa.Table]:
    row = st.fixed_dictionaries({f.name: values(f) for f in known.fields})
    return st.lists(row, max_size=8).map(lambda r: pa.Table.from_pylist(r, schema=known.schema))


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_out_and_in_again_is_the_same(name: str, data: st.DataObject) -> None:
    table = data.draw(tables(contract(name)))
    lines = to_json_lines(table)
    validator = VALIDATORS[name]
    assert validator.decode_lines(lines).equals(table)
    array = b"[" + b",".join(lines.splitlines()) + b"]"
    assert validator.decode(array).equals(table)
    # The way of the single events gives the same as the way of the batch.
    each, rejected = validator.decode_each(array[:-1] + (b"," if len(table) else b"") + b"1]")
    assert each.equals(table)
    assert [r.index for r in rejected] == [len(table)]
