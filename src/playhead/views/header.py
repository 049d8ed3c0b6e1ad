"""The leading comment of a view file: what it is, whose, and what each column means.

-- What the view answers, in one or more lines.
-- owner: analytics
-- watermark: 10 minutes
-- column sessions: playback sessions that began in the window
"""

import re
from dataclasses import dataclass, field
from datetime import timedelta

from playhead.errors import ViewSyntaxError

DEFAULT_WATERMARK = timedelta(minutes=10)
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True)
class Header:
    """What a view's leading comment says; empty where it says nothing."""

    description: str = ""
    owner: str = ""
    watermark: timedelta = DEFAULT_WATERMARK
    columns: dict[str, str] = field(default_factory=dict)


def read_header(text: str) -> Header:
    """The header of a view's text.

    Raises:
        ViewSyntaxError: a `watermark:` that is no duration.
    """
    description: list[str] = []
    owner, watermark = "", DEFAULT_WATERMARK
    columns: dict[str, str] = {}
    column = ""
    for line in _comment_lines(text):
        if match := re.fullmatch(r"column\s+(\w+)\s*:\s*(.*)", line):
            column = match[1]
            columns[column] = match[2]
        elif match := re.fullmatch(r"(owner|watermark)\s*:\s*(.*)", line):
            column = ""
            if match[1] == "owner":
                owner = match[2]
            else:
                watermark = _duration(match[2])
        elif column and line:
            columns[column] += f" {line}"
        else:
            column = ""
            description.append(line)
    return Header("\n".join(description).strip(), owner, watermark, columns)


def _comment_lines(text: str) -> list[str]:
    lines = []
    for line in text.lstrip().splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return lines


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+)\s+(second|minute|hour|day)s?", text.strip())
    if match is None:
        raise ViewSyntaxError(f"watermark {text!r} is no duration", hint="Write: 10 minutes.")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
