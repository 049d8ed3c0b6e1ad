"""Playhead: the data platform of a video-streaming service in one package."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playhead.assemble import Workspace
    from playhead.views import View

__version__ = "0.1.0"
__all__ = ["View", "Workspace", "__version__", "open"]


def open(path: str | PathLike[str]) -> "Workspace":  # noqa: A001 - reads as playhead.open(path)
    """Open a workspace for reading and working.

    Raises:
        WorkspaceError: the folder is no workspace (make one with `playhead init`).
    """
    from playhead.assemble import Workspace

    return Workspace(Path(path))


def __getattr__(name: str) -> Any:
    # Heavy rooms are imported when they are first asked for.
    if name == "View":
        from playhead.views import View

        return View
    if name == "Workspace":
        from playhead.assemble import Workspace

        return Workspace
    if name in ("client", "testing"):
        from importlib import import_module

        return import_module(f"playhead.{name}")
    raise AttributeError(f"module 'playhead' has no attribute {name!r}")
