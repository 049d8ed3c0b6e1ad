"""The data set generator: its shapes and proportions, its dirt, and that a seed is its bytes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from hashlib import sha256
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead import contracts
from playhead.contracts import Contract
from playhead.errors import SettingError
from playhead.testing.generate import GenerateSpec, generate, spec, writing
from playhead.testing.generate.draws import Scatter, span

FILES = ("users", "movies", "watch_history", "reviews", "search_logs", "recommendation_logs")
SMALL = GenerateSpec(users=300, movies=80, sessions=4_000, days=90)

MINUTES = pa.decimal128(12, 2)
SCHEMAS = {
    "users": {
        "user_id": pa.string(), "email": pa.string(), "first_name": pa.string(),
        "last_name": pa.string(), "age": pa.int32(), "gender": pa.string(),
        "country": pa.string(), "state_province": pa.string(), "city": pa.string(),
        "subscription_plan": pa.string(), "subscription_start_date": pa.date32(),
        "is_active": pa.bool_(), "monthly_spend": pa.decimal128(12, 2),
        "primary_device": pa.string(), "household_size": pa.int32(),
        "created_at": pa.timestamp("us"),
    },
    "movies": {
        "movie_id": pa.string(), "title": pa.string(), "content_type": pa.string(),
        "genre_primary": pa.string(), "genre_secondary": pa.string(), "release_year": pa.int32(),
        "duration_minutes": MINUTES, "rating": pa.string(), "language": pa.string(),
        "country_of_origin": pa.string(), "imdb_rating": pa.decimal128(4, 2),
        "production_budget": pa.decimal128(18, 2), "box_office_revenue": pa.decimal128(18, 2),
        "number_of_seasons": pa.int32(), "number_of_episodes": pa.int32(),
        "is_netflix_original": pa.bool_(), "added_to_platform": pa.date32(),
        "content_warning": pa.bool_(),
    },
    "watch_history": {
        "session_id": pa.string(), "user_id": pa.string(), "movie_id": pa.string(),
        "watch_date": pa.date32(), "device_type": pa.string(), "watch_duration_minutes": MINUTES,
        "progress_percentage": pa.decimal128(5, 2), "action": pa.string(),
        "quality": pa.string(), "location_country": pa.string(), "is_download": pa.bool_(),
        "user_rating": pa.int32(),
    },
    "reviews": {
        "review_id": pa.string(), "user_id": pa.string(), "movie_id": pa.string(),
        "rating": pa.int32(), "review_date": pa.date32(), "device_type": pa.string(),
        "is_verified_watch": pa.bool_(), "helpful_votes": pa.int32(), "total_votes": pa.int32(),
        "review_text": pa.string(), "sentiment": pa.string(),
        "sentiment_score": pa.decimal128(9, 4),
    },
    "search_logs": {
        "search_id": pa.string(), "user_id": pa.string(), "search_query": pa.string(),
        "search_date": pa.date32(), "results_returned": pa.int32(),
        "clicked_result_position": pa.int32(), "device_type": pa.string(),
        "search_duration_seconds": MINUTES, "had_typo": pa.bool_(), "used_filters": pa.bool_(),
        "location_country": pa.string(),
    },
    "recommendation_logs": {
        "recommendation_id": pa.string(), "user_id": pa.string(), "movie_id": pa.string(),
        "recommendation_date": pa.date32(), "recommendation_type": pa.string(),
        "recommendation_score": pa.decimal128(9, 4), "was_clicked": pa.bool_(),
        "position_in_list": pa.int32(), "device_type": pa.string(), "time_of_day": pa.string(),
        "algorithm_version": pa.string(),
    },
}  # fmt: skip

DIRTY_SHARES = """
    SELECT avg((watch_date < subscription_start_date)::INT) AS early,
           avg((watch_duration_minutes > duration_minutes)::INT) AS longer,
           (SELECT count(*) FILTER (results_returned = 0 AND clicked_result_position IS NOT NULL)
               / greatest(count(*), 1) FROM search_logs) AS impossible,
           (SELECT count(*) FROM users WHERE age < 0 OR age > 100)
               / (SELECT count(*) FROM users) AS odd_ages,
           (SELECT count(*) FROM users WHERE monthly_spend > 100)
               / (SELECT count(*) FROM users) AS huge_spends
      FROM watch_history JOIN (SELECT DISTINCT * FROM users) USING (user_id)
      JOIN (SELECT DISTINCT * FROM movies) USING (movie_id)"""


def relations(folder: Path, suffix: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for name in FILES:
        path = folder / f"{name}.{suffix}"
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM '{path}'")
    return connection


def row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[float, ...]:
    found = connection.execute(query).fetchone()
    assert found is not None
    return found


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def real_sized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real_sized")
    generate(folder, GenerateSpec())
    return folder


@pytest.fixture(scope="module")
def dirty(real_sized: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with relations(real_sized, "parquet") as connection:
        yield connection


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    folder = tmp_path_factory.mktemp("clean")
    generate(folder, replace(GenerateSpec(), dirt=0))
    with relations(folder, "parquet") as connection:
        yield connection


def test_row_counts_are_those_of_the_real_set(tmp_path: Path) -> None:
    added: dict[str, int] = dict.fromkeys(FILES, 0)

    def count(name: str, rows: int) -> None:
        added[name] += rows

    written = generate(tmp_path, GenerateSpec(), progress=count)
    assert written == added
    assert written == {
        "users": 10_300, "movies": 1_040, "watch_history": 105_000, "reviews": 15_450,
        "search_logs": 26_500, "recommendation_logs": 52_000,
    }  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_parquet_has_exact_types_and_no_dictionaries(real_sized: Path, name: str) -> None:
    schema = pq.read_schema(real_sized / f"{name}.parquet")
    assert dict(zip(schema.names, schema.types, strict=True)) == SCHEMAS[name]


@pytest.mark.parametrize("contract", contracts.FILES.values(), ids=lambda c: c.name)
def test_files_fit_their_contracts(real_sized: Path, contract: Contract) -> None:
    table = pq.read_table(real_sized / f"{contract.file}.parquet")
    sources = {field.source: field for field in contract.fields if field.source}
    assert set(sources) == set(table.column_names)
    for source, field in sources.items():
        assert table.schema.field(source).type == field.type
        if field.values:
            assert set(table[source].unique().to_pylist()) <= {None, *field.values}


def test_csv_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    generate(tmp_path / "a", SMALL)
    generate(tmp_path / "b", SMALL, format="csv")
    with relations(tmp_path / "a", "parquet") as left:
        for name in FILES:
            path = tmp_path / "b" / f"{name}.csv"
            types = {row[0]: row[1] for row in left.execute(f"DESCRIBE {name}").fetchall()}
            text = f"FROM read_csv('{path}', columns = {types}, auto_detect = false, header = true)"
            for query in (f"FROM {name} EXCEPT ALL ({text})", f"({text}) EXCEPT ALL FROM {name}"):
                assert left.execute(query).fetchall() == []


def test_csv_is_written_as_the_real_files_are(tmp_path: Path) -> None:
    generate(tmp_path, SMALL, format="csv")
    for name, columns in SCHEMAS.items():
        text = (tmp_path / f"{name}.csv").read_text()
        header, _, rest = text.partition("\n")
        assert header.split(",") == list(columns)
        assert rest.endswith("\n")
        assert '"' not in text
        assert {line.count(",") for line in rest.splitlines()} == {len(columns) - 1}
    users = (tmp_path / "users.csv").read_text()
    assert "True" in users
    assert "true" not in users
    assert (tmp_path / "movies.csv").read_text().splitlines()[1].split(",")[6].endswith(".0")


@pytest.mark.needs_data
@pytest.mark.parametrize("name", FILES)
def test_headers_and_missing_values_are_as_in_the_real_files(
    real_data: Path, dirty: duckdb.DuckDBPyConnection, name: str
) -> None:
    columns = list(SCHEMAS[name])
    shares = ", ".join(f'1 - count("{column}") / count(*)' for column in columns)
    real = f"read_csv('{real_data / name}.csv', all_varchar = true)"
    assert [line[0] for line in dirty.execute(f"DESCRIBE FROM {real}").fetchall()] == columns
    wanted, got = (row(dirty, f"SELECT {shares} FROM {source}") for source in (real, name))
    tolerance = 0.05 if name == "movies" else 0.015
    assert dict(zip(columns, got, strict=True)) == pytest.approx(
        dict(zip(columns, wanted, strict=True)), abs=tolerance
    )


@pytest.mark.needs_data
def test_dirt_comes_at_the_real_rates(real_data: Path, dirty: duckdb.DuckDBPyConnection) -> None:
    with relations(real_data, "csv") as connection:
        early, longer, impossible, ages, spends = row(connection, DIRTY_SHARES)
    got = row(dirty, DIRTY_SHARES)
    assert got[0] == pytest.approx(early, abs=0.02)
    assert got[1] == pytest.approx(longer, abs=0.02)
    assert got[2:] == pytest.approx((impossible, ages, spends), rel=0.5)


def test_clean_means_clean(clean: duckdb.DuckDBPyConnection) -> None:
    assert row(clean, DIRTY_SHARES) == (0, 0, 0, 0, 0)
    for name in FILES:
        assert row(clean, f"SELECT count(*) FROM (SELECT DISTINCT * FROM {name})") == row(
            clean, f"SELECT count(*) FROM {name}"
        )
    added = "movies USING (movie_id) WHERE added_to_platform >"
    assert row(clean, f"SELECT count(*) FROM watch_history JOIN {added} watch_date") == (0,)
    missing = "watch_duration_minutes IS NULL OR progress_percentage IS NULL"
    assert row(clean, f"SELECT count(*) FROM watch_history WHERE {missing}") == (0,)
    assert row(clean, "SELECT count(*) FROM users WHERE COLUMNS(*) IS NULL") == (0,)


def test_half_the_dirt_is_half_the_rates(tmp_path: Path) -> None:
    generate(tmp_path, replace(GenerateSpec(), dirt=0.5))
    with relations(tmp_path, "parquet") as half:
        assert row(half, "SELECT count(*) FROM watch_history") == (102_500,)
        early, longer, *_ = row(half, DIRTY_SHARES)
        assert early == pytest.approx(0.105, abs=0.01)
        assert longer == pytest.approx(0.163, abs=0.01)


def test_duplicates_are_whole_rows_with_ids_that_exist(dirty: duckdb.DuckDBPyConnection) -> None:
    for name, columns in SCHEMAS.items():
        key = next(iter(columns))
        distinct = row(dirty, f"SELECT count(*) FROM (SELECT DISTINCT * FROM {name})")
        assert distinct == row(dirty, f"SELECT count(DISTINCT {key}) FROM {name}")


def test_facts_point_to_users_and_titles_that_exist(dirty: duckdb.DuckDBPyConnection) -> None:
    for name in ("watch_history", "reviews", "search_logs", "recommendation_logs"):
        assert row(dirty, f"SELECT count(*) FROM {name} ANTI JOIN users USING (user_id)") == (0,)
    for name in ("watch_history", "reviews", "recommendation_logs"):
        assert row(dirty, f"SELECT count(*) FROM {name} ANTI JOIN movies USING (movie_id)") == (0,)


def test_addresses_are_unique_and_nobodys(clean: duckdb.DuckDBPyConnection) -> None:
    assert row(clean, "SELECT count(DISTINCT email) FROM users") == (10_000,)
    pattern = r"^[a-z]+\.[a-z]+\d+@example\.(com|net|org)$"
    query = f"SELECT count(*) FROM users WHERE NOT regexp_matches(email, '{pattern}')"
    assert row(clean, query) == (0,)


@pytest.mark.parametrize(
    ("key", "busiest", "low", "high"), [("user_id", 0.1, 0.35, 0.55), ("movie_id", 0.1, 0.4, 0.75)]
)
def test_few_users_and_titles_make_most_sessions(
    clean: duckdb.DuckDBPyConnection, key: str, busiest: float, low: float, high: float
) -> None:
    (share,) = row(
        clean,
        f"""SELECT sum(n) FILTER (rank <= {busiest} * total) / sum(n) FROM
            (SELECT count(*) AS n, row_number() OVER (ORDER BY n DESC) AS rank,
                    count(*) OVER () AS total FROM watch_history GROUP BY {key})""",
    )
    assert low < share < high


def test_weekends_and_winters_are_busy(dirty: duckdb.DuckDBPyConnection) -> None:
    saturday, tuesday, december, june = row(
        dirty,
        """SELECT count(*) FILTER (dayofweek(watch_date) = 6),
                  count(*) FILTER (dayofweek(watch_date) = 2),
                  count(*) FILTER (month(watch_date) = 12),
                  count(*) FILTER (month(watch_date) = 6) FROM watch_history""",
    )
    assert saturday > 1.2 * tuesday
    assert december > 1.15 * june


def test_some_playback_goes_worse(dirty: duckdb.DuckDBPyConnection) -> None:
    bad, rest, overall = row(
        dirty,
        """SELECT avg(progress_percentage) FILTER (bad), avg(progress_percentage) FILTER (NOT bad),
                  avg(progress_percentage)
             FROM (SELECT *, device_type = 'Smart TV' AND quality = '4K'
                             AND genre_primary IN ('Action', 'Adventure', 'Sci-Fi') AS bad
                     FROM watch_history JOIN (SELECT DISTINCT * FROM movies) USING (movie_id))""",
    )
    assert bad < 30
    assert rest > 47
    assert 45 < overall < 51


def test_most_reviews_are_of_something_watched(dirty: duckdb.DuckDBPyConnection) -> None:
    (pairs,) = row(
        dirty, "SELECT count(*) FROM reviews SEMI JOIN watch_history USING (user_id, movie_id)"
    )
    assert pairs > 0.75 * 15_450


def test_verified_reviews_follow_the_viewing(clean: duckdb.DuckDBPyConnection) -> None:
    viewing = "w.user_id = r.user_id AND w.movie_id = r.movie_id AND w.watch_date <= r.review_date"
    query = f"SELECT count(*) FROM reviews r ANTI JOIN watch_history w ON {viewing}"
    assert row(clean, f"{query} WHERE is_verified_watch") == (0,)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_seed_is_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: writing.Format
) -> None:
    generate(tmp_path / "a", SMALL, format=suffix)
    monkeypatch.setattr(writing, "_MAX_AHEAD", 1)
    generate(tmp_path / "b", SMALL, format=suffix)
    generate(tmp_path / "c", replace(SMALL, seed=2), format=suffix)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert not set(digests(tmp_path / "a").values()) & set(digests(tmp_path / "c").values())


def test_many_blocks_in_any_number_of_threads_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec, "BLOCK_ROWS", 500)
    first = generate(tmp_path / "a", SMALL)
    monkeypatch.setattr(writing, "_MAX_AHEAD", 1)
    assert generate(tmp_path / "b", SMALL) == first
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    with relations(tmp_path / "a", "parquet") as connection:
        query = "SELECT count(*), count(DISTINCT session_id) FROM watch_history"
        assert row(connection, query) == (4_200, 4_000)
        query = "SELECT count(*) FROM reviews SEMI JOIN watch_history USING (user_id, movie_id)"
        assert row(connection, query)[0] > 0.7 * first["reviews"]


def test_counts_can_be_given(tmp_path: Path) -> None:
    given_counts = replace(SMALL, dirt=0, sessions=0, reviews=7, searches=0, recommendations=11)
    written = generate(tmp_path, given_counts)
    assert written["watch_history"] == written["search_logs"] == 0
    assert (written["reviews"], written["recommendation_logs"]) == (7, 11)
    assert pq.read_schema(tmp_path / "search_logs.parquet").names == list(SCHEMAS["search_logs"])


def test_ids_widen_together(tmp_path: Path) -> None:
    generate(tmp_path, GenerateSpec(users=100_000, movies=3, sessions=5))
    ids = pq.read_table(tmp_path / "users.parquet", columns=["user_id"])["user_id"].to_pylist()
    assert min(ids) == "user_000001"
    assert max(ids) == "user_100000"


@given(
    small=st.builds(
        GenerateSpec,
        users=st.integers(1, 30),
        movies=st.integers(1, 30),
        sessions=st.integers(0, 60),
        days=st.integers(1, 40),
        seed=st.integers(0, 2**63 - 1),
        dirt=st.sampled_from([0, 0.3, 1]),
        start=st.dates(date(1970, 1, 1), date(2200, 1, 1)),
    )
)
def test_any_small_set_is_sound(
    tmp_path_factory: pytest.TempPathFactory, small: GenerateSpec
) -> None:
    folder = tmp_path_factory.mktemp("any")
    generate(folder, small)
    with relations(folder, "parquet") as connection:
        first, last, outside = row(
            connection,
            f"""SELECT coalesce(min(watch_date - DATE '{small.start}'), 0),
                       coalesce(max(watch_date - DATE '{small.start}'), 0),
                       count(*) FILTER (user_id NOT IN (SELECT user_id FROM users))
                  FROM watch_history""",
        )
        assert 0 <= first <= last < small.days
        assert outside == 0
        if not small.dirt and small.sessions:
            assert row(connection, DIRTY_SHARES) == (0, 0, 0, 0, 0)


@given(st.integers(1, 3_000))
def test_scatter_is_a_permutation(count: int) -> None:
    assert sorted(Scatter(count).apply(np.arange(count)).tolist()) == list(range(count))


@given(st.integers(1, 40_000))
def test_spans_stay_inside_the_period(days: int) -> None:
    low, high = span(days, (-517, 577, 731))
    assert -517 * days / 731 <= low <= 0 <= high < days


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("users", 0), ("movies", -1), ("sessions", -5), ("days", 0), ("days", 40_000), ("seed", -1),
        ("dirt", 1.1), ("dirt", -0.1), ("dirt", float("nan")), ("dirt", "much"), ("dirt", True),
        ("users", 2.5), ("users", True), ("users", None), ("reviews", -1), ("sessions", "many"),
        ("start", date(1969, 1, 1)), ("start", datetime(2024, 1, 1)), ("start", "2024-01-01"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_named_with_its_value(name: str, value: object) -> None:
    with pytest.raises(SettingError) as caught:
        GenerateSpec(**{name: value})  # type: ignore[arg-type]
    assert f"{name} = {value!s}" in caught.value.message
    assert caught.value.hint is not None


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"orc.*\n.*parquet, csv"):
        generate(tmp_path, SMALL, format="orc")  # type: ignore[arg-type]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(SettingError, match="cannot be made a folder"):
        generate(tmp_path / "out", SMALL)


def test_a_set_in_another_format_is_not_mixed_in(tmp_path: Path) -> None:
    generate(tmp_path, SMALL, format="csv")
    with pytest.raises(SettingError, match=r"already holds users\.csv"):
        generate(tmp_path, SMALL)


def test_a_failure_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec, "BLOCK_ROWS", 500)

    def fail(name: str, rows: int) -> None:
        if name == "watch_history":
            raise OSError(28, "No space left on device")

    with pytest.raises(SettingError, match=r"watch_history\.parquet.*No space left"):
        generate(tmp_path, SMALL, progress=fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["movies.parquet", "users.parquet"]
