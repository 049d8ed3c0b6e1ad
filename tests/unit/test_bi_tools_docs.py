"""The examples of the pages on BI tools and batch runs do what the pages say."""

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from layers import load, load_dimensions, ordered, watches, workspace

DOCS = Path(__file__).parents[2] / "docs"


def examples(page: str) -> dict[str, Any]:
    """What the Python examples of a page define."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found: dict[str, Any] = {"__name__": page}
    for example in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        exec(compile(example, page, "exec"), found)  # noqa: S102
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with workspace(tmp_path_factory.mktemp("bi") / "w", "device_quality") as opened:
        load_dimensions(opened)
        load(opened, watches(30))
        opened.batch(full=True)
        opened.batch(full=True)
        return opened.path


def test_views_are_exported_as_parquet(path: Path, tmp_path: Path) -> None:
    export = examples("bi-tools.md")["export"]
    assert export(path, tmp_path / "out", ["device_quality"]) == []
    table = pq.read_table(tmp_path / "out" / "device_quality.parquet")
    with workspace(path, "device_quality") as opened:
        answer = opened.view("device_quality").to_arrow()
        assert table.schema.equals(answer.schema)
        assert ordered(table) == ordered(answer)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["device_quality.parquet"]


def test_a_view_without_an_answer_keeps_its_file(path: Path, tmp_path: Path) -> None:
    kept = tmp_path / "monthly_engagement.parquet"
    kept.write_bytes(b"the last one")
    names = ["monthly_engagement", "device_quality"]
    assert examples("bi-tools.md")["export"](path, tmp_path, names) == ["monthly_engagement"]
    assert kept.read_bytes() == b"the last one"
    assert (tmp_path / "device_quality.parquet").exists()


def test_pyiceberg_reads_each_event_once(path: Path) -> None:
    read_events = examples("bi-tools.md")["read_events"]
    assert read_events(path, "clean.playback").num_rows == 30
    files = (path / "lake" / "warehouse" / "clean").glob("playback-*/data/**/*.parquet")
    assert sum(pq.read_metadata(file).num_rows for file in files) > 30, "as the page warns"


def test_the_slowest_stage_of_the_last_run(path: Path) -> None:
    assert examples("operations.md")["slowest_stage"](path)
