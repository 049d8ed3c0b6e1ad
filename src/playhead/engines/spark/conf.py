"""Spark's settings as Playhead gives them, each with the reason: one place for code and docs.

Settings of later groups win: `FIXED` holds everywhere and nothing may change it, then come the
place (one machine or a cluster), the job's profile, and a file of the user's own.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from playhead.config import SparkSettings
from playhead.errors import SettingError

__all__ = [
    "BALANCED",
    "CATALOG",
    "CLUSTER",
    "FIXED",
    "LOCAL",
    "LOOPBACK",
    "PARTITION_BYTES",
    "PROFILES",
    "ObjectStore",
    "Setting",
    "as_properties",
    "iceberg",
    "is_secret",
    "jar_setting",
    "on_one_machine",
    "read_options",
    "session_settings",
    "shuffle_partitions",
]

CATALOG = "playhead"
"""The Iceberg catalog's name: in Spark, and in the shared catalog's own tables."""

PARTITION_BYTES = 128 << 20
"""What one task reads or gets from a shuffle."""

_MOST_PARTITIONS = 10_000
_MIB = 1 << 20
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True)
class Setting:
    """One of Spark's settings: its name, its value as text, and why it has it."""

    name: str
    value: str
    why: str


@dataclass(frozen=True)
class ObjectStore:
    """An S3 store: where it is, and by which keys it is read and written.

    Attributes:
        endpoint: empty: Amazon's own.
        access_key, secret_key: empty: executors have keys of their own, such as a role's.
        session_token: of keys that last a while; else empty.
    """

    endpoint: str
    region: str
    access_key: str
    secret_key: str
    session_token: str = ""


FIXED = (
    Setting("spark.sql.session.timeZone", "UTC", "times are UTC wherever a driver runs"),
    Setting("spark.sql.timestampType", "TIMESTAMP_NTZ", "a TIMESTAMP has no zone, as in DuckDB"),
    Setting(
        "spark.sql.ansi.enabled", "true", "a number that outgrows its type is an error, never NULL"
    ),
    Setting(
        "spark.sql.storeAssignmentPolicy", "ANSI", "what is written fits its column, or is refused"
    ),
    Setting(
        "spark.sql.decimalOperations.allowPrecisionLoss",
        "false",
        "a DECIMAL keeps all its digits after the point, or is an error",
    ),
    Setting("spark.sql.caseSensitive", "false", "names match in any case, as in DuckDB"),
    Setting(
        "spark.sql.parquet.outputTimestampType",
        "TIMESTAMP_MICROS",
        "times are read back by every engine to the microsecond",
    ),
)
"""What answers depend on: with other values, digits would differ between engines."""

BALANCED = (
    Setting("spark.sql.adaptive.enabled", "true", "plans are mended by the sizes that are met"),
    Setting(
        "spark.sql.adaptive.coalescePartitions.enabled",
        "true",
        "small shuffle partitions are read together",
    ),
    Setting(
        "spark.sql.adaptive.advisoryPartitionSizeInBytes",
        f"{PARTITION_BYTES >> 20}m",
        "what a task gets from a shuffle",
    ),
    Setting("spark.sql.files.maxPartitionBytes", f"{PARTITION_BYTES >> 20}m", "what a task reads"),
    Setting(
        "spark.sql.adaptive.skewJoin.enabled",
        "true",
        "a key with many events is joined by several tasks",
    ),
    Setting(
        "spark.sql.adaptive.skewJoin.skewedPartitionFactor",
        "5.0",
        "a partition is skewed if it is five times the median",
    ),
    Setting(
        "spark.sql.adaptive.skewJoin.skewedPartitionThresholdInBytes",
        "256m",
        "and larger than two ordinary ones",
    ),
    Setting(
        "spark.serializer",
        "org.apache.spark.serializer.KryoSerializer",
        "what is no row is half the size of Java's own form; rows have Spark's binary one",
    ),
    Setting("spark.kryoserializer.buffer.max", "256m", "a broadcast dimension fits"),
    Setting("spark.io.compression.codec", "zstd", "shuffles are a third smaller than by lz4"),
    Setting(
        "spark.sql.execution.arrow.pyspark.enabled", "true", "tables come and go as Arrow columns"
    ),
    Setting(
        "spark.sql.execution.arrow.maxRecordsPerBatch",
        "100000",
        "an Arrow table that is given becomes one task for so many rows",
    ),
    Setting("spark.ui.enabled", "false", "no port is opened that nobody asked for"),
    Setting("spark.ui.showConsoleProgress", "false", "data goes to stdout and nothing else does"),
)
"""What every session has beside `FIXED`: how work is cut and carried."""

