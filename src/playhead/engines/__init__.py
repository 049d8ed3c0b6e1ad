"""Engines run a plan where the data is."""

from playhead.engines.base import Engine
from playhead.engines.duckdb import DuckDBEngine, connect

__all__ = ["DuckDBEngine", "Engine", "connect"]
