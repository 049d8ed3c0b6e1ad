"""A session that reads the lake's tables: what [spark] and [lake] say, put together."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from playhead.config import LakeSettings, SparkSettings
from playhead.engines.spark.conf import (
    CATALOG,
    ObjectStore,
    Setting,
    iceberg,
    jar_setting,
    on_one_machine,
    read_options,
    session_settings,
)
from playhead.engines.spark.session import spark_home, spark_session
from playhead.errors import SettingError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["check_reach", "lake_session", "lake_settings"]

_REGION = "us-east-1"


def check_reach(spark: SparkSettings, lake: LakeSettings) -> None:
    """Refuse what cannot work, before Spark is started.

    Raises:
        EngineError: pyspark or Java is not installed.
        SettingError: executors on other machines could not read the lake's files.
    """
    if not lake.warehouse and not on_one_machine(spark.master):
        raise SettingError(
            f"spark.master = {spark.master!r}: the lake is in the workspace's own folder, which "
            "a cluster cannot read",
            hint="Set lake.warehouse and lake.catalog to where the cluster reaches both, or "
            'spark.master = "local[*]".',
        )
    spark_home()


def lake_session(
    spark: SparkSettings,
    lake: LakeSettings,
    folder: Path,
    jars: Callable[[], Path],
    *,
    name: str = "playhead",
    streams: bool = False,
) -> "SparkSession":
    """A session of the process's driver with the lake's shared tables, as `playhead.raw.playback`.

    Temporary views and the catalog are its own: another session may have those of another lake.

    Args:
        folder: the workspace, to which `spark.options_file` is relative.
        jars: gives the folder of Spark's jars; asked only if one is needed.
        name: the application's, which the cluster's pages show.
        streams: whether Spark is to read Kafka's topics.

    Raises:
        EngineError, SettingError: as `check_reach` and `spark_session`.
    """
    check_reach(spark, lake)
    settings = lake_settings(spark, lake, folder, jars, streams=streams)
    tables = f"spark.sql.catalog.{CATALOG}"
    driver = spark_session([s for s in settings if not s.name.startswith(tables)], name=name)
    session = driver.newSession()
    for setting in settings:
        if setting.name.startswith(tables) or session.conf.isModifiable(setting.name):
            session.conf.set(setting.name, setting.value)
    return session


def lake_settings(
    spark: SparkSettings,
    lake: LakeSettings,
    folder: Path,
    jars: Callable[[], Path],
    *,
    streams: bool = False,
) -> tuple[Setting, ...]:
    """The settings of `lake_session`; the catalog's password and the store's keys among them.

    Raises:
        SettingError: as `session_settings` and `iceberg`.
    """
    options = read_options(folder / spark.options_file) if spark.options_file else ()
    # Whoever names jars has Iceberg's and Kafka's among them.
    given = any(option.name == "spark.jars" for option in options)
    if not lake.warehouse:
        added = jar_setting(jars()) if streams and not given else ()
        return session_settings(spark, (*added, *options))
    tables = iceberg(
        lake.warehouse,
        _catalog(lake.catalog),
        _store(lake),
        None if given else jars(),
        rest=_rest(lake.catalog),
    )
    return session_settings(spark, (*tables, *options))


def _catalog(address: str) -> str:
    """The catalog's address with the password of the environment, if there is one."""
    password = os.environ.get("PGPASSWORD")
    user, at, rest = address.removeprefix("postgresql://").rpartition("@")
    if not password or not at or not address.startswith("postgresql://"):
        return address
    return f"postgresql://{user}:{quote(password, safe='')}@{rest}"


def _rest(address: str) -> dict[str, str]:
    """What PyIceberg's own configuration of the catalog says, if it is a REST catalog."""
    if not address.startswith(("http://", "https://")):
        return {}
    from pyiceberg.utils.config import Config

    found = Config().get_catalog_config(CATALOG) or {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _store(lake: LakeSettings) -> ObjectStore | None:
    """The S3 store as this process reaches it; None: executors reach it by themselves."""
    if urlsplit(lake.warehouse).scheme != "s3":
        return None
    found = {name: os.environ.get(f"AWS_{name}", "") for name in _KEYS}
    if not lake.endpoint and not any(found.values()):
        return None
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or _REGION
    return ObjectStore(lake.endpoint, region, *found.values())


_KEYS = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")
