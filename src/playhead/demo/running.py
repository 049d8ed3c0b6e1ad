"""The platform beside the demo: the same supervisor and parts as `playhead up` runs."""

import errno
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from playhead.assemble import Workspace
from playhead.config import Address, Settings
from playhead.errors import PlayheadError, SettingError
from playhead.keys import KeyRing
from playhead.lock import RoleLock
from playhead.platform import Part, Supervisor, standard_parts
from playhead.platform.batch import LastRun, loads_of
from playhead.platform.parts import secure_sockets, standard_addresses
from playhead.platform.records import RunFolder, write_record
from playhead.platform.sockets import listen
from playhead.platform.supervisor import Seen

__all__ = ["PlatformBeside", "until"]

_ANSWER_S = 600
_BOUND_S = 30.0
_POLL_S = 0.02


class PlatformBeside:
    """Gateway, speed layer, batch layer and API of a workspace, within the context.

    Their supervisor is a thread of this process. They end in order with the context, and within
    seconds by themselves if this process is killed.

    Raises:
        SettingError: it speaks TLS, which the demo does not, or an address is not of this
            machine or needs more rights. Where one is taken, the system chooses a port.

    Attributes:
        key: with which to write and to read; None: none is needed.
        moved: the addresses that are taken, by name.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        if secure := secure_sockets(workspace.settings):
            raise SettingError(
                f"{secure[0]}.tls_key is set, and the demo speaks plain HTTP",
                hint="Leave both TLS settings out, or give another --workspace.",
            )
        wanted = standard_addresses(workspace.settings)
        found = {name: _free(name, address) for name, address in wanted.items()}
        path = workspace.path.absolute()
        self._supervisor = Supervisor(path, _parts(path, workspace.settings), found)
        self._thread = threading.Thread(target=self._run, name="demo-platform")
        # Thread.join takes a thread for ended if a signal's exception interrupts it.
        self._stop, self._bound, self._over = (threading.Event() for _ in range(3))
        self._seen: Seen | None = None
        self._error: BaseException | None = None
        self._speed_role = RoleLock(path / "speed.lock", "speed layer")
        self._stack = ExitStack()
        self.moved = {name: wanted[name] for name in wanted if found[name] != wanted[name]}
        self.key: str | None = None

    def __enter__(self) -> Self:
        """Start the parts; the speed layer waits until `begin`.

        Raises:
            WorkspaceBusyError: another platform or speed layer is at work.
        """
        with self._stack as stack:
            self._make_key(stack)
            stack.enter_context(self._speed_role)
            self.note_batch(datetime.now(UTC), 0.0)
            stack.callback(self._end)
            self._thread.start()
            self._wait_until_bound()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def urls(self) -> dict[str, str]:
        """Where "gateway" and "api" listen."""
        return self._seen.record.urls if self._seen else {}

    @property
    def seen(self) -> Seen | None:
        """How everything was about a second ago at most."""
        return self._seen

    def note_batch(self, started: datetime, seconds: float) -> None:
        """Note a run of the batch layer, so that the next comes when the schedule says."""
        path = self._workspace.path
        folder = RunFolder(path)
        folder.path.mkdir(parents=True, exist_ok=True)
        write_record(folder.batch, LastRun(started, seconds, loads_of(path)))

    def begin(self) -> None:
        """Let the speed layer begin, with the dimensions as the lake has them now."""
        self._speed_role.release()

    def check(self) -> None:
        """Raise why the platform has ended, if it has.

        Raises:
            PlayheadError: it has.
        """
        if not self._over.is_set():
            return
        if isinstance(self._error, PlayheadError):
            raise self._error
        told = self._error or "it was stopped"
        raise PlayheadError(f"the platform has ended: {told}") from self._error

    def trouble(self) -> str:
        """Parts that were started again and why, for an error's hint."""
        parts = self._seen.record.parts if self._seen else ()
        told = [f"{part.name} {part.reason}" for part in parts if part.reason]
        log = RunFolder(self._workspace.path).log
        return "; ".join([*told, f"{log} tells more."])

    def wait(self) -> None:
        """Return when the platform has ended, or raise what ended it."""
        self._over.wait()
        if self._error is not None:
            raise self._error

    # -- its thread ----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._supervisor.run(self._stop, self._look)
        except BaseException as error:  # whoever asks next is told
            self._error = error
        finally:
            self._over.set()
            self._bound.set()

    def _look(self, seen: Seen) -> None:
        self._seen = seen
        self._bound.set()

    def _end(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._over.wait()

    def _wait_until_bound(self) -> None:
        if not self._bound.wait(_BOUND_S):
            raise PlayheadError("the platform does not start", hint=self.trouble())
        self.check()

    # -- before it starts ---------------------------------------------------------------------

    def _make_key(self, stack: ExitStack) -> None:
        """A key of the demo's own, where the workspace has keys; revoked at the end."""
        ring = KeyRing(self._workspace.path / "keys.json")
        if not ring.is_open:
            key, self.key = ring.create("demo", ["write", "read"])
            stack.callback(ring.revoke, key.id)


def _parts(path: Path, settings: Settings) -> list[Part]:
    """The standard parts; the API takes the time that a view of much data needs."""
    seconds = max(settings.api.query_seconds, _ANSWER_S)
    patient = {"PLAYHEAD_API_QUERY_SECONDS": str(seconds)}
    return [
        replace(part, environment={**part.environment, **patient}) if part.name == "api" else part
        for part in standard_parts(path, settings)
    ]


def _free(name: str, address: Address) -> Address:
    """The address, or with any free port if somebody else listens there."""
    try:
        listen(address, f"{name}.address").close()
    except SettingError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
            return replace(address, port=0)
        raise
    return address


def until(done: Callable[[], bool], moving: Callable[[], object], patience_s: float) -> bool:
    """Wait until something is done; False once nothing has moved for too long.

    Args:
        moving: any value; as long as it changes, something moves.
    """
    since, last = time.monotonic(), moving()
    while not done():
        if (now := moving()) != last:
            since, last = time.monotonic(), now
        if time.monotonic() - since > patience_s:
            return False
        time.sleep(_POLL_S)
    return True
