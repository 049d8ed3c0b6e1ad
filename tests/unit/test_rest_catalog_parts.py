"""What a REST catalog is told and asked, without a service."""

from pathlib import Path

import pyarrow as pa
import pytest
import requests
from pyiceberg.catalog.rest import RestCatalog as IcebergRestCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    ServerError,
    ServiceUnavailableError,
)
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate

from playhead.engines import connect
from playhead.errors import LakeAwayError, LakeConflictError, LakeError, SettingError
from playhead.lake import Lake
from playhead.lake.files import LocalFiles
from playhead.lake.restcatalog import RestCatalog, rest_properties

ADDRESS = "https://catalog.example.org/api"


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RestCatalog:
    """One that has asked its service for nothing yet."""
    monkeypatch.setattr(IcebergRestCatalog, "_fetch_config", lambda _: None)
    return RestCatalog(LocalFiles(tmp_path / "warehouse", tmp_path / "catalog.db"), ADDRESS)


def test_pyicebergs_own_configuration_says_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__PLAYHEAD__OAUTH2_SERVER_URI", "https://login")
    monkeypatch.setenv("PYICEBERG_CATALOG__PLAYHEAD__CREDENTIAL", "id:hidden")
    monkeypatch.setenv("PYICEBERG_CATALOG__OTHER__TOKEN", "not ours")
    found = rest_properties()
    assert found["credential"] == "id:hidden"
    assert found["oauth2-server-uri"] == "https://login"
    assert "token" not in found


def test_a_configuration_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__PLAYHEAD", "a value where properties are wanted")
    with pytest.raises(SettingError, match="PyIceberg's configuration cannot be read"):
        rest_properties()


@pytest.mark.parametrize(
    ("error", "becomes", "hint"),
    [
        (requests.ConnectionError("refused"), LakeAwayError, "Is the service up"),
        (requests.Timeout("silent"), LakeAwayError, "Is the service up"),
        (ServiceUnavailableError("later"), LakeAwayError, "Is the service up"),
        (ForbiddenError("not you"), LakeError, "PYICEBERG_CATALOG__PLAYHEAD__CREDENTIAL"),
        (ServerError("broken"), LakeError, ""),
    ],
)
def test_errors_are_the_lakes(
    catalog: RestCatalog, error: Exception, becomes: type[LakeError], hint: str
) -> None:
    with pytest.raises(LakeError, match=f"the catalog {ADDRESS} ") as caught, catalog.explained():
        raise error
    assert type(caught.value) is becomes
    assert hint in (caught.value.hint or "")


def test_a_commit_asks_that_the_table_is_as_it_was_loaded(
    catalog: RestCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def commit(
        _: IcebergRestCatalog,
        _table: Table,
        requirements: tuple[TableRequirement, ...],
        _updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        asked.extend(each.model_dump_json() for each in requirements)
        raise CommitFailedException("somebody was faster")

    monkeypatch.setattr(IcebergRestCatalog, "commit_table", commit)
    with Lake(tmp_path / "lake") as lake, connect() as con:
        lake.create("raw.n", pa.schema([("n", pa.int64())]))
        empty = lake._catalog.load("raw.n")
        with pytest.raises(LakeConflictError, match=r"raw\.n: somebody was faster"):
            catalog.commit_table(empty, (), ())
        assert '{"type":"assert-ref-snapshot-id","ref":"main"}' in [
            each.replace(',"snapshot-id":null', "") for each in asked
        ]
        asked.clear()
        lake.append("raw.n", con, "SELECT 1::BIGINT AS n")
        snapshot = lake.snapshot("raw.n").id
        with pytest.raises(LakeConflictError):
            catalog.commit_table(lake._catalog.load("raw.n"), (), ())
    found = " ".join(asked)
    assert f'"snapshot-id":{snapshot}' in found
    kinds = ("table-uuid", "current-schema-id", "default-spec-id", "default-sort-order-id")
    assert all(f'"assert-{kind}"' in found for kind in kinds)


@pytest.mark.parametrize(
    "cause", [requests.Timeout("silent"), CommitStateUnknownException("nobody knows")]
)
def test_a_commit_without_an_answer_is_undecided(catalog: RestCatalog, cause: Exception) -> None:
    with pytest.raises(LakeError) as caught, catalog.explained():
        raise cause
    assert catalog.is_undecided(caught.value)
    assert not catalog.is_undecided(LakeConflictError("raw.n: another writer committed first"))
