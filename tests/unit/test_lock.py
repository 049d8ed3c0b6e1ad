"""One process a role."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from playhead.errors import WorkspaceBusyError, WorkspaceError
from playhead.lock import RoleLock

HOLDER = """
import sys, time
from pathlib import Path
from playhead.lock import RoleLock
with RoleLock(Path(sys.argv[1]), "speed layer"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "speed.lock"
    lock = RoleLock(path, "speed layer")
    with lock:
        with pytest.raises(WorkspaceBusyError, match="another speed layer runs") as caught:
            RoleLock(path, "speed layer").acquire()
        assert f"(process {os.getpid()})" in str(caught.value)
        assert caught.value.retryable
        with RoleLock(tmp_path / "batch.lock", "batch"):
            pass
    lock.release()
    with RoleLock(path, "speed layer"):
        pass


def test_it_is_let_go_when_the_work_fails(tmp_path: Path) -> None:
    path = tmp_path / "batch.lock"
    with pytest.raises(ZeroDivisionError), RoleLock(path, "batch"):
        raise ZeroDivisionError
    RoleLock(path, "batch").acquire()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "speed.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceBusyError, match=f"process {holder.pid}"):
            RoleLock(path, "speed layer").acquire()
        holder.send_signal(signal.SIGKILL)
    with RoleLock(path, "speed layer"):
        assert path.read_text() == str(os.getpid())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError):
        RoleLock(tmp_path / "file" / "batch.lock", "batch").acquire()
    (tmp_path / "folder.lock").mkdir()
    with pytest.raises(WorkspaceError):
        RoleLock(tmp_path / "folder.lock", "batch").acquire()
