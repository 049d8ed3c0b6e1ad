"""What a setting may be, as fields of the dataclasses of settings."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from playhead.config.address import Address

_BROKER = re.compile(r"[A-Za-z0-9._-]+:\d{1,5}|\[[0-9A-Fa-f:.]+\]:\d{1,5}")
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,40}")


@dataclass(frozen=True)
class Kind:
    """What a setting may be.

    Attributes:
        wanted: in words, for "... is no {wanted}".
        read: the value as the setting's type, from TOML or from text; None if it is none.
    """

    wanted: str
    read: Callable[[Any], Any]


def whole(default: int, *, least: int = 1, most: int | None = None) -> Any:
    """A whole number within [least, most]."""

    def read(value: Any) -> int | None:
        if isinstance(value, (bool, float)):
            return None
        try:
            found = int(value)
        except (TypeError, ValueError):
            return None
        return found if least <= found <= (found if most is None else most) else None

    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    return setting(default, Kind(f"whole number {bounds}", read))


def number(default: float, *, most: float = math.inf) -> Any:
    """A number within [0, most]."""

    def read(value: Any) -> float | None:
        if isinstance(value, bool):
            return None
        try:
            found = float(value)
        except (TypeError, ValueError):
            return None
        return found if 0 <= found <= most and math.isfinite(found) else None

    bounds = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
    return setting(default, Kind(f"number {bounds}", read))


def percent(default: float) -> Any:
    """A number within [0, 100]."""
    return number(default, most=100)


_MEMORY = re.compile(r"\d+(\.\d+)?\s*([KMGT]i?)?B", re.IGNORECASE)


def memory(default: str) -> Any:
    """An amount of memory as DuckDB writes it."""

    def read(value: Any) -> str | None:
        is_size = isinstance(value, str) and _MEMORY.fullmatch(value.strip())
        return value.strip() if is_size else None

    return setting(default, Kind('amount of memory, such as "4GB"', read))


def address(default: str, *, optional: bool = False) -> Any:
    """Where a part listens; empty, where that is allowed: it does not run."""

    def read(value: Any) -> str | None:
        if optional and value == "":
            return ""
        return str(Address.parse(value)) if isinstance(value, str) else None

    wanted = 'address with a port, such as "127.0.0.1:8600" or "[::1]:8600"'
    return setting(default, Kind(wanted, read))


def text(default: str, wanted: str) -> Any:
    """A text that is not empty."""

    def read(value: Any) -> str | None:
        return value.strip() or None if isinstance(value, str) else None

    return setting(default, Kind(wanted, read))


def choice(default: str, *others: str) -> Any:
    """One of a few words."""
    known = (default, *others)

    def read(value: Any) -> str | None:
        found = value.strip().lower() if isinstance(value, str) else None
        return found if found in known else None

    return setting(default, Kind(" or ".join(f'"{word}"' for word in known), read))


def brokers(default: str) -> Any:
    """Addresses of Kafka brokers with commas between them; empty: none."""

    def read(value: Any) -> str | None:
        if not isinstance(value, str):
            return None
        parts = [part.strip() for part in value.split(",")] if value.strip() else []
        return ",".join(parts) if all(map(_BROKER.fullmatch, parts)) else None

    wanted = 'list of brokers, such as "kafka-1:9092,kafka-2:9092"'
    return setting(default, Kind(wanted, read))


def topic_prefix(default: str) -> Any:
    """What the names of topics at brokers begin with; may be empty."""

    def read(value: Any) -> str | None:
        return value if isinstance(value, str) and _PREFIX.fullmatch(value) else None

    return setting(default, Kind("prefix of at most 40 of the characters a-z A-Z 0-9 . _ -", read))


def place(schemes: tuple[str, ...], wanted: str) -> Any:
    """An address with one of some schemes, and without a password; empty: none."""

    def read(value: Any) -> str | None:
        if not isinstance(value, str):
            return None
        scheme, separator, rest = value.strip().partition("://")
        user, _, host = rest.rpartition("@")
        is_place = separator and scheme in schemes and host and ":" not in user
        return value.strip() if is_place or not value.strip() else None

    return setting("", Kind(wanted, read))


def path(default: str) -> Any:
    """A file, relative to the workspace; empty: none."""

    def read(value: Any) -> str | None:
        return value.strip() if isinstance(value, str) else None

    return setting(default, Kind("path of a file", read))


def texts(default: tuple[str, ...], what: str, between: str) -> Any:
    """Several texts: a list in TOML; in the environment, text with `between` them."""

    def read(value: Any) -> tuple[str, ...] | None:
        parts = value.split(between) if isinstance(value, str) else value
        if isinstance(parts, list) and all(isinstance(part, str) for part in parts):
            return tuple(part.strip() for part in parts if part.strip())
        return None

    return setting(default, Kind(f"list of {what}", read))


def origins() -> Any:
    """Web origins whose pages may call a part."""
    listed = texts((), "", ",").metadata["kind"]

    def read(value: Any) -> tuple[str, ...] | None:
        found: tuple[str, ...] | None = listed.read(value)
        if found is None or not all(o == "*" or _ORIGIN.fullmatch(o) for o in found):
            return None
        return found

    wanted = 'list of origins, such as ["https://example.org"] or ["*"]'
    return setting((), Kind(wanted, read))


_ORIGIN = re.compile(r"https?://[^/\s,]+", re.IGNORECASE)


def setting(default: Any, kind: Kind) -> Any:
    """A dataclass's field that knows its kind, as `metadata["kind"]`."""
    return field(default=default, metadata={"kind": kind})
