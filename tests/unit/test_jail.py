"""The jail: SQL of strangers reads relations, whatever it tries."""

from collections.abc import Iterator

import duckdb
import pytest

from layers import Running, SmallWorkspace, load, load_dimensions, send, watches, workspace
from playhead.engines import connect
from playhead.errors import QueryError, QueryMemoryError, QueryTimeoutError
from playhead.serving import Session
from playhead.serving.jail import check_query, functions, jailed
from playhead.serving.stop import Stop

SECRET = "the secret of the file"  # noqa: S105 - a word to look for in answers


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallWorkspace]:
    made = workspace(tmp_path_factory.mktemp("jail") / "w", "counts", "windows", "countries")
    load_dimensions(made)
    load(made, watches(5))
    made.batch()
    with Running(made) as layer:
        send(made, watches(4, start=5, minute=5))
        layer.step()
    yield made
    made.close()


def make_jail(opened: SmallWorkspace) -> Session:
    return jailed(
        opened.lake,
        opened.log,
        opened.state,
        opened.views,
        connect(memory_limit="200MB", threads=1, temp_dir=opened.path / "tmp"),
        folder=opened.path / "lake",
        spill="100MB",
    )


@pytest.fixture(scope="module")
def jail(opened: SmallWorkspace) -> Iterator[Session]:
    (opened.path / "secret.csv").write_text(f"word\n{SECRET}\n", encoding="utf-8")
    made = make_jail(opened)
    yield made
    made.close()


def answers(jail: Session) -> bool:
    """Whether the jail answers as if nothing had happened."""
    table = jail.query("SELECT events FROM counts")
    return bool(table.column("events").to_pylist() == [9])


# -- what is read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM counts",
        "SELECT w.device_type, SUM(w.events) FROM windows AS w GROUP BY ALL ORDER BY 1",
        "SELECT COUNT(*) FROM playback JOIN users USING (user_id)",
        "FROM movies",
        "FROM alerts",
        "FROM quality_report",
        "WITH users AS (SELECT * FROM users) SELECT COUNT(*) FROM users",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 9) FROM t",
        "SELECT list_transform([1, 2], lambda x: x + 1), list_filter([1, 2], x -> x > 1)",
        "SELECT [x * 2 for x in [1, 2, 3] if x > 1], {'a': 1}.a, MAP {'a': 1}['a']",
        "SELECT i FROM range(3) AS t(i), unnest([1, 2]) AS u(j), generate_series(1, 2) AS g(k)",
        "SELECT ROW_NUMBER() OVER (ORDER BY user_id), LAG(user_id) OVER () FROM playback",
        "SELECT current_date, now() > TIMESTAMP '2020-01-01', '1' || 2, 'a' LIKE '%', 5 // 2",
        "FROM windows PIVOT (SUM(events) FOR device_type IN ('Mobile', 'Desktop'))",
        "FROM (SELECT 1 AS a, 2 AS b) UNPIVOT (v FOR n IN (a, b))",
        "SELECT APPROX_COUNT_DISTINCT(user_id), QUANTILE_CONT(watch_duration_minutes, 0.5), "
        "STRING_AGG(user_id, ',' ORDER BY user_id) FROM playback",
        "SELECT * FROM playback WHERE event_time >= TIMESTAMP '2025-01-01' ORDER BY ALL LIMIT 3",
        "SELECT TIME_BUCKET(INTERVAL '1 hour', event_time), COUNT(*) FROM playback GROUP BY 1",
        "SELECT * EXCLUDE (user_id) FROM playback QUALIFY ROW_NUMBER() OVER () = 1",
        "SELECT event_time AT TIME ZONE 'UTC', EXTRACT(year FROM event_time) FROM playback",
        "SELECT CAST('1' AS DECIMAL(9, 2)), TRY_CAST('x' AS INT), [1]::INT[], x'ab'::BLOB "
        "FROM (VALUES (1)) AS v(a)",
        "SELECT " + "(" * 3_000 + "1" + ")" * 3_000,
        "-- a comment\nSELECT /* another */ 1; -- the end",
    ],
)
def test_it_reads(jail: Session, sql: str) -> None:
    assert jail.query(sql).num_columns


