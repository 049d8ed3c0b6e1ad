"""The flow of events as a card: a picture whose texts and arrows change in place."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nicegui import ui

from playhead.dashboard.drawing.cards import Card
from playhead.dashboard.drawing.texts import slug
from playhead.dashboard.pages.platform.flowpicture import (
    Facts,
    changes,
    facts,
    flow_svg,
    flow_words,
)
from playhead.dashboard.questions import Look, Reply

if TYPE_CHECKING:
    from playhead.dashboard.page import Page

__all__ = ["FlowCard"]


def picture(replies: Sequence[Reply]) -> Facts:
    flow, state = replies
    return facts(flow.value, state.value)


class FlowCard(Card):
    """The flow as a picture.

    Args:
        asked: a look at the flow, and one at the platform's parts.
    """

    def __init__(self, page: "Page", asked: Sequence[Look]) -> None:
        self._known: Facts = {}
        self._picture: ui.html | None = None
        super().__init__(
            page,
            "Flow of events",
            asked,
            width=12,
            about="Rates are the mean of the last ten seconds; of what goes into the lake by the "
            "epoch, of the last minutes. Moving arrows carry events, the faster the more; each "
            "speed is ten times the one before.",
        )

    def _make(self, replies: Sequence[Reply]) -> None:
        self._known = self._page.board.drawn(picture, replies)
        # What is not of this picture itself was escaped.
        self._picture = ui.html(
            f'<div class="flow-scroll" tabindex="0">{flow_svg(self._known)}</div>'
            f'<details class="flow-details"><summary>The same in words</summary>'
            f"{flow_words(self._known)}</details>",
            sanitize=False,
        ).classes("flow-box")

    def _draw(self, replies: Sequence[Reply]) -> None:
        now: Facts = self._page.board.drawn(picture, replies)
        changed = dict(changes(self._known, now))
        self._known = now
        if changed and self._picture is not None:
            self._page.client.run_javascript(_TELL % (self._picture.id, json.dumps(changed)))

    def _acts(self) -> list[tuple[str, str, Any]]:
        return [*super()._acts(), ("Save as PNG", "image", self._save_png)]

    def _save_png(self) -> None:
        if self._picture is not None:
            name = json.dumps(f"{slug(self._title)}.png")
            ui.run_javascript(_PNG % (self._picture.id, name))


_TELL = """
const root = getHtmlElement(%d);
for (const [key, value] of Object.entries(%s)) {
  const kind = key[0], name = CSS.escape(key.slice(2));
  for (const part of root?.querySelectorAll(`[data-${kind}="${name}"]`) ?? []) {
    if (kind === 't') part.textContent = value; else part.setAttribute('class', value);
  }
}
"""
_PNG = """
const drawn = getHtmlElement(%d).querySelector('svg'), copy = drawn.cloneNode(true);
const kept = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'font-size', 'font-weight',
  'font-family', 'text-anchor', 'opacity'];
const parts = copy.querySelectorAll('*');
drawn.querySelectorAll('*').forEach((part, n) => {
  const style = getComputedStyle(part);
  parts[n].setAttribute('style', kept.map(k => k + ':' + style.getPropertyValue(k)).join(';'));
});
const {width, height} = drawn.viewBox.baseVal, image = new Image();
copy.setAttribute('width', width); copy.setAttribute('height', height);
const ground = getComputedStyle(document.body).getPropertyValue('--card').trim();
image.onload = () => {
  const canvas = document.createElement('canvas'), pen = canvas.getContext('2d');
  canvas.width = 2 * width; canvas.height = 2 * height;
  pen.fillStyle = ground; pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  const link = document.createElement('a');
  link.href = canvas.toDataURL('image/png'); link.download = %s; link.click();
};
image.src = 'data:image/svg+xml;charset=utf-8,'
  + encodeURIComponent(new XMLSerializer().serializeToString(copy));
"""
