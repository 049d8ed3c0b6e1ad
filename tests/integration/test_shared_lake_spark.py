"""Spark and DuckDB on the same tables of an object store, by each kind of shared catalog."""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from lake_homes import RestHome, SharedHome, StoreHome, credential
from layers import load, load_dimensions, ordered, views, watches, workspace
from playhead.cluster import jars
from playhead.cluster.postgres import Postgres
from playhead.cluster.store import ObjectStore

pytest.importorskip("pyspark", reason="missing: pyspark")
pytestmark = pytest.mark.cluster

VIEWS = ("counts", "windows", "countries", "sessions", "content_performance")
DRIVER = """
import json, os, sys
from pathlib import Path
import pyarrow.parquet as pq
from layers import views
from playhead.cluster import jars
from playhead.config import SparkSettings
from playhead.engines.spark import SparkPlans, spark_session
from playhead.engines.spark.conf import ObjectStore, Setting, iceberg, session_settings

told = json.loads(sys.argv[1])
store = ObjectStore(told["endpoint"], "us-east-1", told["key"], told["secret"])
options = iceberg(told["warehouse"], told["catalog"], store, jars("spark"), rest=told["rest"])
small = Setting("spark.sql.shuffle.partitions", "4", "a test")
spark = SparkSettings(master="local[2]", memory="1GB")
session = spark_session(session_settings(spark, [*options, small]))
plans, folder = SparkPlans(session), Path(told["folder"])
relations = {
    "playback": session.table("playhead.clean.playback"),
    **{name: session.table(f"playhead.dim.{name}") for name in ("users", "movies", "pair_ratings")},
}
for name, view in views(*told["views"]).items():
    pq.write_table(plans.full(view, relations).toArrow(), folder / f"{name}.parquet")
session.sql("CREATE NAMESPACE IF NOT EXISTS playhead.lab")
session.sql("CREATE TABLE playhead.lab.notes (id BIGINT, at TIMESTAMP_NTZ, cost DECIMAL(12, 2))")
session.sql("INSERT INTO playhead.lab.notes VALUES "
            "(1, TIMESTAMP_NTZ '2025-03-01 12:00:00.000001', 1.50), (2, NULL, NULL)")
print("written", flush=True)
sys.stdin.readline()
rows = session.table("playhead.lab.notes").orderBy("id").collect()
print(json.dumps([[row.id, str(row.at), str(row.cost)] for row in rows]), flush=True)
"""


@pytest.fixture(params=["database", "rest"])
def home(
    request: pytest.FixtureRequest, tmp_path: Path, database: Postgres, store: ObjectStore
) -> StoreHome:
    """A new lake, with either catalog."""
    if request.param == "rest":
        return RestHome(tmp_path / "machines", store)
    return SharedHome(tmp_path / "machines", database, store)


@pytest.mark.timeout(600)
def test_spark_reads_and_writes_what_playhead_does(
    tmp_path: Path,
    home: StoreHome,
    database: Postgres,
    store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jars("spark")
    monkeypatch.setenv("PLAYHEAD_LAKE_WAREHOUSE", home.shared.warehouse)
    monkeypatch.setenv("PLAYHEAD_LAKE_CATALOG", home.shared.catalog)
    monkeypatch.setenv("PLAYHEAD_LAKE_ENDPOINT", home.shared.endpoint)
    told = {
        "warehouse": home.shared.warehouse,
        "catalog": home.shared.catalog.replace("@", f":{database.password}@", 1),
        "endpoint": store.endpoint,
        "key": store.key,
        "secret": store.secret,
        "rest": credential(store) if isinstance(home, RestHome) else {},
        "folder": str(tmp_path),
        "views": VIEWS,
    }
    with workspace(tmp_path / "w", *VIEWS) as opened:
        load_dimensions(opened)
        load(opened, watches(60, minute=-30_000, step=997))
        opened.batch()
        paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        with subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        ) as driver:
            assert driver.stdin is not None
            assert driver.stdout is not None
            assert driver.stdout.readline() == "written\n"
            for name in views(*VIEWS):
                answer = pq.read_table(tmp_path / f"{name}.parquet")
                assert ordered(answer) == ordered(opened.full(name).to_arrow()), name
            with duckdb.connect() as connection:
                # What Spark has made is read, and written to by Playhead.
                assert opened.lake.rows("lab.notes") == 2
                connection.execute("SET TimeZone = 'UTC'")
                opened.lake.append(
                    "lab.notes",
                    connection,
                    "SELECT 3 AS id, TIMESTAMP '2025-03-01 13:00' AS at, 2.25::DECIMAL(12, 2) AS "
                    "cost",
                )
                sums = f"SELECT SUM(id), SUM(cost) FROM {opened.lake.scan('lab.notes')}"
                assert [str(v) for v in connection.execute(sums).fetchone() or ()] == ["6", "3.75"]
            driver.stdin.write("go on\n")
            driver.stdin.flush()
            rows = json.loads(driver.stdout.readline())
    assert rows == [
        [1, "2025-03-01 12:00:00.000001", "1.50"],
        [2, "None", "None"],
        [3, "2025-03-01 13:00:00", "2.25"],
    ]