# -- what is refused -----------------------------------------------------------------------

REFUSED = [
    # files, by functions, by names, in every disguise
    "FROM read_csv('{file}')",
    "FROM ReAd_CsV_auto('{file}')",
    "FROM \"read_csv\"('{file}')",
    "FROM read_text('/etc/passwd')",
    "FROM read_blob('/etc/passwd')",
    "FROM read_json('/etc/passwd')",
    "FROM read_json_objects('/etc/passwd')",
    "FROM read_ndjson('/etc/passwd')",
    "FROM read_parquet('{lake}/**/*.parquet')",
    "FROM parquet_scan('{lake}/**/*.parquet')",
    "FROM parquet_metadata('{lake}/**/*.parquet')",
    "FROM sniff_csv('{file}')",
    "FROM glob('/etc/*')",
    "FROM '/etc/passwd'",
    "FROM '{file}'",
    'FROM "{file}"',
    "SELECT * FROM '{lake}/**/*.parquet'",
    "FROM 's3://bucket/file.parquet'",
    "FROM 'https://127.0.0.1/file.csv'",
    "SELECT (SELECT word FROM '{file}')",
    "SELECT 1 WHERE EXISTS (FROM read_csv('{file}'))",
    "SELECT 1 UNION ALL SELECT content FROM read_text('/etc/passwd')",
    "SELECT * FROM counts, LATERAL (SELECT * FROM read_text('/etc/passwd'))",
    "WITH x AS (FROM read_csv('{file}')) FROM x",
    "WITH x AS MATERIALIZED (FROM '{file}') FROM x",
    'WITH "{file}" AS (SELECT * FROM "{file}") FROM "{file}"',
    'WITH RECURSIVE "{file}" AS (SELECT 1 UNION ALL SELECT * FROM "{file}") FROM "{file}"',
    "WITH read_csv AS (SELECT 1) FROM read_csv('{file}')",
    "SELECT list_transform(['/etc/passwd'], lambda f: (SELECT content FROM read_text(f)))",
    "FROM /* hidden */ read_csv /* here */ ('{file}')",
    "FROM main.read_csv('{file}')",
    "FROM system.main.read_csv('{file}')",
    # queries in texts
    "FROM query('FROM read_text(''/etc/passwd'')')",
    "FROM query_table('counts')",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT json_serialize_plan('FROM read_text(''/etc/passwd'')')",
    "SELECT json_deserialize_sql('x')",
    # DuckDB's own tables, settings and functions
    "FROM duckdb_settings()",
    "FROM duckdb_settings",
    "FROM duckdb_views",
    "FROM duckdb_secrets()",
    "FROM duckdb_functions()",
    "FROM duckdb_extensions()",
    "FROM duckdb_temporary_files()",
    "FROM duckdb_logs",
    "FROM pragma_database_list",
    "FROM pragma_version()",
    "FROM pragma_table_info('counts')",
    "FROM pragma_platform()",
    "FROM sqlite_master",
    "FROM pg_catalog.pg_class",
    "FROM pg_class",
    "FROM information_schema.tables",
    'FROM "INFORMATION_SCHEMA"."TABLES"',
    "FROM memory.main.counts",
    "FROM temp.main.counts",
    "WITH duckdb_views AS MATERIALIZED (FROM duckdb_views) FROM duckdb_views",
    "WITH RECURSIVE pg_class AS (FROM pg_class UNION ALL FROM pg_class) FROM pg_class",
    "SELECT current_setting('home_directory')",
    "SELECT CURRENT_SETTING('temp_directory')",
    "SELECT \"current_setting\"('temp_directory')",
    "SELECT system.main.current_setting('temp_directory')",
    "SELECT 'temp_directory'.current_setting()",
    "SELECT list_transform(['temp_directory'], x -> current_setting(x))",
    "SELECT getenv('HOME')",
    "SELECT getvariable('x')",
    "SELECT version()",
    "SELECT pg_get_viewdef(1)",
    "SELECT nextval('x')",
    "SELECT write_log('x')",
    "SELECT sleep_ms(100000)",
    "SELECT pg_sleep(1000)",
    # its UHUGEINT has more digits than Arrow's decimals, which would be wrong
    "SELECT md5_number('x')",
    "SELECT arrow_scan(1, 2, 3)",
    "FROM arrow_scan(1, 2, 3)",
    "FROM python_map_function()",
    "FROM pandas_scan(1)",
    "FROM test_all_types()",
    "FROM checkpoint()",
    "FROM force_checkpoint()",
    "FROM seq_scan('counts')",
    "FROM secret_table",
    "FROM raised_alerts",
    # other statements
    "ATTACH '{folder}/x.db'",
    "COPY (SELECT 1) TO '{folder}/x.csv'",
    "COPY counts FROM '{file}'",
    "EXPORT DATABASE '{folder}/x'",
    "IMPORT DATABASE '{folder}/x'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '100GB'",
    "SET GLOBAL lock_configuration = false",
    "RESET memory_limit",
    "PRAGMA database_list",
    "PRAGMA enable_logging",
    "CALL pragma_version()",
    "USE temp",
    "CREATE TABLE x AS SELECT 1",
    "CREATE OR REPLACE TEMP VIEW counts AS SELECT 1",
    "CREATE MACRO abs(x) AS 1",
    "CREATE SECRET x (TYPE s3)",
    "INSERT INTO counts VALUES (1)",
    "UPDATE counts SET events = 1",
    "DELETE FROM counts",
    "DROP VIEW counts",
    "ALTER TABLE counts RENAME TO x",
    "BEGIN",
    "VACUUM",
    "CHECKPOINT",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "DEALLOCATE x",
    "EXPLAIN SELECT * FROM counts",
    "EXPLAIN ANALYZE SELECT * FROM playback",
    "/* first */ EXPLAIN SELECT * FROM playback",
    "-- first\nEXPLAIN SELECT * FROM playback",
    "\u00a0EXPLAIN SELECT * FROM playback",
    "-- EXPLAIN\nEXPLAIN ANALYZE CREATE TABLE x AS \nSELECT 1",
    "-- EXPLAIN\nEXPLAIN ANALYZE FROM read_blob('{lake}/**') SELECT 'a' UNION ALL \nSELECT 'a'",
    "DESCRIBE counts",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SUMMARIZE playback",
    "FROM (DESCRIBE '{file}')",
    "FROM (SHOW ALL TABLES)",
    "FROM (SUMMARIZE '{file}')",
    "FROM (PIVOT counts ON events)",
    "PIVOT counts ON events",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{folder}/x.csv'",
    "SELECT 1 /* ; */; ATTACH '{folder}/x.db'",
    "SELECT ?",
    "SELECT $secret",
    "FROM counts AT (VERSION => 1)",
    "",
    ";",
    "-- nothing",
    "no sql at all",
    "SELECT",
    "SELECT * FROM 1",
    "SELECT '\0'",
    "\0",
    "SELECT " + "1 + " * 30_000 + "1",
    "SELECT '" + "x" * 200_000 + "'",
]


