"""Which engine runs the batch layer: what is refused first, and when Spark is not started."""

from pathlib import Path
from typing import Any

import pytest

from layers import load, load_dimensions, watches, workspace
from playhead.batch.journal import batch_runs
from playhead.batch.recompute import Recomputer
from playhead.batch.shared.spark import SparkProcesses, told_by_tasks
from playhead.batch.shared.states import SharedStateEngine
from playhead.config import LakeSettings, SparkSettings, read_settings
from playhead.engines.spark import session
from playhead.engines.spark.conf import Setting
from playhead.engines.spark.lakes import lake_settings
from playhead.errors import EngineError, LakeAwayError, SettingError

NOBODY = "spark://127.0.0.1:9"


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    (tmp_path / "playhead.toml").write_text('[batch]\nengine = "flink"\n')
    with pytest.raises(SettingError, match='"duckdb" or "spark"'):
        read_settings(tmp_path)


def test_a_cluster_cannot_read_the_workspaces_own_lake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_BATCH_ENGINE", "Spark")
    monkeypatch.setenv("PLAYHEAD_SPARK_MASTER", NOBODY)
    with workspace(tmp_path / "w", "counts") as opened:
        with pytest.raises(SettingError, match=r"spark\.master") as refused:
            opened.batch()
        assert "lake.warehouse" in (refused.value.hint or "")
        (run,) = batch_runs(opened.path)
    assert (run.status, run.engine) == ("failed", "spark")


def test_spark_that_is_not_installed_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_BATCH_ENGINE", "spark")
    monkeypatch.setattr(session.util, "find_spec", lambda _: None)
    with (
        workspace(tmp_path / "w", "counts") as opened,
        pytest.raises(EngineError, match=r"playhead\[spark\]"),
    ):
        opened.batch()


def test_a_master_that_is_away_is_named() -> None:
    pytest.importorskip("pyspark", reason="missing: pyspark")
    with pytest.raises(EngineError, match=rf"spark.master = '{NOBODY}' does not answer") as away:
        session.spark_session([Setting("spark.master", NOBODY, "")])
    assert "spark.master" in (away.value.hint or "")


def test_spark_is_not_started_for_nothing(tmp_path: Path) -> None:
    def start() -> Any:
        raise AssertionError("there is nothing to compute")

    with (
        workspace(tmp_path / "w", "counts", "countries") as opened,
        opened._connect() as connection,
    ):
        load_dimensions(opened)
        load(opened, watches(5))
        opened.batch()
        recomputer = Recomputer(opened.lake, connection, SharedStateEngine(SparkProcesses(start)))
        runs = recomputer.run(opened.views.values(), epoch=0)
    assert {run.status for run in runs} == {"up to date"}


def test_a_sessions_settings_have_the_catalogs_password_and_the_stores_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "p@ss/word")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    lake = LakeSettings("s3://bucket/lake", "postgresql://me@db:5433/lake", "http://store:8333")
    jars = tmp_path / "jars"
    jars.mkdir()
    (jars / "a.jar").touch()

    def found(spark: SparkSettings) -> dict[str, str]:
        return {s.name: s.value for s in lake_settings(spark, lake, tmp_path, lambda: jars)}

    told = found(SparkSettings())
    catalog = "spark.sql.catalog.playhead"
    assert told["spark.jars"] == str(jars / "a.jar")
    assert told[f"{catalog}.jdbc.user"] == "me"
    assert told[f"{catalog}.jdbc.password"] == "p@ss/word"
    assert told[f"{catalog}.s3.secret-access-key"] == "hidden"
    assert told[f"{catalog}.client.region"] == "eu-north-1"
    assert f"{catalog}.s3.session-token" not in told
    (tmp_path / "own.conf").write_text("spark.jars /opt/own.jar\n")
    assert found(SparkSettings(options_file="own.conf"))["spark.jars"] == "/opt/own.jar"
    assert not [s for s in lake_settings(SparkSettings(), LakeSettings(), tmp_path, lambda: jars)
                if s.name.startswith(catalog)]  # fmt: skip


def raised_by_tasks(text: str) -> Exception:
    errors = pytest.importorskip("pyspark.errors", reason="missing: pyspark")
    with pytest.raises(Exception) as told, told_by_tasks("states of clean.t"):  # noqa: PT011
        raise errors.PySparkException(text)
    return told.value


def test_workers_without_playhead_are_told_of() -> None:
    error = raised_by_tasks("ModuleNotFoundError: No module named 'playhead'")
    assert isinstance(error, EngineError)
    assert "Spark's workers has no Playhead" in error.message
    assert "spark.pyspark.python" in (error.hint or "")


def test_what_a_task_raises_is_told_as_it_is() -> None:
    trace = "Job aborted\n  File x\nplayhead.errors.{}: the data file f is missing\n  Was it?\n"
    error = raised_by_tasks(trace.format("LakeAwayError"))
    assert isinstance(error, LakeAwayError)
    assert error.message == "states of clean.t: the data file f is missing"
    assert isinstance(raised_by_tasks(trace.format("Strange")), EngineError)
    assert isinstance(raised_by_tasks("Job aborted"), EngineError)
