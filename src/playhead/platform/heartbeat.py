"""How a part shows that it works: a small file that it writes anew about once a second."""

import logging
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from playhead.platform.identity import ProcessId
from playhead.platform.records import Beat, RunFolder, write_record

logger = logging.getLogger(__name__)

EVERY_S = 0.5


class Heartbeat:
    """Beats where a part does its work, so that a part that hangs falls silent.

    Args:
        workspace: whose platform it is part of.
        name: the part's.
        address: where it listens; empty: nowhere.
    """

    def __init__(self, workspace: Path, name: str, address: str = "") -> None:
        self._path = RunFolder(workspace).beat(name)
        self._name, self._address = name, address
        self._process = ProcessId.own()
        self._since = _now()
        self._beaten_at = float("-inf")
        self._turn = threading.Lock()
        self._is_told = False

    def __call__(self, health: str, **figures: float) -> None:
        """Say how the part is; cheap enough to be called on every turn of a loop."""
        now = time.monotonic()
        with self._turn:
            if now - self._beaten_at < EVERY_S:
                return
            self._beaten_at = now
            self._write(health, figures)

    def _write(self, health: str, figures: dict[str, float]) -> None:
        beat = Beat(self._name, self._process, self._since, _now(), self._address, health, figures)
        try:
            write_record(self._path, beat)
        except OSError as error:
            self._touch(error)

    def _touch(self, error: OSError) -> None:
        """A full disk takes no new file; the old one's time tells that the part still works."""
        try:
            os.utime(self._path)
        except OSError:
            if not self._is_told:
                logger.warning("%s: no heartbeat: %s", self._path, error.strerror)
                self._is_told = True


def _now() -> datetime:
    return datetime.now(UTC)
