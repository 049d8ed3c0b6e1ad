"""query, show, views, contracts: answers in every format, for people and for programs."""

import csv
import io
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from cli_runner import PROGRAM, run

import playhead
from playhead.views.dialects import DIALECTS

ROWS = """
    SELECT * FROM (VALUES
        (1, 1.10::DECIMAL(5, 2), DATE '2024-01-01', TIMESTAMP '2024-01-01 20:15:00', 'a,"b"', TRUE),
        (2, NULL, NULL, TIMESTAMP '2024-01-01 20:15:00.25', '', NULL)
    ) AS t(id, money, day, seen, said, yes) ORDER BY id
"""


def test_csv(workspace: Path) -> None:
    answer = run("-w", workspace, "query", ROWS, "--format", "csv")
    assert answer.status == 0
    assert answer.text == (
        "id,money,day,seen,said,yes\n"
        '1,1.10,2024-01-01,2024-01-01T20:15:00,"a,""b""",true\n'
        '2,,,2024-01-01T20:15:00.25,"",\n'
    )


def test_json(workspace: Path) -> None:
    answer = run("-w", workspace, "query", ROWS, "--format", "json")
    rows = json.loads(answer.text, parse_float=Decimal)
    assert rows[0] == {
        "id": 1,
        "money": Decimal("1.10"),
        "day": "2024-01-01",
        "seen": "2024-01-01T20:15:00",
        "said": 'a,"b"',
        "yes": True,
    }
    assert rows[1]["money"] is None
    assert '"money":1.10' in answer.text


def test_arrow(workspace: Path) -> None:
    answer = run("-w", workspace, "query", ROWS, "--format", "arrow")
    with pa.ipc.open_stream(answer.out) as stream:
        table = stream.read_all()
    assert table.column("money").to_pylist() == [Decimal("1.10"), None]
    assert table.schema.field("seen").type == pa.timestamp("us")


def test_table_is_whole_where_there_is_no_terminal(workspace: Path) -> None:
    wide = ", ".join(f"'{'x' * 60}{n}' AS column_{n}" for n in range(12))
    answer = run("-w", workspace, "query", f"SELECT {wide}")
    assert all(f"{'x' * 60}{n} " in answer.text for n in range(12))
    assert len(answer.text.splitlines()) == 5
    assert answer.err == "1 row\n"


def test_table_shows_the_first_rows_and_counts_all(workspace: Path) -> None:
    answer = run("-w", workspace, "query", "SELECT i FROM range(1234) t(i) ORDER BY i")
    assert "the first 50 of 1,234 rows" in answer.err
    assert len(answer.text.splitlines()) == 54
    limited = run("-w", workspace, "query", "SELECT i FROM range(1234) t(i)", "--limit", "7")
    assert "the first 7 of 1,234 rows" in limited.err


def test_table_escapes_what_would_break_it(workspace: Path) -> None:
    answer = run("-w", workspace, "query", "SELECT 'a' || chr(10) || chr(27) || '[31m' AS said")
    assert "a\\n\\x1b[31m" in answer.text


def test_limit_holds_for_every_format(workspace: Path) -> None:
    sql = "SELECT i FROM range(100) t(i) ORDER BY i"
    assert run("-w", workspace, "query", sql, "-f", "csv", "-n", "2").text == "i\n0\n1\n"
    assert json.loads(run("-w", workspace, "query", sql, "-f", "json", "-n", "2").text) == [
        {"i": 0},
        {"i": 1},
    ]
    arrow = run("-w", workspace, "query", sql, "-f", "arrow", "-n", "2").out
    assert pa.ipc.open_stream(arrow).read_all().num_rows == 2


def test_query_reads_stdin(workspace: Path) -> None:
    answer = run("-w", workspace, "query", "-", "-f", "csv", stdin="SELECT 42 AS answer")
    assert answer.text == "answer\n42\n"


