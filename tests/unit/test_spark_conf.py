"""Spark's settings: what is fixed, what a place and a profile add, the catalog, the docs."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from playhead.cli import app
from playhead.config import SparkSettings
from playhead.engines.spark.conf import (
    BALANCED,
    CLUSTER,
    FIXED,
    LOCAL,
    LOOPBACK,
    PROFILES,
    ObjectStore,
    Setting,
    as_properties,
    iceberg,
    is_secret,
    on_one_machine,
    read_options,
    session_settings,
    shuffle_partitions,
)
from playhead.errors import SettingError

PAGE = Path(__file__).parents[2] / "docs" / "spark.md"
STORE = ObjectStore("http://127.0.0.1:8333", "us-east-1", "reader", "hush")


def _values(settings: tuple[Setting, ...]) -> dict[str, str]:
    assert len({s.name for s in settings}) == len(settings)
    return {s.name: s.value for s in settings}


def test_a_session_of_one_machine_opens_no_port_and_starts_no_executor() -> None:
    found = _values(session_settings(SparkSettings()))
    assert found["spark.master"] == "local[*]"
    assert found["spark.driver.memory"] == "1907m"
    assert found["spark.driver.bindAddress"] == "127.0.0.1"
    assert found["spark.ui.enabled"] == "false"
    assert "spark.dynamicAllocation.enabled" not in found
    assert "spark.speculation" not in found


def test_a_cluster_gets_dynamic_allocation_and_speculation() -> None:
    found = _values(session_settings(SparkSettings(master="spark://spark.example.org:7077")))
    assert found["spark.dynamicAllocation.enabled"] == "true"
    assert found["spark.dynamicAllocation.shuffleTracking.enabled"] == "true"
    assert found["spark.speculation"] == "true"
    assert "spark.driver.host" not in found
    near = _values(session_settings(SparkSettings(master="spark://127.0.0.1:7077")))
    assert near["spark.driver.host"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("master", "is_one"),
    [("local", True), ("local[4]", True), ("spark://h:1", False), ("localhost", False)],
)
def test_which_masters_are_this_machine(master: str, is_one: bool) -> None:
    assert on_one_machine(master) is is_one


def test_profiles_differ_and_an_unknown_one_is_an_error() -> None:
    made = {name: _values(session_settings(SparkSettings(profile=name))) for name in PROFILES}
    assert set(made) == {"etl", "recommendation", "ml-training"}
    assert len({found["spark.executor.memory"] for found in made.values()}) == 3
    with pytest.raises(SettingError, match="no job profile"):
        session_settings(SparkSettings(profile="nightly"))


@pytest.mark.parametrize(
    ("size", "wanted"), [("4GB", "3814m"), ("2GiB", "2048m"), ("512 MB", "488m"), ("1KB", "1m")]
)
def test_memory_is_written_as_spark_reads_it(size: str, wanted: str) -> None:
    assert _values(session_settings(SparkSettings(memory=size)))["spark.driver.memory"] == wanted


@pytest.mark.parametrize(
    ("size", "cores", "wanted"),
    [(0, 1, 1), (0, 4, 4), (1, 1, 1), (128 << 20, 1, 1), ((128 << 20) + 1, 1, 2),
     (100 << 30, 8, 800), (1 << 60, 8, 10_000)],
)  # fmt: skip
def test_a_shuffle_has_a_partition_for_128_mb(size: int, cores: int, wanted: int) -> None:
    assert shuffle_partitions(size, cores=cores) == wanted


def test_options_win_but_for_what_answers_depend_on() -> None:
    more = Setting("spark.executor.memory", "30g", "mine.conf, line 1")
    assert _values(session_settings(SparkSettings(), [more]))["spark.executor.memory"] == "30g"
    for fixed in FIXED:
        session_settings(SparkSettings(), [Setting(fixed.name, fixed.value.upper(), "x")])
        with pytest.raises(SettingError, match="would change answers"):
            session_settings(SparkSettings(), [Setting(fixed.name, "other", "x")])


def test_options_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.conf"
    file.write_text("# ours\n\nspark.executor.memory 30g\nspark.eventLog.enabled = true\n")
    found = read_options(file)
    assert _values(found) == {"spark.executor.memory": "30g", "spark.eventLog.enabled": "true"}
    assert found[1].why == "mine.conf, line 4"
    file.write_text("executor.memory 30g\n")
    with pytest.raises(SettingError, match="line 1"):
        read_options(file)
    with pytest.raises(SettingError, match="options_file"):
        read_options(tmp_path / "none.conf")


def test_the_catalog_of_a_database_on_an_s3_store(tmp_path: Path) -> None:
    (tmp_path / "b.jar").touch()
    (tmp_path / "a.jar").touch()
    catalog = "postgresql+psycopg2://play:p%40ss@127.0.0.1:5433/lake?sslmode=disable"
    found = _values(iceberg("s3://events/lake", catalog, STORE, tmp_path))
    name = "spark.sql.catalog.playhead"
    assert found[name] == "org.apache.iceberg.spark.SparkCatalog"
    assert found[f"{name}.catalog-impl"] == "org.apache.iceberg.jdbc.JdbcCatalog"
    assert found[f"{name}.uri"] == "jdbc:postgresql://127.0.0.1:5433/lake?sslmode=disable"
    assert found[f"{name}.jdbc.user"] == "play"
    assert found[f"{name}.jdbc.password"] == "p@ss"
    assert found[f"{name}.jdbc.schema-version"] == "V1"
    assert found[f"{name}.cache-enabled"] == "false"
    assert found[f"{name}.warehouse"] == "s3://events/lake"
    assert found[f"{name}.io-impl"].endswith("S3FileIO")
    assert found[f"{name}.s3.endpoint"] == "http://127.0.0.1:8333"
    assert found[f"{name}.client.region"] == "us-east-1"
    assert found["spark.jars"] == f"{tmp_path}/a.jar,{tmp_path}/b.jar"


def test_other_catalogs_and_warehouses() -> None:
    rest = _values(iceberg("gs://events/lake", "https://catalog.example.org/api"))
    assert rest["spark.sql.catalog.playhead.type"] == "rest"
    assert rest["spark.sql.catalog.playhead.io-impl"].endswith("GCSFileIO")
    told = {"credential": "id:hidden", "scope": "lake", "warehouse": "events"}
    asked = iceberg("s3://events/lake", "https://catalog.example.org/api", rest=told)
    rest = _values(asked)
    assert rest["spark.sql.catalog.playhead.warehouse"] == "events"
    assert rest["spark.sql.catalog.playhead.scope"] == "lake"
    assert [s.value for s in asked if is_secret(s)] == ["id:hidden"]
    local = _values(iceberg("/srv/lake", "postgresql://db.example.org/lake"))
    assert local["spark.sql.catalog.playhead.uri"] == "jdbc:postgresql://db.example.org:5432/lake"
    assert "spark.sql.catalog.playhead.io-impl" not in local
    with pytest.raises(SettingError, match="not shared"):
        iceberg("/srv/lake", "sqlite:////srv/catalog.db")


def test_secrets_are_known_as_such() -> None:
    found = iceberg("s3://events/lake", "postgresql://play:p@127.0.0.1/lake", STORE)
    hidden = {s.name.removeprefix("spark.sql.catalog.playhead.") for s in found if is_secret(s)}
    assert hidden == {"jdbc.password", "s3.access-key-id", "s3.secret-access-key"}


def test_properties_are_what_the_options_reader_reads(tmp_path: Path) -> None:
    file = tmp_path / "spark.conf"
    settings = session_settings(SparkSettings(profile="ml-training"))
    file.write_text(as_properties(settings), encoding="utf-8")
    assert _values(read_options(file)) == _values(settings)


def test_the_command_shows_what_a_session_gets(tmp_path: Path) -> None:
    options = tmp_path / "mine.conf"
    options.write_text("spark.example.password hush\nspark.executor.cores 7\n")
    (tmp_path / "playhead.toml").write_text('[spark]\noptions_file = "mine.conf"\n')
    command = ["-w", str(tmp_path), "spark", "conf", "--profile", "recommendation"]
    shown = CliRunner().invoke(app, [*command, "--format", "properties"])
    assert shown.exit_code == 0, shown.output
    assert "spark.executor.cores 7\n" in shown.output
    assert "spark.executor.memory 6g\n" in shown.output
    assert "hush" not in shown.output
    table = CliRunner().invoke(app, command)
    assert "spark.sql.ansi.enabled" in table.output


def _documented() -> dict[str, list[str]]:
    """The settings' lines of each section of the page."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif re.match(r"\| `spark\.", line):
            found.setdefault(section, []).append(line)
    return found


def test_every_setting_is_documented_line_by_line() -> None:
    groups = {
        "What answers depend on": FIXED,
        "How work is cut and carried": BALANCED,
        "On one machine": (*LOOPBACK, *LOCAL),
        "On a cluster": CLUSTER,
        **{f"Profile {name}": settings for name, settings in PROFILES.items()},
    }
    wanted = {
        title: [f"| `{s.name}` | `{s.value}` | {s.why} |" for s in settings]
        for title, settings in groups.items()
    }
    assert _documented() == wanted, "docs/spark.md has to say what the code does"
