"""A PostgreSQL server for the catalog, from the programs that are installed on this machine."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from playhead.cluster.server import LOOPBACK, Server, free_port
from playhead.errors import ServerError

__all__ = ["Postgres", "postgres_program"]

_FOLDERS = "/usr/lib/postgresql/*/bin"
_NEEDED = "Install PostgreSQL (Debian: apt-get install postgresql)."
_USER = "playhead"
_SERVICE_USER = "postgres"
_INIT_S = 120


class Postgres:
    """One server on loopback with one database, `playhead`, whose owner has a password.

    What it holds outlives a stop, and is read by the next one of the same folder.

    Attributes:
        password: made once for each folder; programs take it from PGPASSWORD.
        address: of the database, as `lake.catalog` has it, once it is started.

    Args:
        folder: of its files; nobody else may write there.
        port: of loopback; None: a free one.
    """

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder, self.port = folder, port or free_port()
        self.password, self.address = secrets.token_urlsafe(18), ""
        self._server: Server | None = None

    def start(self) -> None:
        """Start it; its database is there when this returns.

        Raises:
            ServerError: PostgreSQL is not installed, or does not start.
        """
        data = self.folder / "data"
        self.folder.mkdir(parents=True, exist_ok=True)
        _give(self.folder)
        if not (data / "PG_VERSION").exists():
            self._make(data)
        command = [postgres_program("postgres"), "-D", str(data), "-p", str(self.port),
                   "-h", LOOPBACK, "-k", ""]  # fmt: skip
        # SIGTERM would wait for all who are connected to leave.
        self._server = Server(
            "PostgreSQL", _as_service(command), log=self.folder / "log", folder=self.folder,
            stop_with=signal.SIGINT,
        )  # fmt: skip
        self._server.start(self._is_ready)
        self.password = (self.folder / "password").read_text()
        self.address = self.make_database(_USER)

    def _is_ready(self) -> bool:
        asked = [postgres_program("pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.port)]
        return subprocess.run(asked, timeout=_INIT_S, check=False).returncode == 0

    def stop(self) -> None:
        """End it; may be called twice."""
        if self._server is not None:
            self._server.stop()

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        if self._server is not None:
            self._server.kill()

    def _make(self, data: Path) -> None:
        secret = self.folder / "password"
        secret.touch(0o600)
        secret.write_text(self.password)
        _give(secret)
        _run([postgres_program("initdb"), "-D", str(data), "-U", _USER, "--pwfile", str(secret),
              "--auth=scram-sha-256", "-E", "UTF8", "--locale=C"])  # fmt: skip

    def make_database(self, name: str) -> str:
        """Make sure that there is a database of this name; its address as `lake.catalog` has it.

        Raises:
            ServerError: it cannot be made.
        """
        known = {**os.environ, "PGPASSWORD": self.password}
        where = ["-h", LOOPBACK, "-p", str(self.port), "-U", _USER]
        ended = subprocess.run(
            [postgres_program("createdb"), *where, name],
            capture_output=True, text=True, env=known, timeout=_INIT_S, check=False,
        )  # fmt: skip
        if ended.returncode and "already exists" not in ended.stderr:
            raise ServerError(f"PostgreSQL has no database {name}: {ended.stderr.strip()}")
        return f"postgresql://{_USER}@{LOOPBACK}:{self.port}/{name}"


def postgres_program(name: str) -> str:
    """One of PostgreSQL's programs, of its newest version that is installed.

    Raises:
        ServerError: it is not installed.
    """
    found = sorted(Path("/").glob(f"{_FOLDERS[1:]}/{name}"), key=lambda path: path.parts[-3])
    if found:
        return str(found[-1])
    if named := shutil.which(name):
        return named
    raise ServerError(f"PostgreSQL's {name} is not installed", hint=_NEEDED)


def _as_service(command: Sequence[str]) -> list[str]:
    """A command as PostgreSQL takes it: it refuses to run as root."""
    if os.geteuid():
        return list(command)
    program = shutil.which("setpriv")
    if program is None:
        raise ServerError(
            "setpriv is not installed", hint="Install util-linux, or be another user."
        )
    user = _service_user()
    return [program, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *command]


def _service_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(_SERVICE_USER)
    except KeyError as error:
        raise ServerError(f"there is no user {_SERVICE_USER}", hint=_NEEDED) from error


def _give(path: Path) -> None:
    """Let the server's user have a file or folder, and reach it."""
    if os.geteuid():
        return
    user = _service_user()
    os.chown(path, user.pw_uid, user.pw_gid)
    for parent in path.parents:
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o001)


def _run(command: Sequence[str]) -> None:
    ended = subprocess.run(
        _as_service(command), capture_output=True, text=True, timeout=_INIT_S, check=False, cwd="/"
    )
    if ended.returncode:
        raise ServerError(f"{Path(command[0]).name} failed: {ended.stderr.strip()}")
