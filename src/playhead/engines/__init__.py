"""Engines run a plan where the data is."""

from playhead.engines.base import Engine
from playhead.engines.duckdb import DuckDBEngine, connect, connect_worker

__all__ = ["DuckDBEngine", "Engine", "connect", "connect_worker"]
