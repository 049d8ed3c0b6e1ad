"""Laws of the decoder of live bodies: nothing is lost, nothing else is raised, nothing differs."""

import json
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
from hypothesis import HealthCheck, given, settings

from playhead.contracts import TOPICS, Contract, Field, Validator, to_json_lines
from playhead.contracts.mixed import Decoded, MixedDecoder
from playhead.errors import ContractError

NOW = datetime(2026, 3, 5, 20, 15)
DECODER = MixedDecoder()
LIVE = {name: topic for name, topic in TOPICS.items() if name != "dead_letters"}
VALIDATORS = {name: Validator(topic) for name, topic in LIVE.items()}
WILD: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2**31,
        2**70,
        1.5,
        1e308,
        12.345,
        "",
        "x",
        "NaN",
        "1e-9999999",
        "\0",
        [],
        {},
    ]
)
BREAKS = st.sampled_from(
    [
        *(b"", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\xff", b"\x00", b"\n", b"9"),
        *(b"e", b"NaN", b"\\ud800", b"\xed\xa0\x80", b"1e-9999999", b"1e999999", b"[[["),
        b"\xef\xbb\xbf",
    ]
)
LAWFUL = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def values(field: Field) -> st.SearchStrategy[Any]:
    """JSON values that the field takes."""
    kind = field.type
    if field.values:
        found: st.SearchStrategy[Any] = st.sampled_from(field.values)
    elif pa.types.is_string(kind):
        found = st.text(min_size=1 if field.not_empty else 0, max_size=5)
    elif pa.types.is_decimal(kind):
        found = st.integers(-99_990, 99_990).map(lambda n: n / 1000) | st.floats(-99, 99)
    elif pa.types.is_timestamp(kind):
        start, end = NOW - timedelta(days=3000), NOW + timedelta(seconds=300)
        zones = st.sampled_from(["", "Z", "+00:00", "z"])
        shape = st.sampled_from(["seconds", "milliseconds", "microseconds", "auto"])
        moments = st.datetimes(start, end)
        found = st.builds(lambda m, s, z: m.isoformat(timespec=s) + z, moments, shape, zones)
    elif pa.types.is_date(kind):
        found = st.dates().map(lambda day: day.isoformat())
    elif pa.types.is_boolean(kind):
        found = st.booleans()
    else:
        found = st.integers(-(2**31), 2**31 - 1)
    return found if field.required else st.none() | found


def events_of(topic: Contract) -> st.SearchStrategy[dict[str, Any]]:
    required = {f.name: values(f) for f in topic.fields if f.required}
    optional = {f.name: values(f) for f in topic.fields if not f.required}
    return st.fixed_dictionaries(required, optional=optional)


good_events = st.one_of([events_of(topic) for topic in LIVE.values()])


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """An event with one field dropped, added or of another type."""
    event = draw(good_events)
    name = draw(st.sampled_from([*event, "sent_at", "page", "nonsense"]))
    if draw(st.booleans()) and name in event:
        del event[name]
    else:
        event[name] = draw(WILD)
    return event


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A body with some of its bytes replaced."""
    events = draw(st.lists(good_events, max_size=4))
    form = draw(st.sampled_from(["array", "lines", "object"]))
    lines = [json.dumps(e, ensure_ascii=draw(st.booleans())).encode() for e in events]
    body = b"\n".join(lines) if form == "lines" else b"[" + b",".join(lines) + b"]"
    body = lines[0] if form == "object" and lines else body
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(BREAKS) + body[at + draw(st.integers(0, 3)) :]
    return body


def accepted(decoded: Decoded) -> int:
    return sum(table.num_rows for table in decoded.tables.values())


def check_against_validators(decoded: Decoded, events: list[dict[str, Any]]) -> None:
    """The good events are what the validators of their contracts make of the same ones."""
    bad = {refused.index for refused in decoded.rejected}
    by_topic: dict[str, list[Any]] = {}
    for index, event in enumerate(events):
        if index not in bad:
            topic = DECODER._topic_of[event["event_type"]]
            by_topic.setdefault(topic, []).append(
                {k: v for k, v in event.items() if k != "sent_at"}
            )
    assert set(by_topic) == set(decoded.tables)
    for topic, kept in by_topic.items():
        expected = VALIDATORS[topic].decode(json.dumps(kept).encode())
        assert decoded.tables[topic].equals(expected)


@LAWFUL
@given(st.lists(good_events, max_size=6))
def test_good_events_are_all_taken(events: list[dict[str, Any]]) -> None:
    decoded = DECODER.array(json.dumps(events).encode(), NOW)
    assert (accepted(decoded), list(decoded.rejected)) == (len(events), [])
    check_against_validators(decoded, events)


@LAWFUL
@given(st.lists(good_events | spoilt(), max_size=6))
def test_spoilt_events_are_refused_and_their_neighbours_are_not(
    events: list[dict[str, Any]],
) -> None:
    lines = [json.dumps(event).encode() for event in events]
    by_array = DECODER.array(b"[" + b",".join(lines) + b"]", NOW)
    by_lines = DECODER.lines(b"\n".join(lines), NOW)
    assert by_array.rejected == by_lines.rejected
    assert by_array.count == len(events) == accepted(by_array) + len(by_array.rejected)
    assert all(refused.raw == lines[refused.index] for refused in by_array.rejected)
    assert all(by_lines.tables[t].equals(table) for t, table in by_array.tables.items())
    if not any("sent_at" in event for event in events):
        check_against_validators(by_array, events)
    for index in {refused.index for refused in by_array.rejected}:
        assert accepted(DECODER.lines(lines[index], NOW)) == 0


@LAWFUL
@given(mutated())
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    there = len([line for line in body.split(b"\n") if line.strip(b" \t\r")])
    by_lines = DECODER.lines(body, NOW)
    if not body.startswith(b"\xef\xbb\xbf"):
        assert by_lines.count == there
    assert accepted(by_lines) + len(by_lines.rejected) == by_lines.count
    try:
        by_array = DECODER.array(body, NOW)
    except ContractError:
        return
    assert accepted(by_array) + len(by_array.rejected) == by_array.count
    try:
        there = json.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return
    assert by_array.count == (len(there) if isinstance(there, list) else 1)


@LAWFUL
@given(st.lists(good_events, max_size=6))
def test_what_was_taken_reads_the_same_again(events: list[dict[str, Any]]) -> None:
    first = DECODER.array(json.dumps(events).encode(), NOW)
    lines = b"".join(to_json_lines(table) for table in first.tables.values())
    again = DECODER.lines(lines, NOW)
    assert not again.rejected
    assert all(again.tables[topic].equals(table) for topic, table in first.tables.items())
    kinds = Counter(DECODER._topic_of[event["event_type"]] for event in events)
    assert {topic: table.num_rows for topic, table in again.tables.items()} == kinds
