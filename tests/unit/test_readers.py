"""Files of every format become the same rows of text, each knowing its file and line."""

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from playhead.batch import records
from playhead.batch.readers import Progress, open_rows, source_columns
from playhead.batch.sources import find_sources
from playhead.contracts import contract
from playhead.engines import connect
from playhead.errors import LoadError

RATING = contract("rating")
COLUMNS = source_columns(RATING)
ROW = {
    "review_id": "r1",
    "user_id": "u1",
    "movie_id": "m1",
    "rating": "4",
    "review_date": "2025-03-29",
    "device_type": "Mobile",
    "is_verified_watch": "True",
    "helpful_votes": "3.0",
    "total_votes": "5.0",
    "review_text": "Fine.",
    "sentiment": "positive",
    "sentiment_score": "0.711",
}


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(threads=2) as connection:
        yield connection


def row(number: int, **values: str | None) -> dict[str, Any]:
    return {**ROW, "review_id": f"r{number}", **values}


def csv_text(*rows: dict[str, Any], columns: tuple[str, ...] = COLUMNS) -> str:
    lines = [",".join(columns)]
    lines += [",".join(str(r.get(c) or "") for c in columns) for r in rows]
    return "\n".join(lines) + "\n"


def read(
    folder: Path, con: duckdb.DuckDBPyConnection, *, ignore_unknown: bool = False
) -> list[dict[str, Any]]:
    source = find_sources(folder, ["reviews"])["reviews"]
    with open_rows(source, RATING, con, ignore_unknown=ignore_unknown) as rows:
        table = con.execute(f"FROM {rows.sql} ORDER BY _record").to_arrow_table()
    assert rows.read == table.num_rows
    assert table["_record"].to_pylist() == list(range(1, table.num_rows + 1))
    return table.to_pylist()


def rejects(rows: list[dict[str, Any]]) -> dict[int, tuple[str, str]]:
    return {r["_line"]: (r["_reject"], r["_raw"]) for r in rows if r["_reject"] is not None}


def good(rows: list[dict[str, Any]]) -> dict[int, str]:
    return {r["_line"]: r["review_id"] for r in rows if r["_reject"] is None}


