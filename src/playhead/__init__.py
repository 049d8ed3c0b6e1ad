"""Playhead: the data platform of a video-streaming service in one package."""

__version__ = "0.1.0"
