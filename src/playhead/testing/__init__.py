"""The test kit: a view by recomputation and by merging, an in-memory log, generated data."""

from playhead.testing.evaluate import evaluate

__all__ = ["evaluate"]
