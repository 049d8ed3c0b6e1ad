"""What `playhead doctor` says of a workspace and the parts that its settings name."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from lake_homes import SharedHome
from playhead.assemble import Workspace
from playhead.cluster.postgres import Postgres
from playhead.cluster.store import ObjectStore
from playhead.platform import doctor
from playhead.platform.doctor import Check, State, diagnose


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A workspace whose parts would listen at ports that are free."""
    Workspace.create(tmp_path / "w").close()
    (tmp_path / "w" / "playhead.toml").write_text(
        "".join(
            f'[{name}]\naddress = "127.0.0.1:{_free_port()}"\n'
            for name in ("gateway", "api", "dashboard")
        )
    )
    return tmp_path / "w"


@pytest.fixture(autouse=True)
def _settings_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLAYHEAD_DASHBOARD_ADDRESS")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wrong(checks: Iterable[Check]) -> dict[str, str]:
    """What is not fine, by part."""
    return {c.part: f"{c.told} -> {c.mend}" for c in checks if c.state != State.FINE}


def test_a_sound_workspace_is_fine(path: Path) -> None:
    found = list(diagnose(path))
    assert wrong(found) == {}
    parts = {check.part for check in found}
    assert {"versions", "workspace", "disk", "views", "event log", "lake"} <= parts
    assert {"gateway", "api", "dashboard"} <= parts
    assert not list(path.glob(".doctor*"))


def test_no_workspace_is_a_finding(tmp_path: Path) -> None:
    found = wrong(diagnose(tmp_path / "none"))
    assert list(found) == ["workspace"]
    assert "playhead -w" in found["workspace"]


def test_an_address_that_is_taken_is_named(path: Path) -> None:
    address = Workspace(path).settings.api.address
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))):
        found = wrong(diagnose(path))
    assert list(found) == ["api"]
    assert "set api.address" in found["api"]


def test_little_room_is_a_warning(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 1 << 60)
    found = [check for check in diagnose(path) if check.part == "disk"]
    assert [check.state for check in found] == [State.WARNING, State.FINE]
    assert "Make room" in found[0].mend


def test_a_view_that_cannot_be_used_is_named(path: Path) -> None:
    (path / "views" / "mine.sql").write_text("SELECT MEDIAN(progress_percentage) FROM playback")
    found = wrong(diagnose(path))
    assert list(found) == ["views"]
    assert "mine" in found["views"]


def test_spark_that_is_away_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYHEAD_SPARK_MASTER", f"spark://127.0.0.1:{_free_port()}")
    monkeypatch.setenv("PATH", str(path))
    found = wrong(diagnose(path))
    assert "java is not on PATH" in found["Spark: Java"]
    assert "openjdk" in found["Spark: Java"]
    assert "set spark.master" in found["Spark: master"]


def test_servers_that_are_away_are_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="missing: psycopg")
    monkeypatch.setenv("PLAYHEAD_LAKE_WAREHOUSE", "s3://nowhere/lake")
    monkeypatch.setenv("PLAYHEAD_LAKE_ENDPOINT", f"http://127.0.0.1:{_free_port()}")
    monkeypatch.setenv("PLAYHEAD_LAKE_CATALOG", f"postgresql://me@127.0.0.1:{_free_port()}/lake")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    found = wrong(diagnose(path))
    assert set(found) == {"lake: catalog", "lake: object store", "lake"}
    assert "PGPASSWORD" in found["lake: catalog"]
    assert "AWS_ACCESS_KEY_ID" in found["lake: object store"]


@pytest.mark.cluster
def test_servers_that_answer_are_fine(
    path: Path, database: Postgres, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = SharedHome(path.parent / "lakes", database, store)
    monkeypatch.setenv("PLAYHEAD_LAKE_WAREHOUSE", home.shared.warehouse)
    monkeypatch.setenv("PLAYHEAD_LAKE_CATALOG", home.shared.catalog)
    monkeypatch.setenv("PLAYHEAD_LAKE_ENDPOINT", home.shared.endpoint)
    found = list(diagnose(path))
    assert wrong(found) == {}
    told = {check.told for check in found if check.part == "lake: catalog"}
    assert any("PostgreSQL" in text for text in told)
    assert any("clock" in text for text in told)
    assert home.files() == set()


@pytest.mark.parametrize("json_wanted", [False, True])
def test_the_command_says_all_and_exits_with_1_if_something_failed(
    path: Path, *, json_wanted: bool
) -> None:
    command = [sys.executable, "-m", "playhead.cli", "-w", str(path), "doctor"]
    command += ["--json"] if json_wanted else []
    sound = subprocess.run(command, capture_output=True, text=True, check=False)
    assert sound.returncode == 0, sound.stdout
    (path / "views" / "mine.sql").write_text("SELECT nonsense FROM playback")
    ill = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ill.returncode == 1
    if json_wanted:
        states = [each["state"] for each in json.loads(ill.stdout)]
        assert states.count("failed") == 1
    else:
        assert "failed   views: " in ill.stdout
        assert "1 failed" in ill.stderr
