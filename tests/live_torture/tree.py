"""The platform's processes: started as `playhead up`, found, killed, paused, awaited."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from failing_disk import Fault
from layers import load_dimensions
from playhead.assemble import Workspace
from playhead.config import FILE
from playhead.platform import PlatformStatus, bring_down, platform_status
from playhead.platform.identity import ProcessId
from playhead.platform.records import RunFolder
from torture.truth import DifferenceError

ENOSPC, EIO = 28, 5
READY_S = 180.0

_SETTINGS = """
[gateway]
address = "{gateway}"
workers = 2
[api]
address = "{api}"
[dashboard]
address = ""
[speed]
seal_seconds = 1
{speed}
[batch]
every_minutes = 1
{batch}
{beside}
"""


class Tree:
    """The platform of the workspace `folder / "w"`, which is made here.

    Args:
        views: SQL of the workspace's own views, by name.
        shim: makes the disk fail; None: it never does.
        beside: more sections of its settings, such as those of servers.
        engines: what runs the layers "speed" and "batch", where that is not DuckDB.
    """

    def __init__(
        self,
        folder: Path,
        views: Mapping[str, str],
        shim: Path | None = None,
        *,
        beside: str = "",
        engines: Mapping[str, str] | None = None,
    ) -> None:
        self.workspace = folder / "w"
        self._failing = folder / "failing"
        self._log = folder / "faults.log"
        self._said = folder / "up.log"
        self._shim = shim
        chosen = {name: one for name, one in (engines or {}).items() if one != "duckdb"}
        lines = {name: f'engine = "{one}"' for name, one in chosen.items()}
        self._settings = {"speed": "", "batch": "", "beside": beside} | lines
        self._up: subprocess.Popen[bytes] | None = None
        self._may_have_ended = False
        self._paused: list[tuple[float, ProcessId]] = []
        self.workspace.mkdir()
        self._settle_at("127.0.0.1:0", "127.0.0.1:0")
        with Workspace.create(self.workspace) as opened:
            load_dimensions(opened)
        (self.workspace / "views").mkdir(exist_ok=True)
        for name, sql in views.items():
            (self.workspace / "views" / f"{name}.sql").write_text(sql, encoding="utf-8")

    def _settle_at(self, gateway: str, api: str) -> None:
        text = _SETTINGS.format(gateway=gateway, api=api, **self._settings)
        (self.workspace / FILE).write_text(text, encoding="utf-8")

    # -- start and end -------------------------------------------------------------------

    def start(self, fault: str = "full") -> dict[str, str]:
        """Start it for the first time; its addresses, which it keeps from then on."""
        self.up(fault)
        status = self.await_whole()
        urls = dict(status.urls or {})
        self._settle_at(*(urls[name].removeprefix("http://") for name in ("gateway", "api")))
        return urls

    def up(self, fault: str = "full") -> None:
        """Run `playhead up`.

        Args:
            fault: how the disk fails while it is made to.
        """
        command = [sys.executable, "-m", "playhead", "-w", str(self.workspace), "up"]
        with self._said.open("ab") as said:
            self._up = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=os.environ | self._faults(fault),
            )

    def _faults(self, fault: str) -> dict[str, str]:
        if self._shim is None:
            return {}
        call, number = ("write", ENOSPC) if fault == "full" else ("sync", EIO)
        failing = Fault(str(self.workspace) + "/", call, number)
        chosen = failing.environment(only_while=self._failing, log=self._log)
        return chosen | {"LD_PRELOAD": str(self._shim)}

    def down(self) -> float:
        """Stop it as `playhead down` does; how many seconds that took.

        Raises:
            DifferenceError: it did not end by itself, or badly.
        """
        assert self._up is not None
        self.resume(everything=True)
        began = time.monotonic()
        self._up.send_signal(signal.SIGTERM)
        try:
            status = self._up.wait(60)
        except subprocess.TimeoutExpired as error:
            raise DifferenceError("the supervisor did not stop within 60 s") from error
        if status != 0:
            raise DifferenceError(f"the supervisor ended with {status}: {self.last_words()}")
        return time.monotonic() - began

    def destroy(self) -> None:
        """End everything, whatever state it is in; may be called twice."""
        self._failing.unlink(missing_ok=True)
        self.resume(everything=True)
        if self._up is not None:
            self._up.kill()
            self._up.wait()
        bring_down(self.workspace, timedelta(0))

    # -- blows ---------------------------------------------------------------------------

    def kill(self, target: str, fault: str) -> bool:
        """Kill a process, the supervisor to start again at once; False if there is none now."""
        if target == "supervisor":
            assert self._up is not None
            self._up.kill()
            self._up.wait()
            self.up(fault)
            return True
        found = self._find(target)
        return found is not None and found.send(signal.SIGKILL)

    def pause(self, target: str, seconds: float) -> bool:
        """Stop a process for a while; False if there is none now."""
        found = self._find(target)
        if found is None or not found.send(signal.SIGSTOP):
            return False
        self._paused.append((time.monotonic() + seconds, found))
        return True

    def resume(self, *, everything: bool = False) -> None:
        """Let those go on whose pause is over."""
        now = time.monotonic()
        due = [one for one in self._paused if everything or one[0] <= now]
        self._paused = [one for one in self._paused if one not in due]
        for _, process in due:
            process.send(signal.SIGCONT)

    def fail(self, seconds: float) -> bool:
        """Have the disk fail for a while; False if it cannot."""
        if self._shim is None:
            return False
        self._failing.touch()
        self._may_have_ended = True
        self.wait(seconds)
        self._failing.unlink()
        return True

    def wait(self, seconds: float) -> None:
        """Sleep, and meanwhile let those go on whose pause is over."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
            self.resume()

    def make_batch_due(self) -> None:
        """Have the batch layer forget that it ever ran."""
        RunFolder(self.workspace).batch.unlink(missing_ok=True)

    def failures(self) -> Counter[str]:
        """How many calls were made to fail, by their name, such as "fdatasync"."""
        told = self._log.read_text(encoding="utf-8") if self._log.exists() else ""
        return Counter(line.split()[0] for line in told.splitlines())

    def _find(self, target: str) -> ProcessId | None:
        if target == "supervisor":
            assert self._up is not None
            return ProcessId.of(self._up.pid)
        name = "api" if target == "query" else target
        for part in platform_status(self.workspace).parts:
            if part.name == name and part.pid is not None:
                pid = part.pid if target != "query" else _child(part.pid)
                return None if pid is None else ProcessId.of(pid)
        return None

    # -- being whole ---------------------------------------------------------------------

    def await_whole(self) -> PlatformStatus:
        """Wait until every part works.

        An `up` that began while the disk failed may have ended, and is started again.

        Raises:
            DifferenceError: the supervisor has ended by itself, or it takes too long.
        """
        await_true(self._is_whole, READY_S, lambda: f"not whole: {platform_status(self.workspace)}")
        return platform_status(self.workspace)

    def _is_whole(self) -> bool:
        assert self._up is not None
        if self._up.poll() is not None:
            if not self._may_have_ended:
                raise DifferenceError(f"`up` ended by itself: {self.last_words()}")
            self.up()
        status = platform_status(self.workspace)
        is_own = status.pid == self._up.pid and status.state == "ready"
        whole = is_own and all(part.state == "running" for part in status.parts)
        self._may_have_ended &= not whole
        return whole

    def last_words(self) -> str:
        """The end of what the supervisor and the parts said."""
        log = RunFolder(self.workspace).log
        said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        up = self._said.read_text(encoding="utf-8", errors="replace")
        return "\n".join([*up.splitlines()[-5:], *said.splitlines()[-30:]])


def await_true(is_so: Callable[[], bool], seconds: float, told: Callable[[], Any]) -> None:
    """Wait until something is so.

    Raises:
        DifferenceError: it is not, after so many seconds.
    """
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise DifferenceError(f"after {seconds:.0f} s: {told()}")
        time.sleep(0.1)


def _child(parent: int) -> int | None:
    """A process that this one has started; None if it has none."""
    try:
        tasks = list(Path(f"/proc/{parent}/task").iterdir())
        children = [pid for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:
        return None
    return int(children[0]) if children else None
