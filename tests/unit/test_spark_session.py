"""What Spark needs is looked for before it is started, and types have their Spark names."""

import subprocess
import sys
from pathlib import Path

import pytest

from playhead.engines.spark import session, spark_home, spark_session
from playhead.errors import EngineError
from playhead.views.dialects import spark_type, transpile


def test_the_engine_is_imported_without_pyspark() -> None:
    code = "import sys, playhead.engines.spark, playhead.cluster; print('pyspark' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


def test_without_pyspark_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.util, "find_spec", lambda _: None)
    with pytest.raises(EngineError, match=r"playhead\[spark\]"):
        spark_session()


def test_without_java_a_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="missing: pyspark")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="openjdk-17"):
        spark_home()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(EngineError, match="JAVA_HOME"):
        spark_home()


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("HUGEINT", "DECIMAL(38, 0)"),
        ("UBIGINT", "DECIMAL(20, 0)"),
        ("DECIMAL(12,2)", "DECIMAL(12, 2)"),
        ("TIMESTAMP", "TIMESTAMP_NTZ"),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP_LTZ"),
        ("VARCHAR[]", "ARRAY<STRING>"),
        (
            'STRUCT("start" TIMESTAMP, "end" TIMESTAMP)',
            "STRUCT<`start`: TIMESTAMP_NTZ, `end`: TIMESTAMP_NTZ>",
        ),
    ],
)
def test_types_have_their_spark_names(kind: str, wanted: str) -> None:
    assert spark_type(kind) == wanted


@pytest.mark.parametrize("condition", ["TRUE", "NULL", "had_typo"])
def test_a_condition_is_never_a_list_of_column_names(condition: str) -> None:
    # Spark reads `FROM events WHERE (x)` as a table alias "WHERE" with a column "x".
    text = " ".join(transpile(f"SELECT 1 FROM events WHERE ({condition})", "spark").split())
    assert text.endswith(f"WHERE {condition}")
