"""A field's text as its typed value, and what is wrong with a text that has none.

Everything here is SQL: an expression over the text of a source column, or over the typed fields.
"""

from collections.abc import Collection

import pyarrow as pa

from playhead.batch.sqltext import identifier, literal, type_sql
from playhead.contracts import Contract, Field

__all__ = ["date_field", "faults_sql", "text_name", "text_sql", "typed_name", "value_sql"]

_SHOWN_CHARACTERS = 60
_SANE = "{} BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59.999999'"
_WHOLE_NUMBER = r"\s*[+-]?[0-9]+(\.0*)?\s*"


def date_field(contract: Contract) -> Field | None:
    """The field that dates a row of a topic's file; None for a dimension."""
    if contract.kind == "dimension":
        return None
    return contract.field(contract.field("event_time").derived_from[1])


def text_name(source: str) -> str:
    """The quoted name under which a source column's text stands beside the typed fields."""
    return identifier(f"text of {source}")


def typed_name(source: str) -> str:
    """The quoted name under which a source column's own values stand, if they need no reading."""
    return identifier(f"typed {source}")


def text_sql(source: str, typed: Collection[str] = ()) -> str:
    """SQL of a source column's text; `typed` columns have values, whose text is seldom needed."""
    return f"{typed_name(source)}::VARCHAR" if source in typed else text_name(source)


def value_sql(field: Field, typed: Collection[str] = ()) -> str:
    """The typed value of a field's text; NULL where the text has no such value.

    Integers may be written with a zero fraction (`3.0`); decimals with more digits than the scale
    are rounded half up; a date may have a time of day of zero; a time with a zone becomes UTC.
    A column among `typed` gives its values as they are.
    """
    if field.source is None:
        constant = literal(field.values[0]) if len(field.values) == 1 and field.required else "NULL"
        return f"{constant}::{type_sql(field.type)}"
    if field.source in typed:
        return _within_calendar_sql(field.type, typed_name(field.source))
    text = text_name(field.source)
    if pa.types.is_string(field.type):
        return text
    if pa.types.is_boolean(field.type):
        return _boolean_sql(text)
    if pa.types.is_integer(field.type):
        return _integer_sql(text, type_sql(field.type))
    if pa.types.is_decimal(field.type):
        return _number_sql(text, type_sql(field.type))
    if pa.types.is_date(field.type):
        return _date_sql(text)
    return _within_calendar_sql(field.type, _time_sql(text))


def _boolean_sql(text: str) -> str:
    spelled = (
        f"CASE lower({text}) WHEN 'true' THEN true WHEN 'false' THEN false "
        "WHEN '1' THEN true WHEN '0' THEN false END"
    )
    return f"CASE {text} WHEN 'True' THEN true WHEN 'False' THEN false ELSE {spelled} END"


def _integer_sql(text: str, type_: str) -> str:
    """A pattern is matched only where the number is not written as DuckDB would write it."""
    number = f"TRY_CAST({text} AS {type_})"
    whole = f"regexp_full_match({text}, {literal(_WHOLE_NUMBER)})"
    return f"CASE WHEN {number}::VARCHAR = {text} OR {whole} THEN {number} END"


def _time_sql(text: str) -> str:
    """DuckDB reads a time without a zone in the zone that an earlier row of its vector names, and
    takes ten times as long for a zone: texts without one are told apart, or get UTC's."""
    plain = f"TRY_CAST({text} AS TIMESTAMP)"
    in_utc, zoned = f"TRY_CAST({text} || ' UTC' AS TIMESTAMPTZ)", f"TRY_CAST({text} AS TIMESTAMPTZ)"
    return (
        f"CASE WHEN {plain}::VARCHAR = {text} THEN {plain} "
        f"ELSE coalesce({in_utc}, {zoned}) AT TIME ZONE 'UTC' END"
    )


def _date_sql(text: str) -> str:
    plain, time = f"TRY_CAST({text} AS DATE)", _time_sql(text)
    midnight = f"{_SANE.format(time)} AND {time} = date_trunc('day', {time})"
    return (
        f"CASE WHEN strlen({text}) = 10 AND {plain}::VARCHAR = {text} THEN {plain} "
        f"WHEN {midnight} THEN {time}::DATE END"
    )


