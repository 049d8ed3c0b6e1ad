"""What others do with a running platform: see how it is, start it detached, bring it down."""

import http.client
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from playhead.config import Address
from playhead.errors import WorkspaceBusyError, WorkspaceError
from playhead.platform.records import Beat, PartRecord, PlatformRecord, RunFolder, read_record
from playhead.platform.supervisor import end_leftovers

POLL_S = 0.05
ANSWER_S = 2.0
READY = "/readyz"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True)
class PartStatus:
    """How one part is.

    Attributes:
        state: "starting", "running", "restarting" or "stopped"; "gone" if its process is.
        pid: None while none runs.
        since: when it came into this state, UTC.
        health: what it last said of itself, or why it is restarted.
        figures: the same in numbers.
    """

    name: str
    state: str
    pid: int | None
    since: datetime
    restarts: int
    address: str
    health: str
    figures: Mapping[str, float]

    @property
    def is_down(self) -> bool:
        return self.state not in ("starting", "running")


@dataclass(frozen=True)
class PlatformStatus:
    """How the platform of a workspace is.

    Attributes:
        state: "starting", "ready" or "stopping"; "dead" if its supervisor ended without a stop;
            "none" if none runs.
        urls: where it listens, by name.
    """

    state: str
    pid: int | None = None
    since: datetime | None = None
    version: str = ""
    urls: Mapping[str, str] | None = None
    parts: tuple[PartStatus, ...] = ()

    @property
    def is_down(self) -> bool:
        """Whether it, or a part of it, should work and does not."""
        return self.state == "dead" or any(part.is_down for part in self.parts)


def platform_status(workspace: Path) -> PlatformStatus:
    """How the platform of a workspace is now."""
    folder = RunFolder(workspace)
    record = read_record(folder.platform, PlatformRecord)
    if record is None:
        return PlatformStatus("none")
    beats = {beat.name: beat for beat in folder.beats()}
    return PlatformStatus(
        record.state if record.process.is_alive() else "dead",
        record.process.pid,
        record.since,
        record.version,
        record.urls,
        tuple(part_status(part, beats.get(part.name)) for part in record.parts),
    )


def part_status(part: PartRecord, beat: Beat | None) -> PartStatus:
    """How a part is, from what the supervisor and the part itself say."""
    is_there = part.process is not None and part.process.is_alive()
    is_its_own = beat is not None and beat.process == part.process
    state = "gone" if part.state in ("starting", "running") and not is_there else part.state
    return PartStatus(
        part.name,
        state,
        part.process.pid if part.process is not None and is_there else None,
        part.since,
        part.restarts,
        part.address,
        beat.health if beat is not None and is_its_own else part.reason,
        beat.figures if beat is not None and is_its_own else {},
    )


# -- start -------------------------------------------------------------------------------


def start_detached(
    workspace: Path,
    timeout: timedelta,
    command: Sequence[str] | None = None,
    *,
    only: Sequence[str] = (),
) -> PlatformStatus:
    """Start a platform in the background; return once its addresses answer.

    Args:
        command: what is run; `playhead up` by default.
        only: kinds of parts that `playhead up` runs; empty: all.

    Raises:
        WorkspaceBusyError: a platform runs in this workspace.
        WorkspaceError: it ended at once, or did not answer in time; it is stopped then.
    """
    folder = RunFolder(workspace)
    before = platform_status(workspace)
    if before.state not in ("none", "dead"):
        raise WorkspaceBusyError(
            f"another platform runs in this workspace (process {before.pid})",
            hint="Stop it first: playhead down.",
        )
    folder.path.mkdir(parents=True, exist_ok=True)
    chosen = [f"--only={kind}" for kind in only]
    told = command or (sys.executable, "-m", "playhead", "-w", str(workspace), "up", *chosen)
    with folder.log.open("ab") as log:
        began_at = log.tell()
        child = subprocess.Popen(
            told, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    until = time.monotonic() + timeout.total_seconds()
    while not _is_ready(workspace, child.pid):
        if child.poll() is not None:
            raise WorkspaceError(
                f"the platform ended with status {child.returncode}: "
                f"{_last_error(folder.log, began_at)}",
                hint=f"{folder.log} tells more.",
            )
        if time.monotonic() > until:
            child.send_signal(signal.SIGTERM)
            child.wait()
            raise WorkspaceError(
                f"the platform did not answer within {timeout.total_seconds():g} s: stopped",
                hint=f"{folder.log} tells more; --timeout waits longer.",
            )
        time.sleep(POLL_S)
    # It goes on without this process, which therefore must not be asked how it ended.
    child.returncode = 0
    return platform_status(workspace)


def _is_ready(workspace: Path, pid: int) -> bool:
    record = read_record(RunFolder(workspace).platform, PlatformRecord)
    if record is None or record.process.pid != pid or record.state != "ready":
        return False
    return all(
        _answers(Address.parse(address), is_secure=name in record.secure)
        for name, address in record.addresses.items()
    )


def _answers(address: Address, *, is_secure: bool) -> bool:
    """Whether a part says that it can work now."""
    host = _ANY.get(address.host, address.host)
    asked: http.client.HTTPConnection
    if is_secure:
        # It is this machine's own part, whatever name its certificate bears.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        asked = http.client.HTTPSConnection(host, address.port, timeout=ANSWER_S, context=context)
    else:
        asked = http.client.HTTPConnection(host, address.port, timeout=ANSWER_S)
    try:
        asked.request("GET", READY)
        return asked.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asked.close()


def _last_error(log: Path, began_at: int) -> str:
    """The last line that tells of an error since a place in the log file, else the last."""
    with log.open("rb") as file:
        file.seek(began_at)
        lines = file.read().decode(errors="replace").splitlines()
    errors = [line for line in lines if "error" in line.lower()]
    return next(iter(reversed(errors or lines)), "it said nothing").removeprefix("error: ")


# -- stop --------------------------------------------------------------------------------


def bring_down(workspace: Path, timeout: timedelta) -> bool:
    """Stop a platform and wait until all of it is gone; False if none ran.

    After `timeout` it is killed, which loses nothing: every part may die at any time.
    """
    folder = RunFolder(workspace)
    record = read_record(folder.platform, PlatformRecord)
    ran = record is not None and record.process.is_alive()
    if record is not None and ran:
        record.process.send(signal.SIGTERM)
        until = time.monotonic() + timeout.total_seconds()
        while record.process.is_alive():
            if time.monotonic() > until:
                record.process.send(signal.SIGKILL)
            time.sleep(POLL_S)
    left = end_leftovers(folder)
    folder.platform.unlink(missing_ok=True)
    return ran or bool(left)
