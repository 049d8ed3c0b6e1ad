"""SQL that can be read and copied: text with some words in colour, and never HTML."""

import json
import re
from html import escape

from nicegui import ui

__all__ = ["code_block", "highlighted"]

_PARTS = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?\*/)"
    r"|(?P<text>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
    r"|(?P<number>\b\d+(?:\.\d+)?\b)"
    r"|(?P<word>[A-Za-z_]\w*)",
    re.DOTALL,
)
_WORD_LIST = """
all and anti as asc between by case cast cross current desc distinct else end except exists
explain false filter following from full group having if ignore in inner intersect interval into
is join last lateral left like limit not null nulls offset on or order outer over partition
preceding qualify range right row rows select semi struct table then true unbounded union unnest
using values when where window with within"""
_WORDS = frozenset(_WORD_LIST.split())
_COPY = """() => {
  const text = %s;
  if (navigator.clipboard) { navigator.clipboard.writeText(text); return; }
  const area = document.createElement('textarea');
  area.value = text; document.body.append(area); area.select();
  document.execCommand('copy'); area.remove();
}"""


def code_block(sql: str) -> None:
    """SQL in colour, with a button that copies it."""
    with ui.element("div").classes("sql"):
        ui.html(highlighted(sql), sanitize=False, tag="pre").props('tabindex="0"')
        button = ui.button(icon="content_copy").props(
            'flat round dense size="sm" aria-label="Copy the SQL"'
        )
        button.classes("sql-copy").on("click", js_handler=_COPY % json.dumps(sql))
        button.on("click", lambda: ui.notify("Copied."))


def highlighted(sql: str) -> str:
    """SQL as HTML: everything of it escaped, with comments, words, texts and numbers marked."""
    made, at = [], 0
    for found in _PARTS.finditer(sql):
        kind, text = found.lastgroup, found.group()
        if kind != "word" or text.lower() in _WORDS:
            made += [escape(sql[at : found.start()]), f'<i class="{kind}">{escape(text)}</i>']
            at = found.end()
    return "".join(made) + escape(sql[at:])
