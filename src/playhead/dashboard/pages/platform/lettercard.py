"""Dead letters as a card: by reason, with examples on demand."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nicegui import ui

from playhead.dashboard.drawing.cards import TableCard
from playhead.dashboard.drawing.dialogs import dialog
from playhead.dashboard.drawing.parts import Unit
from playhead.dashboard.drawing.tables import Column
from playhead.dashboard.numbers import size
from playhead.dashboard.questions import Look, Reply
from playhead.ops.refused import LetterExample, LettersSummary

if TYPE_CHECKING:
    from playhead.dashboard.page import Page

__all__ = ["LettersCard", "letter_rows", "letters_lead"]

_COUNT = Unit()
_REASONS = (Column("reason", "Reason"), Column("topic", "Meant for"),
            Column("letters", "Letters", _COUNT),
            Column("recovered", "Recovered", _COUNT, "Put right and sent again."),
            Column("first", "First (UTC)", is_whole=True),
            Column("last", "Last (UTC)", is_whole=True))  # fmt: skip


def letter_rows(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    found: LettersSummary = replies[0].value
    return [
        {
            "id": place,
            "reason": one.reason,
            "topic": one.topic or "(unknown)",
            "letters": one.letters,
            "recovered": one.recovered,
            "first": f"{one.first:%Y-%m-%d %H:%M:%S}",
            "last": f"{one.last:%Y-%m-%d %H:%M:%S}",
        }
        for place, one in enumerate(found.reasons)
    ]


def letters_lead(replies: Sequence[Reply]) -> str:
    found: LettersSummary = replies[0].value
    text = f"{found.letters:,} letters, of which {found.recovered:,} were recovered."
    if not found.is_whole:
        text += (
            f" Only the newest {found.looked_at:,} of {found.appended:,} events of the topic were "
            "looked at: playhead deadletters counts them all."
        )
    if found.more_reasons:
        text += f" {found.more_reasons:,} more reasons are left out."
    return text


class LettersCard(TableCard):
    """Dead letters by reason; examples on demand."""

    def __init__(self, page: "Page", look: Look) -> None:
        super().__init__(
            page,
            "Dead letters by reason",
            [look],
            letter_rows,
            _REASONS,
            lead=letters_lead,
            rows_shown=8,
            on_open=self._open,
            empty="No event was refused.",
            hint="What does not fit its contract would be kept here, with the reason.",
            about="Events that were refused, by what was wrong with them: … stands for a value, "
            "# for a number. Nothing is lost: they can be put right and sent again by playhead "
            "deadletters.",
        )

    def _open(self, row: Mapping[str, Any]) -> None:
        found = next(iter(self._replies.values())).value
        told = (row["reason"], None if row["topic"] == "(unknown)" else row["topic"])
        examples = [e for one in found.reasons if (one.reason, one.topic) == told
                    for e in one.examples]  # fmt: skip
        with self._page.overlay, dialog(f"Newest examples: {row['reason']}") as made:
            for example in examples:
                _example(example)
        made.open()


def _example(example: LetterExample) -> None:
    place = "" if example.index is None else f", event {example.index + 1:,} of its body"
    sender = f", sent with key {example.key_id}" if example.key_id else ""
    recovered = ", recovered" if example.is_recovered else ""
    ui.label(f"{example.refused_at:%Y-%m-%d %H:%M:%S} UTC{place}{sender}{recovered}").classes(
        "small"
    )
    ui.label(example.reason)
    ui.label(example.body or "(empty)").classes("body-text").props('tabindex="0"')
    ui.label(f"{size(example.body_bytes)} in full, letter {example.letter_id}").classes("small")
