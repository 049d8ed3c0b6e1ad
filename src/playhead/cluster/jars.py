"""Jars of the servers and of Spark, by Maven from the pom files beside this module."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from playhead.cluster.server import program
from playhead.errors import ServerError

__all__ = ["has_jars", "jars"]

FOLDER = "PLAYHEAD_JARS"
"""The environment's name for where jars are kept; by default below the user's cache."""

_POMS = Path(__file__).parent
_TIMEOUT_S = 1_800
_TOLD_LINES = 5


def jars(name: str) -> Path:
    """The folder with all jars that a pom file names, fetched once and kept.

    Args:
        name: "kafka" or "spark": of `<name>.pom.xml`.

    Raises:
        ServerError: Maven is missing, or cannot get them.
    """
    pom, folder = _POMS / f"{name}.pom.xml", _folder(name)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            fetched = Path(scratch) / "jars"
            _fetch(pom, fetched)
            _publish(fetched, folder)
    return folder


def has_jars(name: str) -> bool:
    """Whether they are here already, so that neither Maven nor a network is needed."""
    return _folder(name).is_dir()


def _folder(name: str) -> Path:
    pom = _POMS / f"{name}.pom.xml"
    # Another pom has a folder of its own, so that a newer Playhead never mixes versions.
    return _kept_in() / f"{name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"


def _kept_in() -> Path:
    if chosen := os.environ.get(FOLDER):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "playhead" / "jars"


def _fetch(pom: Path, folder: Path) -> None:
    maven = program("mvn", "Maven (Debian: apt-get install maven)")
    # Maven writes beside its pom file, which may be where nobody may write.
    work = folder.parent / "pom.xml"
    shutil.copy(pom, work)
    command = [maven, "-q", "-B", "-f", str(work), "dependency:copy-dependencies"]
    try:
        ended = subprocess.run(
            [*command, f"-DoutputDirectory={folder}"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"Maven did not get the jars of {pom.name} in time") from error
    if ended.returncode:
        told = [line for line in ended.stdout.splitlines() if "ERROR" in line][:_TOLD_LINES]
        raise ServerError(
            f"Maven cannot get the jars of {pom.name}: {' | '.join(told) or ended.stderr[-500:]}",
            hint="Is there a way to Maven Central, or a mirror in ~/.m2/settings.xml?",
        )


def _publish(fetched: Path, folder: Path) -> None:
    try:
        fetched.rename(folder)
    except OSError:
        # Another process has fetched the same meanwhile.
        if not folder.is_dir():
            raise