LOOPBACK = (
    Setting("spark.driver.host", "127.0.0.1", "a master on this machine needs no other address"),
    Setting("spark.driver.bindAddress", "127.0.0.1", "and nobody else can reach the driver"),
)
"""Where the master is this machine."""

LOCAL = (
    Setting(
        "spark.sql.adaptive.coalescePartitions.parallelismFirst",
        "true",
        "cores of one machine share small inputs; 128 MB is the most a task gets",
    ),
)
"""Where the driver does all the work."""

CLUSTER = (
    Setting(
        "spark.sql.adaptive.coalescePartitions.parallelismFirst",
        "false",
        "128 MB a task is kept, instead of a task for each of many cores however small",
    ),
    Setting(
        "spark.dynamicAllocation.enabled", "true", "executors come with waiting tasks and go idle"
    ),
    Setting(
        "spark.dynamicAllocation.shuffleTracking.enabled",
        "true",
        "an executor stays while its shuffle files are needed: no shuffle service is",
    ),
    Setting("spark.dynamicAllocation.executorIdleTimeout", "60s", "and goes a minute after that"),
    Setting("spark.dynamicAllocation.minExecutors", "1", "one is there for the next query"),
    Setting("spark.decommission.enabled", "true", "a node that is taken away says so before"),
    Setting(
        "spark.storage.decommission.enabled", "true", "its blocks move, instead of being made anew"
    ),
    Setting("spark.speculation", "true", "a task on a slow node is run again elsewhere"),
    Setting("spark.speculation.multiplier", "3", "if it takes three times the median"),
    Setting("spark.speculation.quantile", "0.9", "and nine tenths of its stage are done"),
    Setting("spark.task.maxFailures", "4", "a lost executor costs a task, not the job"),
    Setting("spark.network.timeout", "120s", "an executor that is silent so long is gone"),
)
"""Where the master is a cluster's."""

PROFILES: Mapping[str, tuple[Setting, ...]] = {
    "etl": (
        Setting("spark.executor.memory", "2g", "states on their way, and shuffles of Spark's SQL"),
        Setting("spark.executor.cores", "2", "tasks of one executor share its memory"),
        Setting("spark.executor.memoryOverhead", "3g", "Python's workers: DuckDB has 1 GB a core"),
        Setting("spark.driver.maxResultSize", "1g", "answers are small; more is a mistake"),
        Setting("spark.memory.fraction", "0.7", "rows in flight, hardly an object"),
        Setting("spark.memory.storageFraction", "0.2", "nothing is cached but dimensions"),
        Setting("spark.sql.shuffle.partitions", "200", "before they are coalesced"),
        Setting("spark.shuffle.file.buffer", "1m", "fewer and larger writes of a shuffle"),
        Setting("spark.sql.autoBroadcastJoinThreshold", "64m", "users and titles are broadcast"),
    ),
    "recommendation": (
        Setting("spark.executor.memory", "6g", "pairs of users and titles are many"),
        Setting("spark.executor.cores", "3", "two gigabytes a task"),
        Setting("spark.executor.memoryOverhead", "2g", "Python's workers live here"),
        Setting("spark.driver.maxResultSize", "2g", "top lists of all users are collected"),
        Setting("spark.memory.fraction", "0.7", "rows in flight, hardly an object"),
        Setting("spark.memory.storageFraction", "0.4", "ratings are read again in each round"),
        Setting("spark.memory.offHeap.enabled", "true", "wide shuffles without garbage pauses"),
        Setting("spark.memory.offHeap.size", "2g", "a third of the heap"),
        Setting("spark.sql.shuffle.partitions", "400", "pairs outgrow the events they come from"),
        Setting("spark.shuffle.file.buffer", "1m", "fewer and larger writes of a shuffle"),
        Setting("spark.sql.autoBroadcastJoinThreshold", "256m", "factors of titles are broadcast"),
    ),
    "ml-training": (
        Setting("spark.executor.memory", "8g", "features stay in memory between rounds"),
        Setting("spark.executor.cores", "4", "native linear algebra shares its matrices"),
        Setting("spark.executor.memoryOverhead", "3g", "Python's workers and native libraries"),
        Setting("spark.driver.maxResultSize", "4g", "models are collected"),
        Setting("spark.memory.fraction", "0.8", "features, hardly an object"),
        Setting("spark.memory.storageFraction", "0.6", "what is cached is not thrown out by sorts"),
        Setting("spark.memory.offHeap.enabled", "true", "cached columns without garbage pauses"),
        Setting("spark.memory.offHeap.size", "4g", "half the heap"),
        Setting("spark.rdd.compress", "true", "what is cached takes half the memory"),
        Setting("spark.sql.shuffle.partitions", "200", "before they are coalesced"),
        Setting("spark.sql.autoBroadcastJoinThreshold", "64m", "users and titles are broadcast"),
        Setting(
            "spark.dynamicAllocation.cachedExecutorIdleTimeout",
            "30min",
            "an executor that holds features waits for the next round",
        ),
    ),
}
"""Job profiles; a smaller machine wants a file of its own options."""


