"""The gateway: events in over HTTP, answered once they are durable in the event log."""

from playhead.gateway.app import Gateway, Place
from playhead.gateway.server import Serving, serve, serving

__all__ = ["Gateway", "Place", "Serving", "serve", "serving"]