@pytest.mark.parametrize("attempt", REFUSED, ids=lambda sql: sql[:60].replace("\0", "NUL"))
def test_it_refuses(jail: Session, opened: SmallWorkspace, attempt: str) -> None:
    places = {"file": f"{opened.path}/secret.csv", "lake": f"{opened.path}/lake"}
    sql = attempt
    for name, place in {**places, "folder": str(opened.path)}.items():
        sql = sql.replace(f"{{{name}}}", place)
    with pytest.raises(QueryError) as refused:
        jail.query(sql)
    assert SECRET not in str(refused.value)
    assert not list(opened.path.glob("x*"))
    assert answers(jail)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('/etc/passwd')",
        "FROM '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "ATTACH '/tmp/x.db'",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "SET TimeZone = 'America/New_York'",
        "SET lock_configuration = false",
        "SET enable_external_access = true",
        "FROM here",
    ],
)
def test_the_second_wall_holds_alone(jail: Session, sql: str) -> None:
    here = [1]
    with jail._connection.cursor() as connection, pytest.raises(duckdb.Error):
        connection.execute(sql).fetchall()
    assert here


def test_sessions_in_the_jail_are_in_utc(jail: Session) -> None:
    sql = "SELECT CAST(TIMESTAMPTZ '2025-01-01 00:00:00+00' AS VARCHAR) AS t"
    assert jail.query(sql).to_pylist() == [{"t": "2025-01-01 00:00:00+00"}]


