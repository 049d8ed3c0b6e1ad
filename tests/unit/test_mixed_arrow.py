"""The decoder of live bodies that are Arrow IPC streams."""

import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from playhead.contracts import TOPICS
from playhead.contracts.mixed import Decoded, Limits, MixedDecoder
from playhead.errors import BodyTooLargeError, ContractError

NOW = datetime(2026, 3, 5, 20, 15)
DECODER = MixedDecoder()


def watch(**changes: Any) -> dict[str, Any]:
    """A good playback event as a row of an Arrow table."""
    return {
        "event_id": "s1",
        "event_type": "watch",
        "event_time": datetime(2026, 3, 5, 20, 14, 33, 123000),
        "user_id": "u1",
        "session_id": "s1",
        "device_type": "Smart TV",
        "movie_id": "m1",
        "action": "stopped",
        "quality": "4K",
    } | changes


def beat(**changes: Any) -> dict[str, Any]:
    kept = {k: v for k, v in watch().items() if k not in ("action", "quality")}
    return kept | {"event_type": "play", "position_seconds": Decimal("12.500")} | changes


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    written = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, table.schema, options=written) as writer:
        writer.write_table(table, max_chunksize=3)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def rows(*events: dict[str, Any]) -> pa.Table:
    names = {name: None for event in events for name in event}
    return pa.Table.from_pylist([names | event for event in events])


def columns(**changed: Any) -> pa.Table:
    """Three good events, with some columns as they are given."""
    table = rows(*[watch(event_id=f"s{i}") for i in range(3)])
    for name, column in changed.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, [column])
        else:
            table = table.append_column(name, [column])
    return table


def decode(table: pa.Table, **arguments: Any) -> Decoded:
    return DECODER.arrow(stream(table), NOW, **arguments)


def playback(table: pa.Table, column: str) -> list[Any]:
    found: list[Any] = decode(table).tables["playback"][column].to_pylist()
    return found


def test_rows_go_to_their_topics_in_order() -> None:
    events = [watch(), beat(), watch(event_id="s2"), beat(event_type="stop"), beat()]
    decoded = decode(rows(*events))
    assert (decoded.count, list(decoded.rejected)) == (5, [])
    assert decoded.tables["playback"]["event_id"].to_pylist() == ["s1", "s2"]
    assert decoded.tables["heartbeat"]["event_type"].to_pylist() == ["play", "stop", "play"]
    assert all(table.schema == TOPICS[t].schema for t, table in decoded.tables.items())


def test_a_stream_says_the_same_as_json() -> None:
    events = [watch(), beat(), watch(event_id="")]
    body = json.dumps(events, default=str).encode()
    by_json, by_arrow = DECODER.array(body, NOW), decode(rows(*events))
    assert all(by_arrow.tables[t].equals(table) for t, table in by_json.tables.items())
    assert [r.reason for r in by_arrow.rejected] == [r.reason for r in by_json.rejected]


@pytest.mark.parametrize(
    ("name", "column", "kept"),
    [
        ("user_rating", pa.array([1, 2, None], pa.int64()), [1, 2, None]),
        ("user_rating", pa.array(["1", "2.0", None]), [1, 2, None]),
        ("user_rating", pa.nulls(3), [None] * 3),
        ("watch_duration_minutes", pa.array([1.005, 2.5, None]), ["1.01", "2.50", None]),
        ("watch_duration_minutes", pa.array(["1.005", "1e2", "1e-9999"]), ["1.01", "100.00", "0"]),
        ("watch_duration_minutes", pa.array([1, 2, 3], pa.uint8()), ["1.00", "2.00", "3.00"]),
        ("is_download", pa.array([True, None, False]), [True, None, False]),
        ("device_type", pa.array(["Laptop"] * 3).dictionary_encode(), ["Laptop"] * 3),
        ("user_id", pa.array(["a", "b", "c"], pa.large_string()), ["a", "b", "c"]),
    ],
)
def test_types_are_cast(name: str, column: pa.Array, kept: list[Any]) -> None:
    found = playback(columns(**{name: column}), name)
    exact = [Decimal(k) if isinstance(k, str) and k[0].isdigit() else k for k in kept]
    assert found == (exact if "minutes" in name else kept)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["2026-03-05T20:14:33Z"] * 3),
        pa.array(["2026-03-05T21:14:33+01:00"] * 3),
        pa.array([datetime(2026, 3, 5, 20, 14, 33, tzinfo=UTC)] * 3, pa.timestamp("s", "UTC")),
        pa.array([datetime(2026, 3, 5, 20, 14, 33)] * 3, pa.timestamp("ns")),
    ],
)
def test_times_are_cast(column: pa.Array) -> None:
    assert (
        playback(columns(event_time=column), "event_time") == [datetime(2026, 3, 5, 20, 14, 33)] * 3
    )