def session_settings(spark: SparkSettings, options: Iterable[Setting] = ()) -> tuple[Setting, ...]:
    """Everything that a session is started with, each name once, in the order of the groups.

    Args:
        spark: section [spark] of the settings.
        options: of the user (`read_options`) and of the catalog (`iceberg`): the last word.

    Raises:
        SettingError: no such profile; an option changes what answers depend on.
    """
    if spark.profile not in PROFILES:
        raise SettingError(
            f"spark.profile = {spark.profile!r} is no job profile",
            hint=f"There are {', '.join(PROFILES)}.",
        )
    memory = Setting("spark.driver.memory", _spark_memory(spark.memory), "spark.memory")
    master = Setting("spark.master", spark.master, "spark.master")
    local = on_one_machine(spark.master)
    place = LOOPBACK if local or urlsplit(spark.master).hostname in _OWN else ()
    chosen = (*FIXED, *BALANCED, *place, *(LOCAL if local else CLUSTER), master, memory)
    found = {setting.name: setting for setting in (*chosen, *PROFILES[spark.profile])}
    fixed = {setting.name: setting for setting in FIXED}
    for option in options:
        if option.name in fixed and option.value.lower() != fixed[option.name].value.lower():
            raise SettingError(
                f"{option.name} = {option.value} ({option.why}) would change answers",
                hint=f"It has to be {fixed[option.name].value}: {fixed[option.name].why}.",
            )
        found[option.name] = option
    return tuple(found.values())


_OWN = ("127.0.0.1", "localhost", "::1")


def on_one_machine(master: str) -> bool:
    """Whether a master is this process itself: local, local[4], local[*]."""
    return master == "local" or master.startswith("local[")


def shuffle_partitions(input_bytes: int, *, cores: int = 1) -> int:
    """How many shuffle partitions an input needs at 128 MB each.

    Args:
        input_bytes: of what is read, uncompressed.
        cores: tasks that run at a time; no fewer partitions than this.
    """
    return min(max(math.ceil(input_bytes / PARTITION_BYTES), cores, 1), _MOST_PARTITIONS)


