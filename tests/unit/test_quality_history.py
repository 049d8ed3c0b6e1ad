"""Quality over time: what each load's report said, the worst columns, the quarantine by rule."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from layers import SmallWorkspace, load_dimensions, watch_line, workspace, write_files
from playhead.batch.quality import METRICS
from playhead.clock import SystemClock
from playhead.ops.quality import QualityReader, measure_quality


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workspace with two loads of playback: twelve rows, then three."""
    folder = tmp_path_factory.mktemp("quality")
    with workspace(folder / "w", "counts", clock=SystemClock()) as opened:
        load_dimensions(opened)
        lines = [watch_line(n) for n in range(8)]
        lines += [{**watch_line(n), "device_type": f"Toaster {n}"} for n in range(8, 11)]
        lines += [{**watch_line(11), "quality": "12K" + "x" * 5_000}]
        opened.load(write_files(folder / "first", {"watch_history": lines}))
        more = [{**watch_line(n), "user_rating": 4} for n in range(20, 23)]
        opened.load(write_files(folder / "second", {"watch_history": more}))
        yield opened


def test_nothing_loaded_is_empty(tmp_path: Path) -> None:
    with workspace(tmp_path / "w", "counts") as opened:
        quality = measure_quality(opened)
    assert quality.loads.num_rows == quality.columns.num_rows == quality.quarantined == 0
    assert quality.worst == quality.rules == ()
    assert set(METRICS) <= set(quality.loads.column_names)


def test_each_load_has_a_row(loaded: SmallWorkspace) -> None:
    rows = measure_quality(loaded).loads.to_pylist()
    playback = [row for row in rows if row["table"] == "playback"]
    assert [row["rows"] for row in playback] == [12, 3]
    assert [row["enum_violations"] for row in playback] == [4, None]
    assert [row["load_id"] for row in playback] == sorted(row["load_id"] for row in playback)
    assert playback[0]["at"] < playback[1]["at"]
    last = {(m.table, m.metric): 0 for m in loaded.quality()}
    for metric in loaded.quality():
        last[metric.table, metric.metric] += metric.value or 0
    assert playback[1]["missing"] == last["playback", "missing"]


def test_worst_columns_are_of_the_last_load(loaded: SmallWorkspace) -> None:
    worst = measure_quality(loaded).worst
    assert all(metric.column and metric.share for metric in worst)
    shares = [metric.share for metric in worst]
    assert shares == sorted(shares, key=lambda share: -(share or Decimal(0)))
    assert set(worst) <= set(loaded.quality())
    assert ("missing", "user_rating") not in {(m.metric, m.column) for m in worst}


def test_values_of_columns_over_time(loaded: SmallWorkspace) -> None:
    rows = measure_quality(loaded).columns.to_pylist()
    found = {(row["load_id"], row["metric"], row["column"]): row for row in rows}
    first = min(row["load_id"] for row in rows)
    assert found[first, "enum_violations", "device_type"]["value"] == 3
    assert found[first, "enum_violations", "device_type"]["share"] == Decimal("0.250000")
    assert found[first, "missing", "user_rating"]["value"] == 12


def test_the_quarantine_by_rule(loaded: SmallWorkspace) -> None:
    quality = measure_quality(loaded)
    assert quality.quarantined == 4
    devices, quality_rule = quality.rules
    assert (devices.table, devices.rows) == ("playback", 3)
    assert quality_rule.rows == 1
    assert sum(rule.rows for rule in quality.rules) == 4
    assert [example.line for example in devices.examples] == [9, 10, 11]
    assert {example.column for example in devices.examples} == {"device_type"}
    assert "Toaster 8" in devices.examples[0].raw
    (long,) = quality_rule.examples
    assert len(long.raw) == 2_048


def test_what_a_later_load_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [{**watch_line(n), "device_type": "Toaster"} for n in range(4)]
    worse = {**watch_line(95), "action": "sleeping"}
    with workspace(tmp_path / "w", "counts") as opened, QualityReader(opened) as reader:
        opened.load(write_files(tmp_path / "first", {"watch_history": bad}))
        first = reader.read()
        reader._latest.forget()
        assert reader.read() is first
        opened.load(write_files(tmp_path / "second", {"watch_history": [worse]}))
        assert measure_quality(opened).loads.num_rows == first.loads.num_rows + 1
        monkeypatch.setattr("playhead.ops.quality.QUARANTINED", 1)
        (newest,) = measure_quality(opened).rules
        assert (newest.rows, newest.examples[0].column) == (1, "action")
        monkeypatch.setattr("playhead.ops.quality.QUARANTINED", 3)
        quality = measure_quality(opened)
    assert quality.quarantined == 5
    assert sum(rule.rows for rule in quality.rules) == 4