@pytest.mark.parametrize(
    ("name", "column", "wanted"),
    [
        ("user_id", ["a", None, "c"], "user_id: is null, and the field is required"),
        ("user_id", ["a", "", "c"], "user_id: expected `str` of length >= 1"),
        ("device_type", ["Mobile", "Car", "Tablet"], "device_type: invalid enum value (allowed: "),
        ("event_type", ["watch", "boo", "watch"], "event_type: invalid value 'boo' (allowed: w"),
        ("event_type", ["watch", None, "watch"], "event_type: is null (allowed: watch"),
        ("page", [None, "/x", None], "object contains unknown field `page`"),
        ("user_rating", ["1", "many", None], "user_rating: many is no int32"),
        ("user_rating", [1, 2**40, 3], "user_rating: 1099511627776 is no int32"),
        ("user_rating", [1.0, 1.5, 3.0], "user_rating: 1.5 is no int32"),
        ("watch_duration_minutes", [1.0, float("nan"), 2.0], "watch_duration_minutes: nan is no "),
        ("watch_duration_minutes", ["1", "1e99999999", "2"], "minutes: 1e99999999 is no decimal"),
        ("watch_duration_minutes", ["1", "1_0", "2"], "minutes: 1_0 is no decimal"),
        ("event_time", ["2026-03-05", "soon", "2026-03-05"], "event_time: soon is no timestamp"),
        ("location_country", ["a", "x" * 70_000, "b"], "location_country: 70,000 bytes, and at"),
    ],
)
def test_a_bad_row_is_refused_alone(name: str, column: list[Any], wanted: str) -> None:
    decoded = decode(columns(**{name: pa.array(column)}))
    (refused,) = decoded.rejected
    assert refused.index == 1
    assert wanted in refused.reason
    assert json.loads(refused.raw)["event_id"] == "s1"
    assert decoded.tables["playback"]["event_id"].to_pylist() == ["s0", "s2"]


def test_times_beyond_the_calendar_are_refused() -> None:
    far = pa.array([2**62, -(2**62), 0], pa.int64()).view(pa.timestamp("us"))
    reasons = [refused.reason for refused in decode(columns(event_time=far)).rejected]
    assert [text.split(" is ")[-1][:12] for text in reasons[:2]] == ["out of range"] * 2
    assert "more than 3650 days" in reasons[2]
    seconds = pa.array([2**62, 1, 1], pa.int64()).view(pa.timestamp("s"))
    assert "is no timestamp" in decode(columns(event_time=seconds)).rejected[0].reason


def test_a_wrong_clock_is_put_right() -> None:
    sent = pa.array([datetime(2026, 3, 5, 20, 16), None, None])
    times = playback(columns(sent_at=sent), "event_time")
    assert [time.minute for time in times] == [13, 14, 14]


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        (columns(user_rating=pa.array([True] * 3)), "'user_rating' is bool, which does not become"),
        (columns(user_id=pa.array([[1]] * 3)), "'user_id' of type list<item: int64>"),
        (columns(user_id=pa.array(["a"] * 3, pa.string_view())), "'user_id' of type string_view"),
        (columns().drop_columns("event_type"), "no column event_type of text"),
        (columns(event_type=pa.array([1, 2, 3])), "no column event_type of text"),
        (pa.table([["watch"], ["watch"]], names=["event_type"] * 2), "column 'event_type' twice"),
        (pa.table({f"c{i}": [1] for i in range(300)}), "300 columns"),
    ],
)
def test_a_column_that_no_event_has(table: pa.Table, wanted: str) -> None:
    with pytest.raises(ContractError) as caught:
        decode(table)
    assert wanted in caught.value.message


def test_limits() -> None:
    small = MixedDecoder(limits=Limits(max_events=2))
    with pytest.raises(BodyTooLargeError, match="holds 3 events, and at most 2"):
        small.arrow(stream(columns()), NOW)
    nothing = pa.table({"event_type": pa.nulls(3, pa.string()), "x": pa.nulls(3)})
    whole = stream(nothing)
    rows_of_batch = (3).to_bytes(8, "little")
    assert whole.count(rows_of_batch) > 1
    with pytest.raises(ContractError):
        DECODER.arrow(whole.replace(rows_of_batch, (2**40).to_bytes(8, "little")), NOW)


def test_a_dictionary_may_not_stand_for_gigabytes() -> None:
    indices = pa.array([0] * 3000, pa.int8())
    text = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 100_000]))
    kinds = pa.DictionaryArray.from_arrays(indices, pa.array(["watch"]))
    with pytest.raises(BodyTooLargeError, match="hold 300,015,000 bytes"):
        decode(pa.table({"event_type": kinds, "user_id": text}))


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_columns_are_refused(codec: str) -> None:
    kinds = {"event_type": pa.array(["watch"] * 3).dictionary_encode()}
    for table in (columns(), columns(**kinds)):
        with pytest.raises(ContractError, match="has compressed columns"):
            DECODER.arrow(stream(table, compression=codec), NOW)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"\xff" * 100, b"\0" * 100, b"[]"])
def test_what_is_no_stream(body: bytes) -> None:
    with pytest.raises(ContractError, match="Arrow IPC stream"):
        DECODER.arrow(body, NOW)


def test_cut_and_mutated_streams_are_errors_and_no_more() -> None:
    kinds = {"event_type": pa.array(["watch"] * 3).dictionary_encode()}
    bodies = [stream(columns(**kinds)), stream(rows(watch(), beat()))]
    random_ = random.Random(1)
    for body in bodies * 400:
        broken = bytearray(body[: random_.choice([len(body), random_.randrange(len(body))])])
        for _ in range(random_.randrange(4)):
            if broken:
                broken[random_.randrange(len(broken))] = random_.choice([0, 1, 127, 128, 255])
        try:
            decoded = DECODER.arrow(bytes(broken), NOW)
        except ContractError:
            continue
        good = sum(table.num_rows for table in decoded.tables.values())
        assert good + len(decoded.rejected) == decoded.count
