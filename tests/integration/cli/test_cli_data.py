"""init, generate, load, quality: data comes in, and a report comes out."""

import json
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from cli_runner import run

from playhead.testing.generate import GenerateSpec

FILES = ["movies", "recommendation_logs", "reviews", "search_logs", "users", "watch_history"]
CLEAN_CSV = ["--dirt", "0", "--format", "csv"]


def test_init_makes_a_workspace_and_leaves_one_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "place"
    assert run("-w", folder, "init").status == 0
    (folder / "playhead.toml").write_text("[speed]\ntrigger_ms = 500\n")
    again = run("-w", folder, "init")
    assert (again.status, again.text) == (0, "")
    assert (folder / "playhead.toml").read_text() == "[speed]\ntrigger_ms = 500\n"


def test_init_refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    refused = run("-w", tmp_path, "init")
    assert refused.status == 1
    assert "thesis.txt" in refused.err


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    run("-w", tmp_path / "ws", "init")
    (tmp_path / "ws" / "playhead.toml").write_text("[speed]\ntriger_ms = 5\n")
    failed = run("-w", tmp_path / "ws", "views")
    assert failed.status == 1
    assert "Did you mean trigger_ms?" in failed.err


# -- generate ----------------------------------------------------------------------------


def test_generate_makes_equal_files_of_equal_seeds(tmp_path: Path) -> None:
    size = [
        "--users",
        "20",
        "--movies",
        "10",
        "--sessions",
        "50",
        "--days",
        "9",
        "--seed",
        "7",
        "--dirt",
        "0",
        "--format",
        "csv",
    ]
    for name in ("a", "b"):
        made = run("generate", tmp_path / name, *size)
        assert (made.status, made.text) == (0, "")
        assert "watch_history 50" in made.err
    names = sorted(path.stem for path in (tmp_path / "a").iterdir())
    assert names == FILES
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_generate_shows_the_defaults_that_it_has() -> None:
    shown = " ".join(run("generate", "--help").text.split())
    spec = GenerateSpec()
    for value in (spec.users, spec.movies, spec.sessions, spec.days, spec.seed, int(spec.dirt)):
        assert f"[default: ({value:,})" in shown


def test_generate_into_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    failed = run("generate", tmp_path / "taken", "--sessions", "1")
    assert failed.status == 1
    assert "taken" in failed.err


# -- load --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files: users in order; of three sessions, one breaks the contract and one repeats."""
    folder = tmp_path_factory.mktemp("dirty")
    size = [
        "--users",
        "3",
        "--movies",
        "3",
        "--sessions",
        "3",
        "--days",
        "9",
        "--dirt",
        "0",
        "--format",
        "csv",
    ]
    assert run("generate", folder, *size).status == 0
    for path in folder.iterdir():
        if path.stem not in ("users", "watch_history"):
            path.unlink()
    sessions = folder / "watch_history.csv"
    header, first, *rest = sessions.read_text().splitlines()
    broken = rest[0].replace(rest[0].split(",")[0], "session_broken").replace("20", "x", 1)
    sessions.write_text("\n".join([header, first, first, broken, *rest[1:]]) + "\n")
    return folder


def test_load_reports_and_counts_every_row(dirty: Path, tmp_path: Path) -> None:
    run("-w", tmp_path / "ws", "init")
    done = run("-w", tmp_path / "ws", "load", dirty, "--json")
    assert done.status == 0, done.err
    report = json.loads(done.text, parse_float=Decimal)
    tables = {entry["table"]: entry for entry in report["tables"]}
    assert tables["users"]["status"] == "loaded"
    sessions = tables["playback"]
    assert sessions["read"] == 4
    assert sessions["read"] == (
        sessions["quarantined"] + sum(sessions["dropped"].values()) + sessions["written"]
    )
    assert (sessions["quarantined"], sessions["dropped"]["duplicate row"]) == (1, 1)
    assert tables["movies"]["status"] == "missing"
    assert "warning: no movies.* in" in done.err
    assert "engagement_health" in done.err, "views that need the missing file are named"
    assert {metric["metric"] for metric in report["quality"]} > {"rows", "full_row_duplicates"}
    quarantined = run("-w", tmp_path / "ws", "query", "FROM quarantine", "--format", "json")
    (row,) = json.loads(quarantined.text)
    assert (row["file"], row["line"]) == ("watch_history.csv", 4)


def test_load_twice_says_so(data: Path, copy: Path) -> None:
    again = run("-w", copy, "load", data, "--until", "2024-02-25")
    assert again.status == 0
    assert again.text.count("already loaded") == 6


def test_load_shows_a_table_and_the_headline_of_quality(data: Path, tmp_path: Path) -> None:
    run("-w", tmp_path / "ws", "init")
    done = run("-w", tmp_path / "ws", "load", data, "--since", "2024-02-01")
    assert done.status == 0
    assert "duplicate row" in done.text
    assert "full-row duplicates" in done.text.splitlines()[-1]


def test_load_of_an_empty_folder_fails(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    failed = run("-w", copy, "load", tmp_path / "empty")
    assert (failed.status, failed.text) == (1, "")
    assert "holds none of" in failed.err


def test_load_goes_on_after_a_bad_file_and_fails(tmp_path: Path, data: Path) -> None:
    run("-w", tmp_path / "ws", "init")
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "users.csv").write_text("user_id,shoe_size\nu1,44\n")
    duckdb.execute(f"COPY (FROM '{data}/movies.parquet') TO '{folder}/movies.csv'")
    failed = run("-w", tmp_path / "ws", "load", folder)
    assert failed.status == 1
    assert "error: users.csv" in failed.err
    assert "Traceback" not in failed.err
    counted = run("-w", tmp_path / "ws", "query", "SELECT count(*) AS n FROM movies", "-f", "csv")
    assert counted.text == "n\n60\n"


def test_load_ignores_unknown_columns_when_told(tmp_path: Path, data: Path) -> None:
    run("-w", tmp_path / "ws", "init")
    folder = tmp_path / "files"
    folder.mkdir()
    duckdb.execute(
        f"COPY (SELECT *, 44 AS shoe_size FROM '{data}/users.parquet') TO '{folder}/users.csv'"
    )
    refused = run("-w", tmp_path / "ws", "load", folder)
    assert refused.status == 1
    assert "shoe_size" in refused.err
    done = run("-w", tmp_path / "ws", "load", folder, "--ignore-unknown-columns")
    assert done.status == 0
    assert "users.csv: ignored shoe_size" in done.err


# -- quality -----------------------------------------------------------------------------


def test_quality_as_tables_and_as_json(workspace: Path) -> None:
    tables = run("-w", workspace, "quality")
    assert tables.status == 0
    assert "full row duplicates" in tables.text
    metrics = json.loads(run("-w", workspace, "quality", "--json").text, parse_float=Decimal)
    rows = {m["table"]: m["value"] for m in metrics if m["metric"] == "rows"}
    assert set(rows) == {"users", "movies", "playback", "search", "impression", "rating"}
    assert all(isinstance(m["share"], Decimal | None) for m in metrics)


def test_quality_before_any_load_fails(tmp_path: Path) -> None:
    run("-w", tmp_path / "ws", "init")
    failed = run("-w", tmp_path / "ws", "quality")
    assert (failed.status, failed.text) == (1, "")
    assert "playhead load" in failed.err