@pytest.mark.parametrize("name", ["playback", "search", "impression", "rating", "users", "movies"])
def test_topics_and_dimensions_are_relations(workspace: Path, name: str) -> None:
    answer = run("-w", workspace, "query", f"SELECT COUNT(*) AS n FROM {name}", "-f", "csv")
    assert int(answer.text.splitlines()[1]) > 0


# -- show --------------------------------------------------------------------------------


def test_show_has_every_view_and_agrees_with_query(workspace: Path) -> None:
    with playhead.open(workspace) as opened:
        names = sorted(opened.views)
    for name in names:
        shown = run("-w", workspace, "show", name, "--format", "csv")
        assert shown.status == 0, shown.err
        asked = run("-w", workspace, "query", f"SELECT * FROM {name}", "--format", "csv")
        rows = [sorted(csv.reader(io.StringIO(answer.text))) for answer in (shown, asked)]
        assert rows[0] == rows[1]
        assert len(rows[0]) > 1
        assert "from batch" in shown.err
        assert "watermark" in shown.err


def test_show_begins_with_the_newest_window(workspace: Path) -> None:
    shown = run("-w", workspace, "show", "engagement_health", "--format", "json", "--limit", "50")
    starts = [row["window_start"] for row in json.loads(shown.text)]
    assert starts == sorted(starts, reverse=True)


def test_show_of_a_view_that_waits_says_what_to_do(copy: Path) -> None:
    (copy / "views" / "plays.sql").write_text(
        "SELECT device_type, COUNT(*) AS plays FROM playback GROUP BY device_type"
    )
    waits = run("-w", copy, "show", "plays")
    assert (waits.status, waits.text) == (1, "")
    assert "not built yet" in waits.err
    assert "playhead batch" in waits.err
    listed = {view["name"]: view for view in json.loads(run("-w", copy, "views", "--json").text)}
    assert listed["plays"]["ready"] is False
    assert "not built yet" in listed["plays"]["reason"]
    explained = run("-w", copy, "views", "show", "plays")
    assert explained.status == 0
    assert "not built yet" in explained.text
    assert run("-w", copy, "batch").status == 0
    assert run("-w", copy, "show", "plays", "-f", "csv").text.startswith("device_type,plays\n")


def test_a_view_that_cannot_merge_is_refused_by_name(copy: Path) -> None:
    (copy / "views" / "middling.sql").write_text(
        "SELECT device_type, MEDIAN(watch_duration_minutes) AS m FROM playback GROUP BY 1"
    )
    refused = run("-w", copy, "views")
    assert refused.status == 1
    assert "middling" in refused.err
    assert "MEDIAN" in refused.err.upper()


