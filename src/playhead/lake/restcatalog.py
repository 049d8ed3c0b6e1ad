"""A catalog that is a service: Iceberg's REST protocol, as many products speak it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from pyiceberg.catalog.rest import RestCatalog as IcebergRestCatalog
from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    OAuthError,
    RESTError,
    ServiceUnavailableError,
    TooManyRequestsError,
    UnauthorizedError,
)
from pyiceberg.io import load_file_io
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import (
    AssertCurrentSchemaId,
    AssertDefaultSortOrderId,
    AssertDefaultSpecId,
    AssertRefSnapshotId,
    AssertTableUUID,
    TableRequirement,
    TableUpdate,
)
from pyiceberg.utils.config import Config
from requests.adapters import HTTPAdapter

from playhead.errors import LakeAwayError, LakeConflictError, LakeError, SettingError
from playhead.lake.catalog import CATALOG_NAME, Catalog
from playhead.lake.checksums import NoChecksums
from playhead.lake.files import Files
from playhead.lake.schema import checked_name
from playhead.lake.storage import local_path

__all__ = ["RestCatalog", "rest_properties", "service_of"]

_CONNECT_S, _ANSWER_S = 5.0, 60.0
_AWAY = (
    requests.ConnectionError,
    requests.Timeout,
    ServiceUnavailableError,
    TooManyRequestsError,
)
_REFUSED = (AuthorizationExpiredError, ForbiddenError, OAuthError, UnauthorizedError)
_CREDENTIALS = (
    "Its credentials come from PyIceberg's own configuration of the catalog "
    f'"{CATALOG_NAME}": PYICEBERG_CATALOG__{CATALOG_NAME.upper()}__CREDENTIAL ("id:secret") or '
    f"PYICEBERG_CATALOG__{CATALOG_NAME.upper()}__TOKEN."
)


class RestCatalog(Catalog, IcebergRestCatalog):
    """PyIceberg's REST catalog, which takes a commit only on what the table was loaded with.

    The protocol compares snapshots, columns, partitions and order, but no properties. So each
    commit asks for all of these, and what changes properties alone has to make a snapshot.

    Credentials, and a warehouse that the service knows by another name than its address, come
    from PyIceberg's own configuration; see `rest_properties`. Files are read and written with
    this machine's own keys: what the service would hand out is not used.

    Args:
        address: such as "https://host/api/catalog".

    Raises:
        LakeAwayError: the service does not answer.
        LakeError: it refuses.
        SettingError: its address or its configuration cannot be used.
    """

    compares_properties = False

    def __init__(self, files: Files, address: str) -> None:
        self.files, self.checksums = files, NoChecksums()
        self._address = address
        own = rest_properties()
        told = {"warehouse": files.root, **own, "uri": address, **files.properties}
        with self.explained():
            super().__init__(CATALOG_NAME, **told)

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except (requests.RequestException, RESTError) as error:
            raise _explained(self._address, error) from error

    def is_undecided(self, error: BaseException) -> bool:
        """Whether the service was asked to commit, and did not say what became of it."""
        return isinstance(error.__cause__, (requests.RequestException, CommitStateUnknownException))

    def _create_session(self) -> requests.Session:
        session = super()._create_session()
        # Adapters of longer addresses, such as those that sign, stay.
        session.mount("http://", _Patient())
        session.mount("https://", _Patient())
        return session

    # -- tables ----------------------------------------------------------------------------

    def names(self) -> list[str]:
        with self.explained():
            found: list[str] = []
            for namespace in self.list_namespaces():
                try:
                    found += [".".join(table) for table in self.list_tables(namespace)]
                except NoSuchNamespaceError:
                    # Somebody has dropped it since.
                    continue
            return sorted(found)

    def metadata_file(self, name: str) -> str | None:
        with self.explained():
            try:
                return local_path(self.load_table(checked_name(name)).metadata_location)
            except (NoSuchTableError, NoSuchNamespaceError):
                return None

    def _loaded(self, name: str) -> Table:
        with self.explained():
            try:
                return self._copy(self.load_table(checked_name(name)))
            except NoSuchNamespaceError as error:
                raise NoSuchTableError(str(error)) from error

    def _copy(self, table: Table) -> Table:
        io = load_file_io(self.files.properties, self.files.root)
        return Table(table.name(), table.metadata, table.metadata_location, io, self)

    # -- commits ---------------------------------------------------------------------------

    def commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        """Have the service change the table, if nobody else has.

        Raises:
            LakeConflictError: another writer has.
            LakeAwayError: the service does not answer; nobody knows whether the change counts.
            LakeError: it refuses.
        """
        wanted = {type(each): each for each in (*_as_loaded(table), *requirements)}
        with self.explained():
            try:
                done: CommitTableResponse = super().commit_table(
                    table, tuple(wanted.values()), updates
                )
            except CommitFailedException as error:
                raise LakeConflictError(f"{'.'.join(table.name())}: {error}") from error
        return done


def _as_loaded(table: Table) -> tuple[TableRequirement, ...]:
    """That the table is as it was loaded, as far as the protocol can say so."""
    metadata = table.metadata
    main = metadata.refs.get(MAIN_BRANCH)
    snapshot = None if main is None else main.snapshot_id
    return (
        AssertTableUUID(uuid=metadata.table_uuid),
        AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=snapshot),  # type: ignore[call-arg]
        AssertCurrentSchemaId(current_schema_id=metadata.current_schema_id),  # type: ignore[call-arg]
        AssertDefaultSpecId(default_spec_id=metadata.default_spec_id),  # type: ignore[call-arg]
        AssertDefaultSortOrderId(default_sort_order_id=metadata.default_sort_order_id),  # type: ignore[call-arg]
    )


class _Patient(HTTPAdapter):
    """Gives up on a service that says nothing, for which PyIceberg would wait for ever."""

    def send(
        self, request: requests.PreparedRequest, *args: Any, **known: Any
    ) -> requests.Response:
        known["timeout"] = known.get("timeout") or (_CONNECT_S, _ANSWER_S)
        return super().send(request, *args, **known)


def rest_properties() -> dict[str, Any]:
    """What PyIceberg's own configuration says of the catalog "playhead".

    It is read from PYICEBERG_CATALOG__PLAYHEAD__<PROPERTY> and from `.pyiceberg.yaml`, by
    PyIceberg's own names: `credential`, `token`, `oauth2-server-uri`, `scope`, `warehouse`, ...

    Raises:
        SettingError: it cannot be read.
    """
    try:
        return dict(Config().get_catalog_config(CATALOG_NAME) or {})
    except (OSError, ValueError) as error:
        raise SettingError(f"PyIceberg's configuration cannot be read: {error}") from error


def service_of(address: str) -> tuple[str, datetime]:
    """What a service calls itself, and the time by its clock.

    Raises:
        LakeError: it cannot be asked.
    """
    try:
        answer = requests.get(f"{address.rstrip('/')}/v1/config", timeout=(_CONNECT_S, _ANSWER_S))
    except requests.RequestException as error:
        raise _explained(address, error) from error
    told = answer.headers.get("Date")
    now = datetime.now(UTC) if told is None else parsedate_to_datetime(told)
    return answer.headers.get("Server", urlsplit(address).netloc), now


def _explained(address: str, error: requests.RequestException | RESTError) -> LakeError:
    told = str(error).strip().splitlines()[0]
    if isinstance(error, _REFUSED):
        return LakeError(f"the catalog {address} refuses: {told}", hint=_CREDENTIALS)
    message = f"the catalog {address} cannot be used: {told}"
    if isinstance(error, _AWAY):
        return LakeAwayError(message, hint="Is the service up, and reachable from here?")
    return LakeError(message)
