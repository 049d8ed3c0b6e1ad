"""Dead letters: refused events as rows of their topic, and the classes of their reasons."""

import re
import uuid
from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa

from playhead.contracts import Contract, contract
from playhead.contracts.mixed import Refused

TOPIC = "dead_letters"

CLASSES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("event_type", re.compile(r"^event_type")),
    ("event_time", re.compile(r"^event_time: .* (before|after) it was received")),
    ("too_large", re.compile(r"bytes, and at most")),
    ("missing_field", re.compile(r"missing required field|is missing|is null")),
    ("unknown_field", re.compile(r"unknown field|unknown column")),
    ("malformed", re.compile(r"malformed|utf-8|truncated|no JSON|surrogate|trailing", re.I)),
    ("value", re.compile(r"allowed:|is not one of|out of range|is empty|length|>=|<=", re.I)),
    ("type", re.compile(r"expected|invalid|does not become|is no ", re.I)),
)
"""Classes of reasons, in the order in which they are tried; the rest is "other"."""


def reason_class(reason: str) -> str:
    """The class of a reason: one of few words, safe to be a label of a metric."""
    return next((name for name, pattern in CLASSES if pattern.search(reason)), "other")


def letters(
    refused: Sequence[Refused],
    received: datetime,
    key_id: str | None,
    sent_at: datetime | None = None,
) -> pa.Table:
    """Refused events as rows of the `dead_letters` contract, one each, in their order.

    Args:
        received: when their body came, naive UTC.
        key_id: of the key that it came with.
        sent_at: when it was sent by its sender's clock, if that was said beside it.
    """
    form: Contract = contract(TOPIC)
    count = len(refused)
    ids = [uuid.uuid4().hex for _ in refused]
    columns = {
        "event_id": ids,
        "event_type": ["rejected"] * count,
        "event_time": [received] * count,
        "user_id": [None] * count,
        "letter_id": ids,
        "topic": [one.topic for one in refused],
        "contract_version": [one.version for one in refused],
        "reason": [one.reason for one in refused],
        "index": [one.index for one in refused],
        "key_id": [key_id] * count,
        "sent_at": [sent_at] * count,
        "body": [one.raw for one in refused],
    }
    arrays = [pa.array(columns[field.name], field.type) for field in form.schema]
    return pa.Table.from_arrays(arrays, schema=form.schema)
