"""What a query's process and the API say to each other, one message after the other.

The API sends a `Question`; the process answers with a `Head`, then pieces of the body, then an
empty message. A message "stop" ends the query under way.
"""

import msgspec

__all__ = ["STOP", "Column", "Failure", "Head", "Question"]

STOP = b"stop"


class Question(msgspec.Struct):
    """One query.

    Attributes:
        rows: no more than these.
        seconds: how long it may take.
        format: "json", "csv" or "arrow".
        text_numbers: DECIMALs and 64-bit integers as text.
    """

    sql: str
    rows: int
    seconds: float
    format: str
    text_numbers: bool = False


class Failure(msgspec.Struct):
    """Why there is no answer: the name of the error's class, and what it says."""

    kind: str
    message: str
    hint: str | None = None


class Column(msgspec.Struct):
    """One column of an answer."""

    name: str
    type: str


class Head(msgspec.Struct):
    """What comes before the body, or instead of it."""

    failure: Failure | None = None
    columns: list[Column] = []
    count: int = 0
    truncated: bool = False
