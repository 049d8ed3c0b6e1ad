"""Reads the `.avsc` files: the single source of every contract."""

import difflib
import json
from collections.abc import Mapping
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pyarrow as pa

from playhead.contracts.base import Contract, Field
from playhead.errors import ContractError, UnknownTopicError

_TOPIC_NAMES = (
    *("playback", "search", "impression", "rating"),
    *("heartbeat", "interaction", "telemetry", "catalog", "account"),
    "dead_letters",
)
_NAMES = (*_TOPIC_NAMES, "users", "movies")

_PLAIN_TYPES: Mapping[Any, pa.DataType] = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "bytes": pa.binary(),
}
_LOGICAL_TYPES: Mapping[tuple[str, str], pa.DataType] = {
    ("int", "date"): pa.date32(),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
}


def avsc_text(name: str) -> str:
    """The text of a contract's `.avsc` file, as it is in the package."""
    path = files("playhead.contracts") / "schemas" / f"{name}.avsc"
    return path.read_text(encoding="utf-8")


def parse(avro: dict[str, Any]) -> Contract:
    """A contract from a parsed `.avsc`: an Avro record with Playhead's extra properties.

    On the record: `kind`, `key`, `not_null`, `version`, and perhaps `file` and
    `partition_key`. On a field: `values`, `minimum`, `maximum`, `source`, `derived_from`,
    `not_empty`. Enums are strings with `values`, because
    Avro's own symbols may hold no space, sign or leading digit.

    Raises:
        ContractError: a property is missing, or a field's type is not supported.
    """
    try:
        identities = {*avro["key"], *avro["not_null"]}
        return Contract(
            name=avro["name"],
            kind=avro["kind"],
            doc=avro["doc"],
            fields=tuple(_field(avro["name"], f, identities) for f in avro["fields"]),
            key=tuple(avro["key"]),
            file=avro.get("file"),
            not_null=tuple(avro["not_null"]),
            avro=avro,
            version=avro["version"],
            partition_key=avro.get("partition_key", "user_id"),
        )
    except KeyError as error:
        raise ContractError(
            f"{avro.get('name', 'a contract')}.avsc: property {error} is missing",
            hint="playback.avsc shows every property that a contract has",
        ) from None


def _field(record: str, avro: Mapping[str, Any], identities: set[str]) -> Field:
    type_, optional = _unwrap(avro["type"])
    arrow = _arrow_type(type_)
    if arrow is None:
        raise ContractError(
            f"{record}.avsc: field {avro['name']!r} has type {json.dumps(type_)}, "
            "which no contract may use",
            hint="use string, bytes, boolean, int, long, decimal, date or local-timestamp-micros: "
            "sums of floating-point numbers depend on their order",
        )
    return Field(
        name=avro["name"],
        type=arrow,
        required=not optional,
        doc=avro["doc"],
        values=tuple(avro.get("values", ())),
        minimum=_number(avro.get("minimum")),
        maximum=_number(avro.get("maximum")),
        source=avro.get("source"),
        derived_from=tuple(avro.get("derived_from", ())),
        not_empty=(avro["name"] in identities or avro.get("not_empty", False))
        and pa.types.is_string(arrow),
    )


def _unwrap(type_: Any) -> tuple[Any, bool]:
    """A field's type without its null branch, and whether it had one."""
    if isinstance(type_, list) and len(type_) == 2 and type_[0] == "null":
        return type_[1], True
    return type_, False


def _arrow_type(type_: Any) -> pa.DataType | None:
    if isinstance(type_, str):
        return _PLAIN_TYPES.get(type_)
    if not isinstance(type_, dict):
        return None
    if type_.get("logicalType") == "decimal" and type_["type"] == "bytes":
        return pa.decimal128(type_["precision"], type_["scale"])
    return _LOGICAL_TYPES.get((str(type_["type"]), str(type_.get("logicalType"))))


def _number(value: int | float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))


_CONTRACTS: dict[str, Contract] = {name: parse(json.loads(avsc_text(name))) for name in _NAMES}

TOPICS: dict[str, Contract] = {n: c for n, c in _CONTRACTS.items() if c.kind == "topic"}
DIMENSIONS: dict[str, Contract] = {n: c for n, c in _CONTRACTS.items() if c.kind == "dimension"}

FILES: dict[str, Contract] = {
    c.file: c for c in [*DIMENSIONS.values(), *TOPICS.values()] if c.file is not None
}
"""What the data set has a file of, by the file's name without its ending; dimensions first."""


def contract(name: str) -> Contract:
    """The contract of a topic or dimension.

    Raises:
        UnknownTopicError: no topic or dimension has this name.
    """
    try:
        return _CONTRACTS[name]
    except KeyError:
        near = difflib.get_close_matches(name, _NAMES, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownTopicError(
            f"no topic or dimension {name!r}",
            hint=f"{guess}topics: {', '.join(TOPICS)}; dimensions: {', '.join(DIMENSIONS)}",
        ) from None