# -- what is ended -------------------------------------------------------------------------

ENDLESS = [
    "SELECT COUNT(*) FROM range(1000000000) AS a, range(1000000000) AS b",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT MAX(n) FROM t",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n FROM t) SELECT COUNT(*) FROM t",
    "SELECT SUM(hash(a.event_id || i)) FROM playback AS a, range(10000000000) AS r(i)",
    "SELECT COUNT(*) FROM range(100000000000) AS t(i) WHERE regexp_matches(i::VARCHAR, '(1*)*2')",
    "SELECT MAX(list_sum(range(i % 1000))) FROM range(1000000000) AS t(i)",
]


@pytest.mark.parametrize("sql", ENDLESS)
def test_an_endless_query_is_ended(jail: Session, sql: str) -> None:
    stop = Stop(0.3)
    with pytest.raises(QueryTimeoutError, match=r"longer than 0\.3 s"), jail.until(stop):
        jail.query(sql)
    assert answers(jail)


def test_a_cancelled_query_ends(jail: Session) -> None:
    stop = Stop()
    stop.cancel()
    with pytest.raises(QueryTimeoutError, match="cancelled"), jail.until(stop):
        jail.query("SELECT 1")
    assert answers(jail)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT LEN(LIST(i)) FROM range(1000000000) AS t(i)",
        "SELECT LEN(range(1000000000000))",
        "SELECT COUNT(*) FROM (SELECT DISTINCT hash(i) || i AS k FROM range(100000000) AS t(i))",
    ],
)
def test_a_greedy_query_is_ended(jail: Session, sql: str) -> None:
    with pytest.raises((QueryMemoryError, QueryError)), jail.until(Stop(60)):
        jail.query(sql)
    assert answers(jail)


def test_a_limit_takes_the_first_rows(jail: Session) -> None:
    table = jail.query("SELECT i FROM range(1000000) AS t(i) ORDER BY i DESC", limit=2)
    assert table.column("i").to_pylist() == [999_999, 999_998]
    assert jail.query("SELECT 1 WHERE FALSE", limit=2).num_rows == 0
    assert jail.query("SELECT 1", limit=0).num_rows == 0


# -- the list of functions -----------------------------------------------------------------


def test_functions_of_the_list_are_there_and_tell_nothing() -> None:
    with connect() as connection:
        rows = connection.execute("SELECT DISTINCT lower(function_name) FROM duckdb_functions()")
        known = {name for (name,) in rows.fetchall()}
    assert functions() - known <= {"->", "unnest", "row"}
    telling = ("current_setting", "getvariable", "version", "nextval", "json_serialize_plan")
    assert functions().isdisjoint({*telling, "write_log", "sleep_ms", "query", "read_text"})


def test_a_part_that_is_not_known_is_refused() -> None:
    with pytest.raises(QueryError, match="new thing is refused"):
        check_query({"type": "NEW_THING"}, "FROM x")
