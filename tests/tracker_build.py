"""Makes the tracker as it is shipped, `playhead.js`, from its source, `playhead.src.js`.

Comments, indentation and needless spaces go, and names that never leave the source become
single letters. Lines stay, so that the places of errors in a browser do, too.
"""

import re
from pathlib import Path
from string import ascii_letters, digits

import playhead.client

FOLDER = Path(playhead.client.__file__).parent
SOURCE = FOLDER / "playhead.src.js"
SHIPPED = FOLDER / "playhead.js"
MOST_BYTES = 3_000

_HEADER = "// Playhead tracker, from playhead.src.js\n"
_LETTERS = [*ascii_letters, "$", "_", *(f"${digit}" for digit in digits)]
_LOCAL = [
    "unique",
    "type",
    "busy",
    "text",
    "fails",
    "keys",
    "key",
    "clock",
    "last",
    "send",
    "begun",
    "left",
    "listen",
    "later",
    "store",
    "told",
    "depth",
    "where",
    "path",
    "named",
    "over",
    "more",
    "tell",
    "iso",
    "since",
    "since2",
    "seen",
    "players",
    "batch",
    "fields",
    "touch",
    "url",
    "timer",
    "stop",
    "ids",
    "size",
    "script",
    "number",
    "beat",
    "from",
    "every",
    "abort",
    "target",
    "options",
    "jumped",
]


def shipped() -> str:
    """What `playhead.js` has to be."""
    text = re.sub(r"/\*.*?\*/|^\s*//[^\n]*", "", SOURCE.read_text("utf-8"), flags=re.S | re.M)
    used = set(re.findall(r"\b\w\b", text))
    free = [letter for letter in _LETTERS if letter not in used]
    letters = dict(zip(_LOCAL, free, strict=False))
    # Every second part is a string, which stays as it is.
    parts = re.split(r"('[^'\n]*')", text)
    parts[::2] = [_smaller(part, letters) for part in parts[::2]]
    lines = [line.strip() for line in "".join(parts).splitlines()]
    return _HEADER + "\n".join(line for line in lines if line) + "\n"


def _smaller(code: str, letters: dict[str, str]) -> str:
    for name, letter in letters.items():
        code = re.sub(rf"(?:(?<=\.\.\.)|(?<![\w.$])){name}(?![\w$]|:)", letter, code)
    return re.sub(r"[ \t]*([^\w\s$'`])[ \t]*", r"\1", code)


if __name__ == "__main__":
    SHIPPED.write_text(shipped(), encoding="utf-8")
