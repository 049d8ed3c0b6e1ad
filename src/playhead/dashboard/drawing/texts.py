"""Small texts of pages: messages, names of files, attributes of elements."""

import re

from nicegui import ui

__all__ = ["attribute", "message", "slug"]


def message(kind: str, text: str, hint: str = "") -> None:
    """Why there is nothing to see, and what can be done about it.

    Args:
        kind: "empty", "waits" or "failed".
    """
    icon = {"empty": "inbox", "waits": "hourglass_empty"}.get(kind, "error_outline")
    with ui.element("div").classes(f"message message-{kind}").props('role="status"'):
        ui.icon(icon).props('aria-hidden="true"')
        ui.label(text)
        if hint:
            ui.label(hint).classes("hint")


def slug(title: str) -> str:
    """A title as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def attribute(text: str) -> str:
    """A text that may stand between the quotes of an element's attribute."""
    return text.replace('"', "'").replace("\\", "/")
