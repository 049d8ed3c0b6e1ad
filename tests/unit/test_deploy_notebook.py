"""deploy/notebooks/explore.ipynb: a whole notebook without outputs, whose cells run."""

import ast
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from deployment import DEPLOY
from layers import load_dimensions, send, watches
from playhead.assemble import Workspace

NOTEBOOK = json.loads((DEPLOY / "notebooks" / "explore.ipynb").read_text(encoding="utf-8"))
CELLS: list[dict[str, Any]] = NOTEBOOK["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def sources(tag: str) -> list[str]:
    return ["".join(cell["source"]) for cell in CODE if tag in cell["metadata"]["tags"]]


def test_it_is_a_notebook_of_format_4_5_without_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert set(NOTEBOOK) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)
    for cell in CELLS:
        needed = {"cell_type", "id", "metadata", "source"}
        more = {"execution_count", "outputs"} if cell in CODE else set()
        assert set(cell) == needed | more
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CODE)
    assert len(sources("api")) + len(sources("spark")) == len(CODE)


def test_cells_of_the_python_api_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Workspace.create(tmp_path / "w") as workspace:
        load_dimensions(workspace)
        send(workspace, watches(6))
        workspace.speed(drain=True)
        workspace.batch()
    monkeypatch.setenv("PLAYHEAD_WORKSPACE", str(tmp_path / "w"))
    names: dict[str, Any] = {}
    for source in sources("api"):
        exec(compile(source, "explore.ipynb", "exec"), names)  # noqa: S102
    assert sum(row["events"] for row in names["by_device"].to_pylist()) == 6
    assert names["table"].num_rows > 0
    assert names["are_equal"] is True


def test_cells_of_spark_name_what_is_there() -> None:
    imported = 0
    for source in sources("spark"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), node.module
                imported += 1
    assert imported >= 4