def test_mixed_versions_of_dimensions_are_warned_of(workspace: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(workspace, mixed)
    size = ["--users", "300", "--movies", "60", "--sessions", "0", "--seed", "2"]
    assert run("generate", tmp_path / "others", *size).status == 0
    for file in (tmp_path / "others").iterdir():
        if file.stem not in ("users", "movies"):
            file.unlink()
    assert run("-w", mixed, "load", tmp_path / "others").status == 0
    for asked in (["show", "monthly_engagement"], ["query", "FROM monthly_engagement"]):
        shown = run("-w", mixed, *asked)
        assert shown.status == 0, shown.err
        assert "warning: view monthly_engagement" in shown.err
        assert "versions of the dimensions" in shown.err
    assert run("-w", mixed, "batch").status == 0
    assert "warning" not in run("-w", mixed, "show", "monthly_engagement").err


# -- on a terminal -----------------------------------------------------------------------


def _on_terminal(*arguments: object, seconds: float, until: bytes) -> tuple[bytes, int]:
    """What a command draws on a terminal of 80 columns, ended by Ctrl-C once `until` is there."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(follower)
    drawn, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([leader], [], [], 0.1)[0]:
            try:
                drawn += os.read(leader, 65536)
            except OSError:
                break
        elif process.poll() is not None:
            break
        if until in drawn:
            process.send_signal(signal.SIGINT)
            until = b"\0never"
    status = process.wait(timeout=30)
    os.close(leader)
    return drawn, status


def test_watch_draws_until_interrupted(workspace: Path) -> None:
    drawn, status = _on_terminal(
        "-w", workspace, "show", "monthly_active_users", "--watch", "--every", "0.2",
        seconds=40, until=b"watermark",
    )  # fmt: skip
    assert status == 130
    assert b"monthly_active" in drawn
    assert b"Traceback" not in drawn


def test_wide_table_leaves_columns_out_on_a_terminal(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("-w", workspace, "show", "engagement_health", "-n", "3", terminal=True)
    assert shown.status == 0
    assert "window_start" in shown.text
    assert "alert_level" in shown.text
    assert "columns left out: " in shown.err
    assert len(shown.text.splitlines()) == 7


def test_arrow_refuses_a_terminal(workspace: Path) -> None:
    refused = run("-w", workspace, "query", "SELECT 1", "-f", "arrow", terminal=True)
    assert (refused.status, refused.text) == (1, "")
    assert "no text for a terminal" in refused.err


def test_contract_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    shown = run("contracts", "rating", terminal=True)
    assert shown.status == 0
    assert "helpful_votes" in shown.text


# -- views -------------------------------------------------------------------------------


def test_views_lists_all_that_are_ready(workspace: Path) -> None:
    listed = json.loads(run("-w", workspace, "views", "--json").text)
    assert all(view["ready"] and view["description"] for view in listed)
    windows = {view["name"]: view["window"] for view in listed}
    assert windows["engagement_health"] == "5 minutes"
    table = run("-w", workspace, "views")
    assert table.status == 0
    assert all(name in table.text for name in windows)


def test_view_is_explained(workspace: Path) -> None:
    explained = run("-w", workspace, "views", "show", "monthly_engagement")
    assert explained.status == 0
    for told in ("distinct titles, exact", "DECIMAL(38,2)", "distinct values", "SELECT", "hash"):
        assert told in explained.text
    view = json.loads(run("-w", workspace, "views", "show", "monthly_engagement", "--json").text)
    made_from = {column["name"]: column["made_from"] for column in view["columns"]}
    assert made_from["watch_year"] == ["playback.watch_date"]
    assert made_from["country"] == ["users.country"]
    assert "playback.movie_id" in view["states"][0]["reads"]
    assert view["states"][0]["topic"] == "playback"
    assert [part["topic"] for part in view["coverage"]] == ["playback"]


@pytest.mark.parametrize("plan", ["full", "partial", "merge", "final"])
def test_view_plans_are_sql_and_nothing_else(workspace: Path, plan: str) -> None:
    written = run("-w", workspace, "views", "show", "cohort_retention", "--sql", plan)
    assert written.status == 0
    assert "SELECT" in written.text
    assert written.err == ""


def test_plans_come_in_every_dialect(workspace: Path) -> None:
    asked = ("-w", workspace, "views", "show", "engagement_health", "--sql", "full")
    written = {run(*asked, "--dialect", dialect).text for dialect in DIALECTS}
    assert len(written) == len(DIALECTS) == 3
    assert run(*asked, "--dialect", "flink").status == 2


# -- contracts ---------------------------------------------------------------------------


def test_contracts_in_every_format() -> None:
    listed = run("contracts")
    assert all(name in listed.text for name in ("playback", "rating", "users", "movies"))
    table = run("contracts", "playback")
    assert "watch_duration_minutes" in table.text
    avro = json.loads(run("contracts", "playback", "--format", "avro").text)
    assert avro["type"] == "record"
    described = json.loads(run("contracts", "playback", "--json").text)
    assert described == json.loads(run("contracts", "playback", "--format", "json").text)
    assert {"name", "type", "required", "doc"} <= set(described["fields"][0])
    assert len(json.loads(run("contracts", "--json").text)) == 12
