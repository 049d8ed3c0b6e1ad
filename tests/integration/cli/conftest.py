"""One small data set and one workspace with both layers' states, made once for all CLI tests."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runner import run

SPLIT = "2024-02-25"
"""Files before this day are loaded; what is dated later goes through the speed layer."""

MakeCopy = Callable[[], Path]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The six files: 300 users, 60 titles, 2,000 sessions in 60 days from 2024-01-01."""
    folder = tmp_path_factory.mktemp("cli") / "data"
    size = "--users 300 --movies 60 --sessions 2000 --days 60"
    assert run("generate", folder, *size.split()).status == 0
    return folder


@pytest.fixture(scope="session")
def loaded(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after `load --until SPLIT` and `batch`; tests copy it before they change it."""
    workspace = tmp_path_factory.mktemp("cli") / "loaded"
    for command in (("init",), ("load", data, "--until", SPLIT), ("batch",)):
        done = run("-w", workspace, *command)
        assert done.status == 0, done.err
    return workspace


@pytest.fixture(scope="session")
def workspace(data: Path, loaded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loaded workspace with the rest of the events in speed states; tests only read it."""
    workspace = tmp_path_factory.mktemp("cli") / "both"
    shutil.copytree(loaded, workspace)
    for command in (("replay", data, "--from", SPLIT, "--rate", "max"), ("speed", "--drain")):
        done = run("-w", workspace, *command)
        assert done.status == 0, done.err
    return workspace


@pytest.fixture
def copy(loaded: Path, tmp_path: Path) -> Path:
    """A loaded workspace of the test's own."""
    shutil.copytree(loaded, tmp_path / "copy")
    return tmp_path / "copy"
