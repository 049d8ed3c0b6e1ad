"""The demo's workspace: made anew on every run, and only where that destroys nobody's data."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playhead.assemble import Workspace
from playhead.config import MARK as WORKSPACE_MARK
from playhead.errors import WorkspaceError
from playhead.lock import RoleLock

__all__ = ["CLUSTER_MARK", "DATA", "DEMO_MARK", "claim", "claim_for_cluster"]

DEMO_MARK = "demo.json"
"""The file by which a demo knows its own workspace."""

CLUSTER_MARK = "cluster-demo.json"
"""The file by which a demo on a cluster knows its own folder."""

DATA = "data"
"""Where the demo puts the data set that it generates."""

_REBUILT = ("log.db", "state.db", "samples.db", "runs.db", "lake", "tmp", DATA)
_OF_CLUSTER = ("servers", "cluster", "embedded", DATA)
_BESIDE = ("", "-wal", "-shm", "-journal")
_ROLES = {
    "run/platform.lock": "platform",
    **{f"{role.split()[0]}.lock": role for role in ("load", "batch", "speed layer")},
}


def claim(path: Path, origin: str) -> Workspace:
    """An empty workspace for a demo, marked as the demo's own.

    A folder that is not there, is empty, or is a workspace that nothing was put into, becomes
    the demo's. In a demo's own workspace, event log, lake, state and generated data are deleted,
    whatever data they came from; settings, view files and files of others stay.

    Args:
        origin: what data the demo runs on, for whoever reads the mark.

    Raises:
        WorkspaceError: the folder is something else; nothing in it was touched.
        WorkspaceBusyError: another process works in it.
    """
    if path.exists() and not path.is_dir():
        raise WorkspaceError(f"{path} is a file", hint="Give a folder with --workspace.")
    if (path / DEMO_MARK).is_file():
        _clear(path)
    elif (path / WORKSPACE_MARK).exists() and not _is_unused(path):
        raise WorkspaceError(
            f"{path} is a workspace that no demo made",
            hint="The demo starts from nothing: give it another folder with --workspace.",
        )
    workspace = Workspace.create(path)
    mark = {"made_by": "playhead demo", "data": origin}
    (path / DEMO_MARK).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
    return workspace


@contextmanager
def claim_for_cluster(path: Path, origin: str) -> Iterator[None]:
    """A folder for a demo on a cluster, for the block: its own alone, and empty but for its mark.

    A folder that is not there or is empty becomes the demo's; in its own, what the last run left
    is deleted.

    Args:
        origin: as for `claim`.

    Raises:
        WorkspaceError: the folder is something else; nothing in it was touched.
        WorkspaceBusyError: another such demo works in it.
    """
    if path.exists() and not path.is_dir():
        raise WorkspaceError(f"{path} is a file", hint="Give a folder with --workspace.")
    if path.is_dir() and any(path.iterdir()) and not (path / CLUSTER_MARK).is_file():
        raise WorkspaceError(
            f"{path} is not empty, and no demo on a cluster made it",
            hint="It starts from nothing: give it another folder with --workspace.",
        )
    path.mkdir(parents=True, exist_ok=True)
    mark = {"made_by": "playhead demo --cluster", "data": origin}
    (path / CLUSTER_MARK).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
    with RoleLock(path / "demo.lock", "demo"):
        for name in _OF_CLUSTER:
            shutil.rmtree(path / name, ignore_errors=True)
        yield


def _is_unused(path: Path) -> bool:
    if (path / "lake").exists():
        return False
    with Workspace(path) as workspace:
        log = workspace.log
        return not any(any(log.end_offsets(topic).values()) for topic in log.topics())


def _clear(path: Path) -> None:
    with ExitStack() as roles:
        for lock, role in _ROLES.items():
            roles.enter_context(RoleLock(path / lock, role))
        for name in _REBUILT:
            for entry in (path / f"{name}{suffix}" for suffix in _BESIDE):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink(missing_ok=True)
