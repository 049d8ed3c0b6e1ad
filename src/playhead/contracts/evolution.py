"""Schema evolution: may readers of one version of a contract read events of another?

Avro's own resolution rules are Apache Avro's checker. It does not see what Avro treats as
annotation, so decimals' digits, dates and times, and lists of values are compared here too.
"""

import json
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from playhead.errors import ContractError

Mode = Literal["BACKWARD", "FORWARD", "FULL"]
Avsc = Mapping[str, Any] | str

_MODES = ("BACKWARD", "FORWARD", "FULL")
_LOGICAL = ("logicalType", "precision", "scale")


def compatible(reader_avsc: Avsc, writer_avsc: Avsc, mode: Mode = "FULL") -> list[str]:
    """Why the reader's schema (the new one) does not go with the writer's (the old one).

    Args:
        reader_avsc: the new schema, parsed or as the text of an `.avsc`.
        writer_avsc: the old schema, likewise.
        mode: BACKWARD, new readers read old events; FORWARD, old readers read new events;
            FULL, both.

    Returns:
        The reasons, each naming its direction and its place; empty when compatible.

    Raises:
        ContractError: a schema is no Avro record, the mode is unknown, or the package `avro`
            is not installed.
    """
    if mode not in _MODES:
        raise ContractError(f"unknown mode {mode!r}", hint=f"one of {', '.join(_MODES)}")
    new, old = _parsed(reader_avsc), _parsed(writer_avsc)
    reasons = []
    if mode in ("BACKWARD", "FULL"):
        reasons += [f"new reads old: {reason}" for reason in _reads(new, old)]
    if mode in ("FORWARD", "FULL"):
        reasons += [f"old reads new: {reason}" for reason in _reads(old, new)]
    return reasons


def _parsed(avsc: Avsc) -> Mapping[str, Any]:
    try:
        parsed = json.loads(avsc) if isinstance(avsc, str) else avsc
    except json.JSONDecodeError as error:
        raise ContractError(f"the schema is no JSON: {error}") from None
    if not isinstance(parsed, Mapping) or parsed.get("type") != "record":
        raise ContractError("the schema is no Avro record", hint='its "type" must be "record"')
    return parsed


def _reads(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> Iterator[str]:
    yield from _avro_reasons(reader, writer)
    written = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        if field["name"] in written:
            yield from _annotation_reasons(field, written[field["name"]])


def _avro_reasons(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> list[str]:
    try:
        from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
        from avro.errors import AvroException
        from avro.schema import parse
    except ImportError:
        raise ContractError(
            "comparing schemas needs the package `avro`", hint="pip install 'avro>=1.12'"
        ) from None
    try:
        with warnings.catch_warnings():
            # Logical types that the package does not know are compared by `_annotation_reasons`.
            warnings.simplefilter("ignore")
            schemas = parse(json.dumps(reader)), parse(json.dumps(writer))
    except AvroException as error:
        raise ContractError(f"the schema is no valid Avro: {error}") from None
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(*schemas)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    names = {field["name"] for field in reader["fields"]}
    return [_sentence(message, names) for message in sorted(result.messages)]


def _sentence(message: str, names: Collection[str]) -> str:
    """The checker's message; for a field without a default it is only the field's name."""
    if message in names:
        return f"field {message!r} is not written, and the reader has no default for it"
    return message


def _annotation_reasons(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> Iterator[str]:
    name = reader["name"]
    read, wrote = _logical(reader["type"]), _logical(writer["type"])
    if read != wrote:
        yield f"field {name!r} is read as {_shown(read)} and was written as {_shown(wrote)}"
    values = set(reader.get("values", ()))
    unknown = [v for v in writer.get("values", ()) if v not in values]
    if values and unknown:
        yield f"field {name!r} may hold {', '.join(map(repr, unknown))}, unknown to the reader"
    if values and not writer.get("values"):
        yield f"field {name!r} may hold any text, and the reader takes only its list of values"


def _logical(type_: Any) -> tuple[Any, ...]:
    """A type's logical name, precision and scale, looking through an optional field's union."""
    branches = type_ if isinstance(type_, list) else [type_]
    named = next((b for b in branches if isinstance(b, dict)), {})
    return tuple(named.get(key) for key in _LOGICAL)


def _shown(logical: tuple[Any, ...]) -> str:
    name, precision, scale = logical
    return f"decimal({precision},{scale})" if name == "decimal" else str(name or "plain")
