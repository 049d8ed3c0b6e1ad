"""Views: every metric one SELECT, and every plan derived from it."""

from playhead.views.view import View

__all__ = ["View"]
