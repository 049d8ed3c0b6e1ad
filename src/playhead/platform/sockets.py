"""Listening sockets, bound once by the supervisor: a part that restarts loses no connection."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from playhead.config import Address
from playhead.errors import SettingError

BACKLOG = 2048
POLL_S = 0.05
_LISTENING = "0A"
"""A state in /proc/net/tcp."""


def listen(address: Address, setting: str, *, patience_s: float = 0.0) -> socket.socket:
    """A socket that listens at an address.

    Args:
        setting: which one says so, for the error message.
        patience_s: how long to wait for an address that is taken.

    Raises:
        SettingError: the address is taken (by whom, where the system tells), is not of this
            machine, or needs more rights.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SettingError(
            f"{setting} = {address}: {error.strerror}", hint="Name an address of this machine."
        ) from error
    until = time.monotonic() + patience_s
    while True:
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Connections take it from their socket: else a small answer may wait for its rest.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            bound.bind(where)
            bound.listen(BACKLOG)
        except OSError as error:
            bound.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() >= until:
                raise _refused(address, setting, error) from error
            time.sleep(POLL_S)
        else:
            return bound


def address_of(bound: socket.socket) -> Address:
    """Where a socket listens, with the port that the system chose for port 0."""
    host, port = bound.getsockname()[:2]
    return Address(host, port)


def _refused(address: Address, setting: str, error: OSError) -> SettingError:
    if error.errno == errno.EADDRINUSE:
        return SettingError(
            f"{setting}: {address} is taken by {_owner(address.port) or 'another process'}",
            hint=f"Stop it, or choose another address: {setting} in playhead.toml, or "
            f"PLAYHEAD_{setting.replace('.', '_').upper()}.",
        )
    hints = {
        errno.EACCES: "Ports below 1024 need more rights; choose a higher one.",
        errno.EADDRNOTAVAIL: "Name an address of this machine.",
    }
    return SettingError(
        f"{setting} = {address}: {error.strerror}", hint=hints.get(error.errno or 0)
    )


# -- who has it --------------------------------------------------------------------------


def _owner(port: int) -> str | None:
    """In words, who listens at a port; None where the system does not tell."""
    found = [(pid, _command(pid)) for pid in _holders(_listening(port))]
    for pid, command in found:
        if workspace := _workspace(command):
            return f"the Playhead platform of {workspace} (process {pid})"
    return next((f"process {pid} ({' '.join(command)[:60]})" for pid, command in found), None)


def _listening(port: int) -> set[str]:
    """Links under /proc/PID/fd that mean a socket listening at the port."""
    links = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                links.add(f"socket:[{inode}]")
    return links


def _holders(links: set[str]) -> Iterator[int]:
    for folder in sorted(Path("/proc").glob("[0-9]*/fd")):
        if links & set(_links(folder)):
            yield int(folder.parent.name)


def _links(folder: Path) -> Iterator[str]:
    """What a process has open, as far as it may be seen and is still open."""
    with suppress(OSError):
        for entry in folder.iterdir():
            with suppress(OSError):
                yield str(entry.readlink())


def _command(pid: int) -> list[str]:
    try:
        told = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in told.split(b"\0") if word]


def _workspace(command: list[str]) -> str | None:
    """Which workspace a part's command line names; None if it is no part's."""
    if "playhead" not in command or "part" not in command or "-w" not in command[:-1]:
        return None
    return command[command.index("-w") + 1]
