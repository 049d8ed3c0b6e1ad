"""A catalog that several machines and engines share: a PostgreSQL database."""

import sqlite3
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)

from playhead.errors import LakeAwayError, LakeConflictError, LakeError, SettingError
from playhead.lake.checksums import NoChecksums
from playhead.lake.files import Files
from playhead.lake.sqlcatalog import DatabaseCatalog

__all__ = ["SharedCatalog", "server_of", "shared_address"]

_RETRIED = frozenset({"40001", "40P01", "55P03"})
"""PostgreSQL's codes of transactions that lost to another one (appendix A of its manual)."""

_PASSWORD = "Its password comes from PGPASSWORD or ~/.pgpass, never from a setting."  # noqa: S105


class SharedCatalog(DatabaseCatalog):
    """The tables of PyIceberg's and Spark's SQL catalogs, in PostgreSQL.

    Spark's JdbcCatalog reads and writes the same rows, if it has the same name and
    `jdbc.schema-version=V1`.

    Args:
        address: such as "postgresql://user@host:5432/database".
    """

    def __init__(self, files: Files, address: str) -> None:
        self._address = shared_address(address)
        try:
            self._open(files)
        except LakeError as error:
            # Another process has made the catalog's tables at the same moment.
            if not isinstance(error.__cause__, (IntegrityError, ProgrammingError)):
                raise
            self._open(files)

    def _open(self, files: Files) -> None:
        super().__init__(files, NoChecksums(), self._address, pool_pre_ping="true")

    def _explain(self, error: DBAPIError | sqlite3.DatabaseError) -> LakeError:
        return _explained(make_url(self._address), error)


def _explained(url: sa.URL, error: DBAPIError | sqlite3.DatabaseError) -> LakeError:
    told = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    place = url.render_as_string(hide_password=True)
    if getattr(getattr(error, "orig", None), "sqlstate", None) in _RETRIED:
        return LakeConflictError(f"the catalog {place}: {told}", hint="Try again.")
    message = f"the catalog {place} cannot be used: {told}"
    if isinstance(error, (OperationalError, InterfaceError)):
        hint = f"Is the database up, and reachable from here? {_PASSWORD}"
        return LakeAwayError(message, hint=hint)
    return LakeError(message)


def server_of(address: str) -> tuple[str, datetime]:
    """The version of a catalog's server, and the time by its clock.

    Raises:
        LakeError: it cannot be asked.
    """
    engine = sa.create_engine(shared_address(address))
    asked = sa.text("SELECT current_setting('server_version'), clock_timestamp()")
    try:
        with engine.connect() as connection:
            version, now = connection.execute(asked).one()
    except DBAPIError as error:
        raise _explained(engine.url, error) from error
    finally:
        engine.dispose()
    return str(version), now


def shared_address(address: str) -> str:
    """The address of a PostgreSQL database as SQLAlchemy takes it.

    Raises:
        SettingError: it is none, holds a password, or the driver is not installed.
    """
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise SettingError(
            f"lake.catalog: {address!r} is no address of a database",
            hint='Write it as "postgresql://user@host:5432/database".',
        ) from error
    if url.get_backend_name() != "postgresql":
        raise SettingError(
            f"lake.catalog: {url.get_backend_name()} databases are not known",
            hint='A catalog is in PostgreSQL: "postgresql://user@host:5432/database".',
        )
    if url.password:
        raise SettingError("lake.catalog holds a password", hint=_PASSWORD)
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise SettingError(
            "a catalog in PostgreSQL needs its driver",
            hint="Install it: pip install 'playhead[postgres]'.",
        ) from error
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
