"""The Spark cells of deploy/notebooks/explore.ipynb, on a lake in an object store."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lake_homes import SharedHome
from layers import load, load_dimensions, watches
from playhead.assemble import Workspace
from playhead.cluster import jars
from playhead.cluster.postgres import Postgres
from playhead.cluster.store import ObjectStore

pytest.importorskip("pyspark", reason="missing: pyspark")
pytestmark = pytest.mark.cluster

NOTEBOOK = Path(__file__).parents[2] / "deploy" / "notebooks" / "explore.ipynb"
CHECKED = """
import json
found = {row["device_type"]: row["events"] for row in devices.collect()}
print(json.dumps([found, engagement.count()]))
"""


@pytest.mark.timeout(600)
def test_spark_cells_read_what_playhead_wrote(
    tmp_path: Path,
    database: Postgres,
    store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jars("spark")
    home = SharedHome(tmp_path / "machines", database, store)
    monkeypatch.setenv("PLAYHEAD_LAKE_WAREHOUSE", home.shared.warehouse)
    monkeypatch.setenv("PLAYHEAD_LAKE_CATALOG", home.shared.catalog)
    monkeypatch.setenv("PLAYHEAD_LAKE_ENDPOINT", home.shared.endpoint)
    folder = tmp_path / "w"
    with Workspace.create(folder) as opened:
        load_dimensions(opened)
        load(opened, watches(12))
        opened.batch()
        wanted = {
            row["device_type"]: row["events"]
            for row in opened.query(
                "SELECT device_type, COUNT(*) AS events FROM playback GROUP BY 1"
            )
            .to_arrow()
            .to_pylist()
        }
        months = opened.full("monthly_engagement").to_arrow().num_rows
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    spark = ["".join(c["source"]) for c in cells if "spark" in c["metadata"].get("tags", [])]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(["import os", *spark, CHECKED])],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env={
            **os.environ,
            "PLAYHEAD_WORKSPACE": str(folder),
            "PLAYHEAD_SPARK_MASTER": "local[1]",
            "PLAYHEAD_SPARK_MEMORY": "1GB",
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [wanted, months]
