"""Groups of batch states in files: found again, replaced, never read when damaged."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from layers import Running, SmallWorkspace, load, rows, send, watches, workspace
from playhead.serving.history import KeptGroups
from playhead.serving.staterows import StateRows

GROUPS = pa.table({"k": ["x", None], "n": pa.array([1, None], pa.int64())})


def test_groups_are_found_for_their_snapshot_only(tmp_path: Path) -> None:
    kept = KeptGroups(tmp_path / "cache")
    assert kept.get("s", 1) is None
    kept.put("s", 1, GROUPS)
    kept.put("s_2", 1, GROUPS.slice(1))
    found = kept.get("s", 1)
    assert found is not None
    assert found.equals(GROUPS)
    assert kept.get("s", 2) is None
    kept.put("s", 2, GROUPS)
    assert kept.get("s", 1) is None
    assert kept.get("s_2", 1) is not None


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_damaged_groups_are_computed_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = KeptGroups(tmp_path)
    kept.put("s", 1, GROUPS)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 8
    file.write_bytes({"flip": bytes(content), "cut": bytes(content[:30]), "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert kept.get("s", 1) is None
    assert "s is computed anew" in caplog.text


def test_a_folder_that_cannot_be_written_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "cache", None):
        kept = KeptGroups(folder)
        kept.put("s", 1, GROUPS)
        assert kept.get("s", 1) is None


def test_a_new_process_reads_the_groups_and_not_the_history(tmp_path: Path) -> None:
    with workspace(tmp_path / "w", "countries", "counts") as opened:
        load(opened, watches(6))
        opened.batch()
        before = [rows(opened, "SELECT * FROM counts") for _ in range(2)]
    (file,) = (tmp_path / "w" / "cache").glob("counts*")
    with workspace_again(tmp_path / "w") as opened, Running(opened) as layer:
        assert rows(opened, "SELECT * FROM counts") == before[0]
        send(opened, watches(6, start=4))
        layer.step()
        (row,) = rows(opened, "SELECT * FROM counts")
        assert row == opened.full("counts").to_arrow().to_pylist()[0]
        assert row["events"] == 10
        layer.seal()
        opened.batch()
        assert rows(opened, "SELECT * FROM counts") == [row]
    assert not file.exists()


def workspace_again(path: Path) -> SmallWorkspace:
    opened = SmallWorkspace(path)
    opened.names = ("countries", "counts")
    return opened


def test_values_of_a_state_are_replaced_in_place() -> None:
    kinds = {
        "n": pa.int64(),
        "flag": pa.bool_(),
        "d": pa.decimal128(38, 2),
        "t": pa.timestamp("us"),
    }
    held = StateRows(["k"], kinds)
    schema = pa.schema([("k", pa.string()), *kinds.items()])
    first = pa.Table.from_pylist(
        [{"k": "a", "n": 1, "flag": True}, {"k": None, "d": -5, "t": 7}], schema=schema
    )
    places, hashed = held.find(first)
    assert places.tolist() == [-1, -1]
    held.add(first, hashed)
    many = pa.table({"k": [f"k{n}" for n in range(1000)]})
    for name, kind in kinds.items():
        many = many.append_column(name, pa.nulls(1000, kind))
    held.add(many, held.find(many)[1])
    places, _ = held.find(first)
    assert places.tolist() == [0, 1]
    assert pa.table(held.values(places)).equals(first.drop(["k"]))
    held.replace(np.array([1]), first.slice(0, 1))
    assert pa.table(held.values(np.array([1]))).equals(first.slice(0, 1).drop(["k"]))
    assert len(held) == 1002
