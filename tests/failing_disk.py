"""Commands in processes whose disk fails: forks of one that has the shim of `faults_io.c`."""

import contextlib
import ctypes
import faulthandler
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

SOURCE = Path(__file__).with_name("faults_io.c")
UNEXPECTED = 70
"""Exit status of a stage that raised something else than a PlayheadError."""


def compiler() -> str | None:
    """The machine's C compiler."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def build_shim(folder: Path) -> Path:
    """Compile the shim.

    Raises:
        LookupError: there is no compiler.
    """
    found = compiler()
    if found is None:
        raise LookupError("no C compiler")
    shim = folder / "faults_io.so"
    options = ("-shared", "-fPIC", "-O1", "-o", str(shim), str(SOURCE), "-ldl", "-lpthread")
    subprocess.run([found, *options], check=True, capture_output=True)
    return shim


@dataclass(frozen=True)
class Fault:
    """What fails; see `faults_io.c` for the meaning of each."""

    path: str = ""
    call: str = "any"
    number: int = 0
    after: int = 0
    times: int = 0

    def environment(self, *, only_while: Path, log: Path) -> dict[str, str]:
        """The same for a process that is started with the shim."""
        given = {"PATH": self.path, "CALL": self.call, "ERRNO": self.number, "AFTER": self.after}
        given |= {"TIMES": self.times, "WHILE": only_while, "LOG": log}
        return {f"FAULT_{name}": str(value) for name, value in given.items()}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status (-9: killed), stderr, how many calls the fault's path and
    kind had, and those that failed as (call, path).
    """

    status: int
    err: str
    matched: int
    failed: tuple[tuple[str, str], ...]


class FailingDisk:
    """Runs commands on one workspace, each in a fork of a process that has the shim.

    Args:
        folder: for the shim's log and the commands' stderr; the workspace is `folder / "w"`.
    """

    def __init__(self, folder: Path, shim: Path) -> None:
        self._folder = folder
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "LD_PRELOAD": str(shim)},
            text=True,
        )

    def run(self, *command: str, fault: Fault | None = None, killed: bool = False) -> Ended:
        """Run a command (or "compaction") to its end.

        Args:
            killed: it is killed before it closes its files, as by a power cut.
        """
        log = self._folder / "faults.log"
        log.unlink(missing_ok=True)
        job = {"command": command, "fault": asdict(fault or Fault()), "killed": killed}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        told = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        failed = tuple((line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in told)
        err = (self._folder / "err").read_text(encoding="utf-8")
        return Ended(answer["status"], err, answer["matched"], failed)

    def close(self) -> None:
        """End the process of which the commands are forks."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(60)
        self._server.stdout.close()


def _serve(folder: Path) -> None:
    """Fork for each line of stdin, and tell how the fork ended."""
    for module in ("torture.warm", "playhead.cli", "playhead.batch.replay"):
        import_module(module)
    for line in sys.stdin:
        job = json.loads(line)
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            os.close(ours)
            _work(folder, job, theirs)
        os.close(theirs)
        with os.fdopen(ours) as told:
            matched = told.read()
        _, status = os.waitpid(child, 0)
        answer = {"status": os.waitstatus_to_exitcode(status), "matched": int(matched or 0)}
        print(json.dumps(answer), flush=True)


def _work(folder: Path, job: dict[str, Any], pipe: int) -> None:
    """Do a job in this process, which ends with it, telling where it stands if it hangs."""
    faulthandler.dump_traceback_later(120, exit=True)
    err = os.open(folder / "err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(err, 2)
    shim = ctypes.CDLL(None)
    fault = Fault(**job["fault"])
    log = str(folder / "faults.log").encode()
    shim.fault_set(
        fault.path.encode(),
        fault.call.encode(),
        fault.number,
        ctypes.c_long(fault.after),
        ctypes.c_long(fault.times),
        b"",
        log,
    )
    status = UNEXPECTED
    with contextlib.suppress(BaseException):
        status = _status_of(folder / "w", job["command"], killed=job["killed"])
    sys.stderr.flush()
    os.write(pipe, str(shim.fault_matched()).encode())
    os._exit(status)


def _status_of(path: Path, command: Sequence[str], *, killed: bool) -> int:
    """The exit status of a command; never comes back if it is to be killed."""
    import playhead.assemble
    from layers import SmallWorkspace
    from playhead.cli import main
    from stages import VIEWS

    class Small(SmallWorkspace):
        names = VIEWS

        def close(self) -> None:
            if killed:
                os.kill(os.getpid(), signal.SIGKILL)
            super().close()

    with patch.object(playhead.assemble, "Workspace", Small):
        try:
            if command[0] == "compaction":
                _compact(Small(path))
                return 0
            main(["-w", str(path), *command])
        except SystemExit as left:
            return int(left.code or 0)
        except BaseException:
            traceback.print_exc()
    return UNEXPECTED


def _compact(opened: Any) -> None:
    """Compaction as a command."""
    from layers import Running
    from playhead.cli.terminal import fail
    from playhead.errors import PlayheadError

    try:
        with opened, Running(opened) as layer:
            layer.compact()
    except PlayheadError as error:
        fail(error)
        raise SystemExit(1) from error


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
