"""The read API: views, SQL in the jail, coverage, alerts, metrics, over HTTP."""

from playhead.api.server import serve, serving

__all__ = ["serve", "serving"]
