"""Contracts for people and programs: tables, JSON, Avro, and the page of the documentation.

`python -m playhead.contracts.describe` writes the page `docs/contracts.md`.
"""

import io
import sys
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from rich.console import Console
from rich.table import Table

from playhead.contracts.base import LOG_COLUMN_DOCS, LOG_COLUMNS, Contract, Field, type_name
from playhead.contracts.event_time import HOUR_WEIGHTS
from playhead.contracts.registry import DIMENSIONS, TOPICS, avsc_text

Format = Literal["table", "avro", "json"]

_JSON = msgspec.json.Encoder(decimal_format="number")
_TEXT_WIDTH = 120


def describe(contract: Contract, format: Format) -> str:  # noqa: A002
    """A contract as text that ends with a newline.

    Args:
        contract: what to describe.
        format: "table" (plain text, 120 columns), "avro" (the `.avsc` file) or "json".
    """
    if format == "avro":
        return avsc_text(contract.name)
    if format == "json":
        return _json(as_dict(contract))
    return _plain(table(contract))


def describe_all(format: Format) -> str:  # noqa: A002
    """All contracts as text that ends with a newline: one row, or one list item, each."""
    if format == "avro":
        return _json([contract.avro for contract in _all()])
    if format == "json":
        return _json([as_dict(contract) for contract in _all()])
    return _plain(overview())


def as_dict(contract: Contract) -> dict[str, Any]:
    """A contract as plain values; topics have the log's own columns in `log_columns`."""
    described: dict[str, Any] = {
        "name": contract.name,
        "kind": contract.kind,
        "doc": contract.doc,
        "version": contract.version,
        "key": list(contract.key),
        "fields": [_field_dict(field) for field in contract.fields],
    }
    if contract.kind == "topic":
        described["log_columns"] = [_field_dict(field) for field in _log_fields()]
    return described


def table(contract: Contract) -> Table:
    """A contract as a table for the terminal."""
    drawn = Table(
        title=f"{contract.name} ({contract.kind}, version {contract.version})",
        caption=f"{contract.doc} Key: {', '.join(contract.key)}.",
        title_justify="left",
        caption_justify="left",
    )
    drawn.add_column("field", no_wrap=True, style="bold")
    drawn.add_column("type", no_wrap=True)
    drawn.add_column("required", no_wrap=True)
    drawn.add_column("meaning", ratio=1)
    for field in contract.fields:
        drawn.add_row(field.name, type_name(field.type), _required(field), _meaning(field))
    if contract.kind == "topic":
        drawn.add_section()
        for field in _log_fields():
            drawn.add_row(field.name, type_name(field.type), "by the log", field.doc)
    return drawn


def overview() -> Table:
    """All contracts as a table for the terminal."""
    drawn = Table()
    drawn.add_column("name", no_wrap=True, style="bold")
    drawn.add_column("kind", no_wrap=True)
    drawn.add_column("fields", justify="right")
    drawn.add_column("file", no_wrap=True)
    drawn.add_column("meaning", ratio=1)
    for contract in _all():
        fields = str(len(contract.fields))
        drawn.add_row(contract.name, contract.kind, fields, contract.file or "", contract.doc)
    return drawn


def markdown(contract: Contract) -> str:
    """A contract as a section of the documentation."""
    kind = "Topic" if contract.kind == "topic" else "Dimension"
    lines = [
        f"## {contract.name}",
        "",
        f"{contract.doc} {kind}, version {contract.version}; "
        f"{_origin(contract)}; key `{', '.join(contract.key)}`. "
        f"Cleaning drops a row without {_listed(contract.not_null)}.",
        "",
        "| field | type | required | meaning | column of the file |",
        "|---|---|---|---|---|",
        *(_markdown_row(field) for field in contract.fields),
    ]
    return "\n".join(lines) + "\n"


def _origin(contract: Contract) -> str:
    origin = f"from the file `{contract.file}`" if contract.file else "from live events alone"
    partitioned = contract.kind == "topic" and contract.partition_key != "user_id"
    return f"{origin}; partitioned by `{contract.partition_key}`" if partitioned else origin


def page() -> str:
    """The whole page `docs/contracts.md`."""
    return "\n".join([_INTRODUCTION, *(markdown(contract) for contract in _all())])


def _all() -> list[Contract]:
    return [*TOPICS.values(), *DIMENSIONS.values()]


def _log_fields() -> Iterable[Field]:
    for column in LOG_COLUMNS:
        yield Field(column.name, column.type, required=True, doc=LOG_COLUMN_DOCS[column.name])