# -- finding the files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "format_"),
    [
        (["reviews.csv"], "csv"),
        (["reviews.csv.gz"], "csv"),
        (["reviews.parquet"], "parquet"),
        (["reviews.jsonl"], "json"),
        (["reviews.ndjson.gz"], "json"),
        (["reviews.json"], "json"),
        (["reviews/b.csv", "reviews/a.csv", "reviews/_SUCCESS", "reviews/.a.csv.crc"], "csv"),
        (["reviews.parquet/part-0.parquet"], "parquet"),
        (["reviews-2025/a.jsonl", "reviews-2026/b.jsonl"], "json"),
        (["reviews.part-1.csv", "reviews.part-2.csv.gz"], "csv"),
    ],
)
def test_a_table_is_found_by_its_name(tmp_path: Path, names: list[str], format_: str) -> None:
    for name in [*names, "reviews.txt", "other.csv"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    source = find_sources(tmp_path, ["reviews", "users"])["reviews"]
    assert source.format == format_
    wanted = sorted(name for name in names if not Path(name).name.startswith(("_", ".")))
    assert [source.part_name(part) for part in source.parts] == wanted


def test_two_candidates_are_named(tmp_path: Path) -> None:
    for name in ("users.csv", "users.parquet"):
        (tmp_path / name).touch()
    with pytest.raises(LoadError, match=r"users\.csv and users\.parquet are both candidates"):
        find_sources(tmp_path, ["users"])


def test_parts_of_two_formats_are_refused(tmp_path: Path) -> None:
    for name in ("users.part-1.csv", "users.part-2.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(LoadError, match=r"several formats \(csv, json\)"):
        find_sources(tmp_path, ["users"])


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="is no folder"):
        find_sources(tmp_path / "absent", ["users"])


def test_the_digest_of_parts_knows_their_bytes_and_names(tmp_path: Path) -> None:
    digests = set()
    for name, text in (("a.csv", "x"), ("b.csv", "x"), ("a.csv", "y")):
        folder = tmp_path / f"{name}{text}"
        (folder / "users").mkdir(parents=True)
        (folder / "users" / name).write_text(text)
        digests.add(find_sources(folder, ["users"])["users"].sha256())
    assert len(digests) == 3


# -- CSV ------------------------------------------------------------------------------------------


def test_lines_are_physical_after_quoted_newlines_and_malformed_records(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    lines = csv_text(
        row(1, review_text='"two\nlines, ""quoted"""'), row(2), row(3), row(4)
    ).splitlines(keepends=True)
    lines[3:3] = ["too,few\n", "\n"]
    lines[6:6] = [lines[6].replace("\n", ",one more\n"), 'r9,"un"quoted\n']
    (tmp_path / "reviews.csv").write_text("".join(lines))
    rows = read(tmp_path, con)
    assert good(rows) == {2: "r1", 6: "r2", 9: "r3", 10: "r4"}
    assert rows[0]["review_text"] == 'two\nlines, "quoted"'
    assert rejects(rows) == {
        4: ("has 2 columns, the header has 12", "too,few"),
        7: ("has 13 columns, the header has 12", lines[6].rstrip()),
        8: ("text stands before or after a quoted value", 'r9,"un"quoted'),
    }


@pytest.mark.parametrize("block", [64, 1000, 1 << 20])
def test_blocks_and_parts_keep_count(
    tmp_path: Path,
    con: duckdb.DuckDBPyConnection,
    monkeypatch: pytest.MonkeyPatch,
    block: int,
) -> None:
    monkeypatch.setattr(records, "BLOCK_BYTES", block)
    (tmp_path / "reviews").mkdir()
    for part in range(2):
        rows = [row(10 * part + i, review_text='"a\nb"') for i in range(5)]
        text = csv_text(*rows).replace("r3,", "r3,more,")
        (tmp_path / "reviews" / f"{part}.csv").write_text(text)
    (tmp_path / "reviews" / "2.csv").touch()
    found = read(tmp_path, con)
    assert [(r["_file"], r["_line"]) for r in found] == [
        (f"reviews/{part}.csv", 2 + 2 * i) for part in range(2) for i in range(5)
    ]
    assert [r["_line"] for r in found if r["_reject"]] == [8]
    assert [r["review_id"] for r in found if not r["_reject"]] == [
        f"r{n}" for n in (0, 1, 2, 4, 10, 11, 12, 13, 14)
    ]


@pytest.mark.parametrize(
    "text",
    ["", "\n\r\n", ",".join(COLUMNS), ",".join(COLUMNS) + "\r\n", "\ufeff" + ",".join(COLUMNS)],
)
def test_a_file_without_rows_has_none(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, text: str
) -> None:
    (tmp_path / "reviews.csv").write_bytes(text.encode())
    assert read(tmp_path, con) == []


def test_bom_crlf_quoted_header_and_gzip(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    text = csv_text(row(1), row(2, review_text="")).replace("\n", "\r\n")
    text = text.replace("user_id", '"user_id"', 1).removesuffix("\r\n")
    (tmp_path / "reviews.csv.gz").write_bytes(gzip.compress(("\ufeff\n" + text).encode()))
    rows = read(tmp_path, con)
    assert good(rows) == {3: "r1", 4: "r2"}
    assert [r["review_text"] for r in rows] == ["Fine.", None]
    assert {k: v for k, v in rows[0].items() if k in ROW} == row(1)


def test_values_are_those_of_the_csv_module(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    texts = ["", " ", "a,b", 'say "hi"', "line\nbreak", "é\u2028\U0001f600", "NULL", "nan", "\r"]
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for i, text in enumerate(texts):
            writer.writerow(row(i, review_text=text).values())
    with path.open(newline="") as file:
        expected = [r["review_text"] or None for r in csv.DictReader(file)]
    assert [r["review_text"] for r in read(tmp_path, con)] == expected


@pytest.mark.parametrize(
    ("columns", "message", "hint"),
    [
        (("userid", *COLUMNS), "reviews.csv: unknown column 'userid'", "columns are"),
        (tuple(c.replace("user_", "User_") for c in COLUMNS), "'user_id' is missing", "'User_id'"),
        (tuple(c for c in COLUMNS if c != "review_date"), "'review_date' is missing", ""),
        ((*COLUMNS, "rating"), "'rating' is there twice", "Rename"),
        (tuple(c.replace("text", "txt") for c in COLUMNS), "'review_txt'", "'review_text'"),
    ],
)
def test_a_wrong_header_names_the_column_and_the_likely_slip(
    tmp_path: Path,
    con: duckdb.DuckDBPyConnection,
    columns: tuple[str, ...],
    message: str,
    hint: str,
) -> None:
    (tmp_path / "reviews.csv").write_text(csv_text(row(1), columns=columns))
    with pytest.raises(LoadError) as error:
        read(tmp_path, con)
    assert message in error.value.message
    assert hint in (error.value.hint or "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (csv_text(row(1)).replace(",", ";").encode(), "one single column"),
        (csv_text(row(1)).encode("utf-16"), "is UTF-16"),
        (b'review_id,"user_id\n', "header cannot be read"),
        (b"review\xff,user_id\n", "header cannot be read"),
    ],
)
def test_a_header_that_cannot_be_read(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, data: bytes, message: str
) -> None:
    (tmp_path / "reviews.csv").write_bytes(data)
    with pytest.raises(LoadError, match=message):
        read(tmp_path, con)


def test_unknown_columns_can_be_ignored_and_optional_ones_left_out(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    columns = ("extra", *(c for c in COLUMNS if c != "review_text"))
    (tmp_path / "reviews.csv").write_text(csv_text(row(1, extra="x"), columns=columns))
    source = find_sources(tmp_path, ["reviews"])["reviews"]
    with open_rows(source, RATING, con, ignore_unknown=True) as rows:
        found = con.execute(f"FROM {rows.sql}").to_arrow_table().to_pylist()
    assert rows.unknown == ("extra",)
    assert (found[0]["review_id"], found[0]["review_text"]) == ("r1", None)


@pytest.mark.parametrize("name", ["reviews.csv.gz", "reviews.jsonl.gz"])
def test_a_file_that_was_cut_short_is_an_error(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, name: str
) -> None:
    rows = [row(i, review_text=str(i * 7919 % 104729)) for i in range(90_000)]
    text = csv_text(*rows) if "csv" in name else "\n".join(map(json.dumps, rows))
    (tmp_path / name).write_bytes(gzip.compress(text.encode())[:-400])
    with pytest.raises(LoadError, match=rf"{name}: cannot be read"):
        read(tmp_path, con)


def test_progress_counts_rows_and_bytes(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text(csv_text(*map(row, range(100))))
    told: list[Progress] = []
    source = find_sources(tmp_path, ["reviews"])["reviews"]
    with open_rows(source, RATING, con, progress=told.append) as rows:
        con.execute(f"SELECT count(*) FROM {rows.sql}").fetchall()
    size = path.stat().st_size
    assert told[-1] == Progress("reviews", 100, size, size)


# -- JSON Lines -----------------------------------------------------------------------------------


def test_json_lines(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    lines = [
        json.dumps(row(1)),
        "",
        json.dumps({"review_id": "r2", "rating": 4, "is_verified_watch": True, "user_id": None}),
        '{"review_id": "r3", ',
        "[1, 2]",
        json.dumps({"review_id": "r4", "sentiment_score": 0.1}),
        '{"review_id": "r5", "helpful_votes": 3.0, "review_text": "é \\n \\"q\\" \\u00e9"}',
    ]
    (tmp_path / "reviews.jsonl").write_text("\ufeff" + "\r\n".join(lines))
    rows = read(tmp_path, con)
    assert good(rows) == {1: "r1", 3: "r2", 6: "r4", 7: "r5"}
    assert rejects(rows) == {
        4: ("line is no JSON", lines[3]),
        5: ("line is no JSON object", lines[4]),
    }
    found = {r["review_id"]: r for r in rows}
    assert {k: v for k, v in found["r1"].items() if k in ROW} == row(1)
    assert (found["r2"]["rating"], found["r2"]["is_verified_watch"]) == ("4", "true")
    assert found["r2"]["user_id"] is None
    assert found["r5"]["review_text"] == 'é \n "q" é'


def test_json_decimals_never_pass_through_a_float(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    numbers = ["1234567890123456.91", "0.12499999999999999999", "-1.5e3", '"7.25"']
    text = "".join(
        json.dumps({**ROW, "sentiment_score": "X"}).replace('"X"', number) + "\n"
        for number in numbers
    )
    (tmp_path / "reviews.jsonl").write_text(text)
    assert [r["sentiment_score"] for r in read(tmp_path, con)] == [n.strip('"') for n in numbers]


def test_an_unknown_field_fails_at_the_start_and_is_rejected_later(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    path = tmp_path / "reviews.jsonl"
    odd = json.dumps(row(0, revue="x"))
    path.write_text(odd)
    with pytest.raises(LoadError, match="unknown column 'revue'"):
        read(tmp_path, con)
    assert good(read(tmp_path, con, ignore_unknown=True)) == {1: "r0"}
    path.write_text("".join(json.dumps(row(i)) + "\n" for i in range(1500)) + odd)
    assert rejects(read(tmp_path, con)) == {1501: ("unknown field revue", odd)}


def test_a_json_array_is_no_json_lines(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    (tmp_path / "reviews.json").write_text(json.dumps([row(1)], indent=1))
    with pytest.raises(LoadError, match="is one JSON array"):
        read(tmp_path, con)


# -- Parquet --------------------------------------------------------------------------------------


def test_parquet_of_native_types(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    folder = tmp_path / "reviews"
    folder.mkdir()
    columns = {name: [ROW[name]] * 2 for name in COLUMNS if name != "review_text"}
    columns |= {"rating": [4, 5], "is_verified_watch": [True, False]}
    columns |= {"sentiment_score": [0.1, float("nan")], "helpful_votes": [3.0, None]}
    pq.write_table(pa.table(columns), folder / "a.parquet")
    pq.write_table(pa.table(columns).slice(0, 1), folder / "b.parquet")
    rows = read(tmp_path, con)
    assert [(r["_file"], r["_line"]) for r in rows] == [
        ("reviews/a.parquet", 1),
        ("reviews/a.parquet", 2),
        ("reviews/b.parquet", 1),
    ]
    assert [r["rating"] for r in rows] == ["4", "5", "4"]
    assert [r["sentiment_score"] for r in rows] == ["0.1", None, "0.1"]
    assert [r["helpful_votes"] for r in rows] == ["3.0", None, "3.0"]
    assert [r["is_verified_watch"] for r in rows] == ["true", "false", "true"]
    assert [r["review_text"] for r in rows] == [None, None, None]


def test_parquet_columns_are_checked(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    pq.write_table(
        pa.table({**{n: ["x"] for n in COLUMNS}, "z": [1]}), tmp_path / "reviews.parquet"
    )
    with pytest.raises(LoadError, match="unknown column 'z'"):
        read(tmp_path, con)
    assert len(read(tmp_path, con, ignore_unknown=True)) == 1


def test_damaged_parquet_is_an_error(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    (tmp_path / "reviews.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(LoadError, match=r"reviews\.parquet: cannot be read"):
        read(tmp_path, con)