def read_options(file: Path) -> tuple[Setting, ...]:
    """A file of Spark's options: a name and a value a line, as in `spark-defaults.conf`.

    Raises:
        SettingError: it cannot be read, or a line is no option.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"spark.options_file: {file}: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        parts = re.fullmatch(r"(spark\.[^\s=]+)(?:\s*=\s*|\s+)(\S.*)", text)
        if parts is None:
            raise SettingError(
                f"{file}, line {number}: {text[:60]!r} is no option of Spark",
                hint="Write one as: spark.executor.memory 4g",
            )
        found.append(Setting(parts[1], parts[2], f"{file.name}, line {number}"))
    return tuple(found)


def iceberg(
    warehouse: str,
    catalog: str,
    store: ObjectStore | None = None,
    jars: Path | None = None,
    *,
    rest: Mapping[str, str] | None = None,
) -> tuple[Setting, ...]:
    """Settings by which Spark sees the lake's tables as `playhead.<namespace>.<table>`.

    They are the catalog's own properties, so that executors get the store's keys too.

    Args:
        warehouse: where tables are, such as "s3://bucket/lake", "gs://..." or a folder.
        catalog: "postgresql://user:password@host:port/database", or a REST catalog's address.
        store: the S3 store of an "s3://" warehouse; None: as the machine's own AWS settings say.
        jars: the folder of `playhead.cluster.jars("spark")`; None: Spark has them already.
        rest: what a REST catalog wants to know besides, by Iceberg's own names, such as
            `credential`; a `warehouse` among them is the name that it has there.

    Raises:
        SettingError: Spark cannot open such a catalog.
    """
    name = f"spark.sql.catalog.{CATALOG}"
    told = {"warehouse": warehouse, **(rest or {})}
    found = [
        Setting(
            "spark.sql.extensions",
            "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
            "MERGE, and the procedures that keep tables small",
        ),
        Setting(name, "org.apache.iceberg.spark.SparkCatalog", "the lake's tables by name"),
        *(Setting(f"{name}.{key}", value, why) for key, value, why in _catalog(catalog)),
        Setting(f"{name}.warehouse", told.pop("warehouse"), "where new tables are put"),
        *(Setting(f"{name}.{key}", value, "who asks, and how") for key, value in told.items()),
        Setting(f"{name}.cache-enabled", "false", "what another writer committed is seen at once"),
        *(Setting(f"{name}.{key}", value, why) for key, value, why in _files(warehouse, store)),
    ]
    return (*found, *(jar_setting(jars) if jars is not None else ()))


def jar_setting(folder: Path) -> tuple[Setting, ...]:
    """The setting that sends all jars of a folder to driver and executors."""
    listed = ",".join(str(jar) for jar in sorted(folder.glob("*.jar")))
    return (Setting("spark.jars", listed, "Iceberg, Kafka and the catalog's driver"),)


def _catalog(address: str) -> list[tuple[str, str, str]]:
    parts = urlsplit(address)
    if parts.scheme in ("http", "https"):
        return [
            ("type", "rest", "a catalog that is a service"),
            ("uri", address, "where it listens"),
        ]
    if parts.scheme.split("+")[0] not in ("postgresql", "postgres") or not parts.hostname:
        raise SettingError(
            f"Spark cannot open the catalog {parts.scheme or address}: it is not shared",
            hint="Use postgresql://user:password@host:port/database, or a REST catalog's address.",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = f"{host}:{parts.port or 5432}{parts.path}"
    query = f"?{parts.query}" if parts.query else ""
    found = [
        ("catalog-impl", "org.apache.iceberg.jdbc.JdbcCatalog", "a catalog in a database"),
        ("uri", f"jdbc:postgresql://{place}{query}", "which every engine shares"),
        ("jdbc.schema-version", "V1", "the tables that PyIceberg's catalog has, too"),
    ]
    if parts.username:
        found.append(("jdbc.user", unquote(parts.username), "who reads and commits"))
    if parts.password:
        found.append(("jdbc.password", unquote(parts.password), "and by which password"))
    return found


def _files(warehouse: str, store: ObjectStore | None) -> list[tuple[str, str, str]]:
    scheme = urlsplit(warehouse).scheme
    if scheme == "gs":
        return [("io-impl", "org.apache.iceberg.gcp.gcs.GCSFileIO", "files on Google's store")]
    if scheme not in ("s3", "s3a"):
        return []
    found = [("io-impl", "org.apache.iceberg.aws.s3.S3FileIO", "files on an S3 store")]
    if store is not None:
        found.append(("client.region", store.region, "executors have no region of their own"))
        if store.endpoint:
            path_style = "a bucket is a path: other stores have no subdomains"
            found += [
                ("s3.endpoint", store.endpoint, "where it listens"),
                ("s3.path-style-access", "true", path_style),
            ]
        keys = {
            "s3.access-key-id": store.access_key,
            "s3.secret-access-key": store.secret_key,
            "s3.session-token": store.session_token,
        }
        why = "executors have no keys of their own"
        found += [(name, value, why) for name, value in keys.items() if value]
    return found


def as_properties(settings: Iterable[Setting]) -> str:
    """The settings as a file that `spark-submit --properties-file` reads."""
    lines = [f"# {s.why}\n{s.name} {s.value}" for s in settings]
    return "\n".join(lines) + "\n"


_SECRET = re.compile("password|secret|token|access-key|credential", re.IGNORECASE)


def is_secret(setting: Setting) -> bool:
    """Whether a value must not be shown."""
    return bool(_SECRET.search(setting.name))


def _spark_memory(size: str) -> str:
    """An amount of memory as Spark writes it: "4GB" is "3814m"."""
    parts = re.fullmatch(r"([\d.]+)\s*([KMGT]?)(i?)B", size.strip(), re.IGNORECASE)
    if parts is None:
        raise SettingError(f"spark.memory = {size!r} is no amount of memory")
    power = _UNITS.get(parts[2].upper(), 0)
    unit = 1 << power if parts[3] else 1000 ** (power // 10)
    return f"{max(int(float(parts[1]) * unit) // _MIB, 1)}m"
