"""Whatever is sent is accepted, or in the dead letters, or refused as a whole: never a 500."""

import gzip
import http.client
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import schemathesis
import zstandard
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from gateway_events import Raw, body_of, log_of, page_view, watch
from playhead.contracts import TOPICS
from playhead.contracts.base import Contract, type_name
from playhead.eventlog import EventLog
from playhead.gateway import Serving, serving

MEDIA_TYPES = (
    "application/json",
    "application/x-ndjson",
    "text/plain",
    "application/vnd.apache.arrow.stream",
)

# Hypothesis remembers what it tried: many short runs need less memory than one long one.
FUZZ_AT_ONCE = 2_000

# The same in every example: Hypothesis compares runs of equal draws.
GOOD = [watch(), page_view()]
ZSTD = zstandard.ZstdCompressor()


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Good events, of which some bytes are changed, cut out or put in."""
    events = [draw(st.sampled_from(GOOD)) for _ in range(draw(st.integers(1, 4)))]
    lines = b"\n".join(json.dumps(event).encode() for event in events)
    body = bytearray(draw(st.sampled_from([body_of(*events), lines])))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 20))] = draw(st.binary(max_size=12))
    return bytes(body)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.datetimes().map(lambda time: f"{time.isoformat()}Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@st.composite
def odd_events(draw: st.DrawFn) -> bytes:
    """Good events in which some fields have any values at all."""
    events = [dict(draw(st.sampled_from(GOOD))) for _ in range(draw(st.integers(1, 4)))]
    for event in events:
        names = st.sampled_from([*event, "watch_duration_minutes", "user_rating", "odd"])
        event |= draw(st.dictionaries(names, JSON_VALUES, max_size=2))
    return body_of(*events)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """An Arrow stream of good events, of which some bytes are changed."""
    table = pa.Table.from_pylist(GOOD)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    body = bytearray(sink.getvalue().to_pybytes())
    for _ in range(draw(st.integers(0, 3))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body)


@st.composite
def packed(draw: st.DrawFn) -> tuple[bytes, str]:
    """Any body, as it is or compressed, whole or not; and the encoding it is said to have."""
    body = draw(st.one_of(bodies(), odd_events(), streams(), st.binary(max_size=200)))
    encoding = draw(
        st.sampled_from(["identity", "identity", "identity", "gzip", "deflate", "zstd"])
    )
    if draw(st.integers(0, 9)):
        pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": ZSTD.compress}
        body = pack.get(encoding, bytes)(body)
    cut = draw(st.integers(0, 40))
    return (body[:-cut] if 0 < cut < 4 else body), encoding


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Path]]:
    folder = tmp_path_factory.mktemp("fuzz")
    with serving(folder) as running:
        yield running, folder


def counted(log: EventLog) -> int:
    """Events and dead letters in the log."""
    return sum(sum(log.end_offsets(topic).values()) for topic in log.topics())


class Sender:
    """Posts bodies over one connection and compares each answer with what is in the log."""

    def __init__(self, port: int, log: EventLog) -> None:
        self._log = log
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def check(self, body: bytes, media_type: str, encoding: str) -> int:
        """Every event of a body that can be read is in the log, or its letter is; else nothing.

        Returns the answer's status.
        """
        before = counted(self._log)
        headers = {"Content-Type": media_type, "Content-Encoding": encoding}
        self._connection.request("POST", "/v1/events", body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        assert_all_kept(answer.status, content, counted(self._log) - before)
        return answer.status

    def close(self) -> None:
        self._connection.close()


def assert_all_kept(status: int, content: bytes, kept: int) -> None:
    """An answer tells of as many events as the log grew by."""
    assert status in (202, 400, 413), content
    told = json.loads(content)
    assert kept == (told["accepted"] + len(told["rejected"]) if status == 202 else 0)


@given(body=packed(), media_type=st.sampled_from(MEDIA_TYPES))
def test_every_event_is_accepted_or_in_the_dead_letters(
    gateway: tuple[Serving, Path], body: tuple[bytes, str], media_type: str
) -> None:
    running, folder = gateway
    with log_of(folder) as log:
        sender = Sender(running.address.port, log)
        sender.check(body[0], media_type, body[1])
        sender.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_bodies(gateway: tuple[Serving, Path]) -> None:
    """The same for 100,000 (or as many as PLAYHEAD_FUZZ_BODIES says), over one connection."""
    running, folder = gateway
    most = int(os.environ.get("PLAYHEAD_FUZZ_BODIES", "100000"))
    seen: Counter[int] = Counter()
    with log_of(folder) as log:
        sender = Sender(running.address.port, log)

        @given(body=packed(), media_type=st.sampled_from(MEDIA_TYPES))
        @settings(
            max_examples=FUZZ_AT_ONCE,
            phases=[Phase.generate, Phase.shrink],
            database=None,
            derandomize=False,
        )
        def fuzz(body: tuple[bytes, str], media_type: str) -> None:
            seen[sender.check(body[0], media_type, body[1])] += 1

        while seen.total() < most:
            fuzz()
        sender.close()
    assert seen[202] > most / 10
    assert seen[400] > most / 10
    assert httpx.get(f"{running.url}/readyz").status_code == 200


def described() -> dict[str, Any]:
    """POST /v1/events as OpenAPI has it, made of the contracts."""
    events = [_event(contract) for name, contract in TOPICS.items() if name != "dead_letters"]
    schema = {"type": "array", "maxItems": 5, "items": {"anyOf": events}}
    operation = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"202": {"description": "Durable."}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "gateway", "version": "1"},
        "paths": {"/v1/events": {"post": operation}},
    }


def _event(contract: Contract) -> dict[str, Any]:
    kinds = {"boolean": "boolean", "int32": "integer", "int64": "integer"}
    properties: dict[str, Any] = {}
    for field in contract.fields:
        name = type_name(field.type)
        kind = "number" if name.startswith("decimal") else kinds.get(name, "string")
        told: dict[str, Any] = {"type": kind}
        if field.values:
            told["enum"] = list(field.values)
        elif name in ("date", "timestamp"):
            told["format"] = {"date": "date", "timestamp": "date-time"}[name]
        properties[field.name] = told
    required = [field.name for field in contract.fields if field.required]
    return {"type": "object", "properties": properties, "required": required}


@pytest.mark.parametrize("examples", [25, pytest.param(1_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(3600)
def test_requests_by_the_description_and_against_it(
    gateway: tuple[Serving, Path], examples: int
) -> None:
    running, folder = gateway
    (found,) = schemathesis.openapi.from_dict(described()).get_all_operations()
    operation: Any = found.ok()  # type: ignore[union-attr]
    with log_of(folder) as log:
        for mode in GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
            def check(case: Any) -> None:
                before = counted(log)
                answer = case.call(base_url=running.url, timeout=60)
                assert answer.status_code < 500, answer.text
                if answer.status_code in (202, 400, 413):
                    kept = counted(log) - before
                    assert_all_kept(answer.status_code, answer.content, kept)

            check()


@given(head=st.binary(max_size=300))
def test_any_bytes_on_a_connection_end_in_an_answer(
    gateway: tuple[Serving, Path], head: bytes
) -> None:
    running, _ = gateway
    with Raw(running.address.port) as raw:
        raw.send(head + b"\r\n\r\n\r\n\r\n")
        raw.socket.shutdown(1)
        status, _, _ = raw.answer()
    assert status in (0, 400, 404, 405, 411, 415, 431)
