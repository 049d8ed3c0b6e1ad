"""Servers that tests share: each is started when it is first asked for, and stopped at the end."""

from collections.abc import Iterator

import pytest

from lake_homes import credential
from playhead.cluster.postgres import Postgres
from playhead.cluster.store import ObjectStore
from playhead.errors import ServerError


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server; its password is in the environment meanwhile."""
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    _started(server)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", server.password)
        yield server
    server.stop()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An object store; its keys are in the environment meanwhile."""
    server = ObjectStore(tmp_path_factory.mktemp("store"))
    _started(server)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        for name, value in credential(server).items():
            variable = name.replace("-", "_").upper()
            patch.setenv(f"PYICEBERG_CATALOG__PLAYHEAD__{variable}", value)
        yield server
    server.stop()


def _started(server: Postgres | ObjectStore) -> None:
    try:
        server.start()
    except ServerError as error:
        if "not installed" not in str(error):
            raise
        pytest.skip(f"missing: {error}")
