"""A master and two workers of their own processes: answers, and the loss of a worker."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from playhead.cluster import SparkCluster
from playhead.engines import DuckDBEngine
from playhead.errors import ServerError
from playhead.views import View

pytest.importorskip("pyspark", reason="missing: pyspark")
pytestmark = pytest.mark.cluster

SQL = "SELECT k % 10 AS d, SUM(k) AS s, COUNT(DISTINCT k) AS n FROM clicks GROUP BY ALL"
DRIVER = """
import sys
import pyarrow.parquet as pq
from playhead.config import SparkSettings
from playhead.engines.spark import SparkPlans, spark_session
from playhead.engines.spark.conf import Setting, session_settings
from playhead.views import View

master, folder, sql = sys.argv[1:]
small = {
    "spark.executor.memory": "512m", "spark.executor.memoryOverhead": "384m",
    "spark.executor.cores": "1", "spark.sql.shuffle.partitions": "4",
}
options = [Setting(name, value, "a test") for name, value in small.items()]
settings = SparkSettings(master=master, memory="512MB")
session = spark_session(session_settings(settings, options))
clicks = session.read.parquet(f"{folder}/clicks.parquet")
schema = pq.read_schema(f"{folder}/clicks.parquet")
view = View.parse("clicked", sql, schema={"clicks": schema})
for number, _ in enumerate(sys.stdin):
    answer = SparkPlans(session).full(view, {"clicks": clicks.repartition(8)})
    pq.write_table(answer.toArrow(), f"{folder}/answer-{number}.parquet")
    print("done", flush=True)
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[SparkCluster]:
    with SparkCluster(tmp_path / "cluster", workers=2, cores=1, memory_mb=1024) as started:
        yield started


def test_a_cluster_answers_and_goes_on_without_a_worker(
    cluster: SparkCluster, tmp_path: Path
) -> None:
    assert cluster.alive == 2
    clicks = pa.table({"k": pa.array(range(50_000), pa.int64())})
    pq.write_table(clicks, tmp_path / "clicks.parquet")
    view = View.parse("clicked", SQL, schema=clicks.schema)
    wanted = sorted(map(repr, DuckDBEngine().full(view, {"clicks": clicks}).to_pylist()))
    command = [sys.executable, "-c", DRIVER, cluster.master, str(tmp_path), SQL]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        for number, lose in enumerate((False, True)):
            if lose:
                cluster.kill_worker(0)
            driver.stdin.write("again\n")
            driver.stdin.flush()
            assert driver.stdout.readline() == "done\n"
            answer = pq.read_table(tmp_path / f"answer-{number}.parquet")
            assert sorted(map(repr, answer.to_pylist())) == wanted
        driver.stdin.close()
        assert driver.wait(60) == 0
    cluster.start_worker(0)
    assert cluster.alive >= 2
    cluster.stop()
    with pytest.raises(ServerError, match="does not answer"):
        assert cluster.alive
    cluster.stop()