def _within_calendar_sql(kind: pa.DataType, value: str) -> str:
    """A value; NULL for a time outside the years 1 to 9999, which Arrow and Python do not share."""
    if pa.types.is_date(kind):
        sane = f"{value} BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'"
    elif pa.types.is_timestamp(kind):
        sane = _SANE.format(value)
    else:
        return value
    return f"CASE WHEN {sane} THEN {value} END"


def faults_sql(contract: Contract, typed: Collection[str] = ()) -> str:
    """What is wrong with a row: a list of (column, kind, reason), or NULL where nothing is.

    The kinds are `structure`, `type`, `enum` and `missing`.
    """
    checks = [("_reject IS NOT NULL", _fault_sql("", "structure", "_reject"))]
    for field in contract.fields:
        checks += _checks(contract, field, typed)
    wrong = " OR ".join(f"({condition})" for condition, _ in checks)
    named = ", ".join(f"CASE WHEN {condition} THEN {fault} END" for condition, fault in checks)
    return f"CASE WHEN {wrong} THEN list_filter([{named}], fault -> fault IS NOT NULL) END"


def _checks(contract: Contract, field: Field, typed: Collection[str]) -> list[tuple[str, str]]:
    """Pairs of a condition that is true for a faulty row, and the fault."""
    if field.source is None:
        return []
    text, value = text_sql(field.source, typed), identifier(field.name)
    given = typed_name(field.source) if field.source in typed else text
    checks = []
    if not pa.types.is_string(field.type):
        reason = _quoting(field, text, _type_reason_sql(field, text))
        fault = _fault_sql(field.source, "type", reason)
        checks.append((f"{given} IS NOT NULL AND {value} IS NULL", fault))
    if field.values:
        allowed = ", ".join(literal(v) for v in field.values)
        reason = _quoting(field, text, literal(f"is none of {', '.join(field.values)}"))
        checks.append((f"{value} NOT IN ({allowed})", _fault_sql(field.source, "enum", reason)))
    if field == date_field(contract):
        reason = literal(f"{field.source} is empty, and an event needs a time")
        checks.append((f"{given} IS NULL", _fault_sql(field.source, "missing", reason)))
    elif field.required and field.name not in {*contract.not_null, *contract.key}:
        reason = literal(f"{field.source} is empty")
        checks.append((f"{given} IS NULL", _fault_sql(field.source, "missing", reason)))
    return [(f"_reject IS NULL AND {condition}", fault) for condition, fault in checks]


def _fault_sql(column: str, kind: str, reason: str) -> str:
    return (
        f"{{'column': nullif({literal(column)}, ''), 'kind': {literal(kind)}, 'reason': {reason}}}"
    )


def _quoting(field: Field, text: str, reason: str) -> str:
    source = field.source or field.name
    shown = f"left({text}, {_SHOWN_CHARACTERS})"
    return f"concat({literal(source)}, ' ''', {shown}, ''' ', {reason})"


def _type_reason_sql(field: Field, text: str) -> str:
    if pa.types.is_boolean(field.type):
        return literal("is no boolean (True or False)")
    if pa.types.is_date(field.type):
        return literal("is no date (YYYY-MM-DD)")
    if pa.types.is_timestamp(field.type):
        return literal("is no time (YYYY-MM-DD HH:MM:SS)")
    outside = literal(f"is outside {type_sql(field.type)}")
    fraction = ""
    if pa.types.is_integer(field.type):
        whole = f"regexp_full_match({text}, {literal(_WHOLE_NUMBER)})"
        fraction = f"WHEN NOT {whole} THEN 'is no whole number' "
    finite = f"coalesce(isfinite({_number_sql(text, 'DOUBLE')}), false)"
    return f"CASE WHEN NOT {finite} THEN 'is no number' {fraction}ELSE {outside} END"


def _number_sql(text: str, type_: str) -> str:
    """DuckDB takes `1_000` for a number; nobody who wrote a file meant that."""
    return f"CASE WHEN NOT contains({text}, '_') THEN TRY_CAST({text} AS {type_}) END"
