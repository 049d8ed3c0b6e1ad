"""A lake whose catalog is a service: what becomes of commits, and how it says that it is away."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitStateUnknownException
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectionError as AwayError

from lake_homes import RestHome
from layers import Running, assert_merged_is_full, counted, load, load_dimensions, send, watches
from layers import workspace as made
from playhead.cluster.store import ObjectStore
from playhead.engines import connect
from playhead.errors import LakeAwayError, LakeError
from playhead.lake import Lake
from playhead.lake.restcatalog import service_of
from playhead.platform.doctor import State, diagnose

pytestmark = pytest.mark.cluster

SCHEMA = pa.schema([pa.field("n", pa.int64())])
VIEWS = ("counts", "windows", "countries", "sessions")


@pytest.fixture
def home(tmp_path: Path, store: ObjectStore) -> RestHome:
    return RestHome(tmp_path / "machines", store)


def test_merged_is_full_through_all_layers(
    home: RestHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_LAKE_WAREHOUSE", home.shared.warehouse)
    monkeypatch.setenv("PLAYHEAD_LAKE_CATALOG", home.shared.catalog)
    monkeypatch.setenv("PLAYHEAD_LAKE_ENDPOINT", home.shared.endpoint)
    with made(tmp_path / "w", *VIEWS) as opened:
        load_dimensions(opened)
        load(opened, watches(30, minute=-3_000))
        running = Running(opened)
        with running as layer:
            send(opened, watches(20, start=30))
            running.catch_up()
            layer.seal()
            send(opened, watches(15, start=50))
            running.catch_up()
            opened.batch()
            layer.refresh()
            assert_merged_is_full(opened)
            assert counted(opened) == 65
        inspector = opened.lake.inspector
        assert inspector.catalog_problems() == []
        for name in opened.lake.tables():
            assert inspector.metadata(name) == [], name


def test_guarded_writers_never_overwrite_each_other(home: RestHome) -> None:
    """Each adds one to a property that it has seen, by a commit with rows or without."""
    rounds, writers = 4, 3

    def write(number: int) -> None:
        query = f"SELECT {number}::BIGINT AS n LIMIT {number % 2}"
        with home.open() as lake, connect() as con:
            done = 0
            while done < rounds:
                seen = lake.properties("raw.n").get("count", "0")

                def unchanged(properties: Mapping[str, str], seen: str = seen) -> bool:
                    return properties.get("count", "0") == seen

                told = {"count": str(int(seen) + 1)}
                written = lake.append("raw.n", con, query, properties=told, guard=unchanged)
                done += not written.skipped

    with home.open() as lake:
        lake.create("raw.n", SCHEMA)
        with ThreadPoolExecutor(writers) as pool:
            list(pool.map(write, range(writers)))
        assert lake.properties("raw.n")["count"] == str(rounds * writers)
        assert lake.rows("raw.n") == rounds * (writers // 2)


@pytest.mark.parametrize("lands", [True, False])
def test_files_of_a_commit_without_an_answer_are_kept(
    home: RestHome, monkeypatch: pytest.MonkeyPatch, lands: bool
) -> None:
    send_on = HTTPAdapter.send

    def lose(self: HTTPAdapter, request: PreparedRequest, *args: Any, **known: Any) -> Response:
        is_commit = request.method == "POST" and str(request.url).endswith("/raw/tables/n")
        if not is_commit or lands:
            answer = send_on(self, request, *args, **known)
        if is_commit:
            raise AwayError("the answer is lost")
        return answer

    with home.open() as lake, connect() as con:
        lake.create("raw.n", SCHEMA)
        with monkeypatch.context() as patch:
            patch.setattr(HTTPAdapter, "send", lose)
            with pytest.raises(LakeError, match="cannot be used: the answer is lost"):
                lake.append("raw.n", con, "SELECT 1::BIGINT AS n")
        assert len(home.data_files()) == 1
        found = con.execute(f"SELECT COUNT(*) FROM {lake.scan('raw.n')}").fetchone()
        assert found == (1 if lands else 0,)


def test_a_service_that_does_not_know_is_not_taken_for_a_refusal(
    home: RestHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyiceberg.catalog.rest import RestCatalog

    def unsure(*_: object) -> None:
        raise CommitStateUnknownException("nobody knows")

    with home.open() as lake, connect() as con:
        lake.create("raw.n", SCHEMA)
        with monkeypatch.context() as patch:
            patch.setattr(RestCatalog, "commit_table", unsure)
            with pytest.raises(LakeError, match="nobody knows"):
                lake.append("raw.n", con, "SELECT 1::BIGINT AS n")
        assert len(home.data_files()) == 1


def test_a_service_that_is_away_is_said(home: RestHome, store: ObjectStore, tmp_path: Path) -> None:
    with home.open() as lake:
        assert lake.tables() == []
        store.kill()
        try:
            with pytest.raises(
                LakeAwayError, match=r"the catalog http\S+ cannot be used"
            ) as caught:
                lake.tables()
            assert "Is the service up" in str(caught.value)
            with pytest.raises(LakeAwayError, match="cannot be used"):
                service_of(store.catalog)
            with pytest.raises(LakeError, match="cannot be used"):
                Lake(tmp_path / "other", home.shared)
        finally:
            store.start()
        assert lake.tables() == []
    told, now = service_of(store.catalog)
    assert told
    assert now.tzinfo is not None


def test_wrong_credentials_are_named(
    home: RestHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__PLAYHEAD__CREDENTIAL", "nobody:wrong")
    with pytest.raises(LakeError, match="refuses") as caught, Lake(tmp_path, home.shared) as lake:
        lake.tables()
    assert "PYICEBERG_CATALOG__PLAYHEAD__CREDENTIAL" in str(caught.value)


def test_the_doctor_asks_it(
    home: RestHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_LAKE_WAREHOUSE", home.shared.warehouse)
    monkeypatch.setenv("PLAYHEAD_LAKE_CATALOG", home.shared.catalog)
    monkeypatch.setenv("PLAYHEAD_LAKE_ENDPOINT", home.shared.endpoint)
    with made(tmp_path / "w", *VIEWS) as opened:
        load_dimensions(opened)
    found = [check for check in diagnose(tmp_path / "w") if check.part == "lake: catalog"]
    assert [check.state for check in found] == [State.FINE, State.FINE]
    assert found[0].told.startswith("REST, by ")
    assert "its clock is" in found[1].told