def _field_dict(field: Field) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": field.name,
        "type": type_name(field.type),
        "required": field.required,
        "doc": field.doc,
    }
    extras = {"values": field.values, "minimum": field.minimum, "maximum": field.maximum}
    return described | {k: v for k, v in extras.items() if v is not None and v != ()}


def _required(field: Field) -> str:
    return "yes" if field.required else "no"


def _meaning(field: Field, quote: str = "") -> str:
    meaning = field.doc
    if field.values:
        meaning += f" One of {', '.join(f'{quote}{v}{quote}' for v in field.values)}."
    if field.minimum is not None and field.maximum is not None:
        meaning += f" Plausible: {field.minimum} to {field.maximum}."
    return meaning


def _markdown_row(field: Field) -> str:
    source = f"`{field.source}`" if field.source else "not in the file"
    if field.derived_from:
        source = f"made from {_listed(field.derived_from)}"
    cells = (f"`{field.name}`", type_name(field.type), _required(field), _meaning(field, "`"))
    return f"| {' | '.join(cells)} | {source} |"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _json(value: Any) -> str:
    return msgspec.json.format(_JSON.encode(value), indent=2).decode() + "\n"


def _plain(drawn: Table) -> str:
    text = io.StringIO()
    Console(file=text, width=_TEXT_WIDTH, no_color=True).print(drawn)
    return text.getvalue()


_INTRODUCTION = f"""# Contracts

A contract says what one topic's events, or one dimension's rows, look like. Each is one Avro
schema in `src/playhead/contracts/schemas/`; the Arrow schema, the JSON validator and this page
are made from it. `playhead contracts` lists them and `playhead contracts playback` explains one
(`--format json` and `--format avro` for programs).

- Topics hold events. All begin with the same envelope: `event_id`, `event_type`, `event_time`,
  `user_id`; those that a player or an app sends go on with `session_id`, `device_type`.
- An event belongs to the topic that takes its `event_type`; no two topics share one.
- Topics without a file of the data set get their events live, over HTTP.
- Dimensions hold one row per key, and events are enriched from them.

## What the event log adds

| column | type | meaning |
|---|---|---|
{chr(10).join(f"| `{f.name}` | {type_name(f.type)} | {f.doc} |" for f in _log_fields())}

## How an event is checked

- A field that is not in the contract is refused; so is a required one that is missing or null,
  and an empty text in a field that identifies something.
- Fields with a list of values take those and no other.
- "Plausible" bounds are never enforced: a value outside is counted in the quality report.
- Times are ISO 8601, such as `2025-03-05T20:14:33.482Z`. With a zone they are converted to UTC,
  without one they are taken as UTC; they are kept without a zone, in microseconds.
- A decimal may be a JSON number or text. It is read from its digits, never through a binary
  float; digits beyond the scale are rounded half up (2.345 is 2.35, -2.345 is -2.35).
- Bytes are base64 text in JSON. Half of a surrogate pair is refused, as no text can hold it.
- In a batch of events only the bad ones are refused, each with its place, its bytes and the
  reason.

Live events are held to a few things more, with limits that are settings (`[gateway]`):

- An `event_time` may be a little after the event's arrival and not too long before it.
- An event may carry `sent_at`, the time at which it was sent by the clock that its `event_time`
  is of. When that clock is wrong, `event_time` is moved by as much. It is not kept.
- A text or binary value may be only so long, and a body may hold only so many events.

## Event time of rows with only a date

The files of the data set date their rows to the day. Playhead gives each row a time of day made
from the MD5 of its `event_id`: the same on every run and on every machine. Of 200 rows, this many
fall in each hour (UTC):

| {" | ".join(f"{hour:02}" for hour in range(24))} |
|{"---|" * 24}
| {" | ".join(str(weight) for weight in HOUR_WEIGHTS)} |

So evenings are busiest, around 20:00, and 04:00 is the quietest hour. An impression's time falls
in its `time_of_day`: morning 06 to 12, afternoon 12 to 18, evening 18 to 22, night 22 to 24 and
00 to 06 of the same date. Sessions begin at made-up times; their dates are real.

## How a contract may change

Raise `version` with every change. A change is checked with
`playhead.contracts.evolution.compatible`, in Avro's three modes:

| mode | means | adding an optional field | adding an allowed value |
|---|---|---|---|
| BACKWARD | the new contract reads old events | yes | yes |
| FORWARD | the old contract reads new events | yes | no |
| FULL | both | yes | no |

Beyond Avro's rules, a decimal's precision and scale and a field's allowed values are compared.
"""


if __name__ == "__main__":
    sys.stdout.write(page())
