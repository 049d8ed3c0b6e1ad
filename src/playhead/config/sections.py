"""The settings of each section: what they mean, and their defaults."""

import os
from dataclasses import dataclass, field
from datetime import timedelta

from playhead.config import kinds


@dataclass(frozen=True)
class LogSettings:
    """The event log.

    Attributes:
        partitions: of each topic, fixed when the topic is made.
        retention_days: events older than this may go, once every reader has them.
        brokers: Kafka's, "host:9092,host:9093"; empty: the workspace's own file is the log.
        topic_prefix: of the names of topics and consumer groups at the brokers.
        replication: copies of each partition there.
        options_file: librdkafka properties, such as those of SASL and TLS, relative to the
            workspace.
    """

    partitions: int = kinds.whole(3)
    retention_days: int = kinds.whole(7)
    brokers: str = kinds.brokers("")
    topic_prefix: str = kinds.topic_prefix("playhead.")
    replication: int = kinds.whole(1, most=9)
    options_file: str = kinds.path("")


@dataclass(frozen=True)
class LakeSettings:
    """The lake.

    Attributes:
        warehouse: where its files are, such as "s3://bucket/folder"; empty: in the workspace.
        catalog: the database or the REST catalog that names its tables, if they are not in the
            workspace.
        endpoint: of an object store other than Amazon's or Google's own.
        cache_gb: what this machine may keep of files that are elsewhere.
    """

    warehouse: str = kinds.place(
        ("s3", "gs"), 'address of an object store, such as "s3://bucket/folder"'
    )
    catalog: str = kinds.place(
        ("postgresql", "http", "https"),
        "address of a database or a REST catalog without a password, such as "
        '"postgresql://user@host:5432/name" or "https://host/api/catalog"',
    )
    endpoint: str = kinds.place(("http", "https"), 'address, such as "http://127.0.0.1:8333"')
    cache_gb: int = kinds.whole(20)


@dataclass(frozen=True)
class SpeedSettings:
    """The speed layer.

    Attributes:
        engine: what takes events in: "duckdb" in this process, or "spark" where section [spark]
            says, from the brokers of section [log].
        trigger_ms: from the start of one micro-batch to the next.
        seal_seconds: how long an epoch stays open before its events go to the lake.
        dedupe_hours: a repeated event is dropped if the first came this recently.
        max_events: of one topic in one micro-batch.
    """

    engine: str = kinds.choice("duckdb", "spark")
    trigger_ms: int = kinds.whole(100)
    seal_seconds: int = kinds.whole(60)
    dedupe_hours: int = kinds.whole(24)
    max_events: int = kinds.whole(400_000)


@dataclass(frozen=True)
class EngineSettings:
    """DuckDB.

    Attributes:
        memory_limit: of one session, such as "4GB"; beyond it, work spills to disk.
        threads: worker threads; 0 means one per core.
    """

    memory_limit: str = kinds.memory("4GB")
    threads: int = kinds.whole(0, least=0)


@dataclass(frozen=True)
class ViewSettings:
    """Views.

    Attributes:
        folders: folders of `*.sql` files besides the library, relative to the workspace.
    """

    folders: tuple[str, ...] = kinds.texts(("views",), "folders", os.pathsep)


@dataclass(frozen=True)
class GatewaySettings:
    """The gateway, which takes events in over HTTP.

    Attributes:
        address: where it listens; beyond loopback only with a key that may write.
        workers: processes that share the address; two, or one where there is one core.
        max_body_mb: of one body, before and after it is decompressed.
        max_events: in one body.
        max_field_kb: of one field's value.
        max_waiting_mb: bodies of one worker that are in memory and not yet durable.
        body_seconds: a body must have come whole by then.
        max_future_seconds: an event later than this after its arrival is refused.
        max_past_days: and one older than this.
        max_skew_seconds: a client's clock that is off by more is corrected by `sent_at`.
        min_free_mb: nothing is taken in while the disk has less left.
        cors_origins: origins of web pages that may send; "*": any.
        tls_certificate, tls_key: PEM files, relative to the workspace; both or none.
    """

    address: str = kinds.address("127.0.0.1:8600")
    workers: int = kinds.whole(min(2, os.cpu_count() or 1), most=64)
    max_body_mb: int = kinds.whole(8, most=1024)
    max_events: int = kinds.whole(20_000)
    max_field_kb: int = kinds.whole(64)
    max_waiting_mb: int = kinds.whole(64)
    body_seconds: int = kinds.whole(30)
    max_future_seconds: int = kinds.whole(300, least=0)
    max_past_days: int = kinds.whole(3650, most=36_500)
    max_skew_seconds: int = kinds.whole(5, least=0)
    min_free_mb: int = kinds.whole(256, least=0)
    cors_origins: tuple[str, ...] = kinds.origins()
    tls_certificate: str = kinds.path("")
    tls_key: str = kinds.path("")


@dataclass(frozen=True)
class ApiSettings:
    """The read API.

    Attributes:
        address: where it listens; beyond loopback only with a key that may read.
        query_seconds: a query that takes longer is cancelled.
        query_memory: of all queries together, such as "2GB".
        query_rows: of one answer.
        cors_origins: origins of web pages that may ask; "*": any.
        tls_certificate, tls_key: PEM files, relative to the workspace; both or none.
    """

    address: str = kinds.address("127.0.0.1:8601")
    query_seconds: int = kinds.whole(30)
    query_memory: str = kinds.memory("2GB")
    query_rows: int = kinds.whole(1_000_000)
    cors_origins: tuple[str, ...] = kinds.origins()
    tls_certificate: str = kinds.path("")
    tls_key: str = kinds.path("")


@dataclass(frozen=True)
class DashboardSettings:
    """The dashboards.

    Attributes:
        address: where they listen; beyond loopback only with a key that may read; "": they do not.
        tls_certificate, tls_key: PEM files, relative to the workspace; both or none.
    """

    address: str = kinds.address("127.0.0.1:8602", optional=True)
    tls_certificate: str = kinds.path("")
    tls_key: str = kinds.path("")


@dataclass(frozen=True)
class BatchSettings:
    """The batch layer.

    Attributes:
        engine: what runs it: "duckdb" on this machine, or "spark" where section [spark] says.
        every_minutes: of a running platform: from the start of one run to the next; 0: never by
            itself.
    """

    engine: str = kinds.choice("duckdb", "spark")
    every_minutes: int = kinds.whole(60, least=0)


@dataclass(frozen=True)
class SparkSettings:
    """Spark, where it is the engine.

    Attributes:
        master: "local[*]" for this machine, "spark://host:port" for a cluster.
        profile: of the job: etl, recommendation or ml-training.
        memory: of the driver, which on one machine does all the work.
        options_file: options of Spark's own, relative to the workspace, as `spark-defaults.conf`.
    """

    master: str = kinds.text("local[*]", "address of a Spark master")
    profile: str = kinds.text("etl", "job profile")
    memory: str = kinds.memory("2GB")
    options_file: str = kinds.path("")


@dataclass(frozen=True)
class GateSettings:
    """The limits of the quality gates; a share is in percent of events.

    Attributes:
        min_conformance_percent: fit their contract.
        max_rejected_percent: went to the dead letters.
        max_duplicate_percent: had come before.
        min_enriched_percent: of the users and titles looked up were found.
        max_enrichment_ms: of a micro-batch, 99th percentile.
        max_freshness_ms: from arrival to answer, 99th percentile.
        max_lag_seconds: how far the speed layer is behind.
        min_complete_percent: came before their window was final.
        max_late_percent: came after it.
    """

    min_conformance_percent: float = kinds.percent(99.99)
    max_rejected_percent: float = kinds.percent(0.001)
    max_duplicate_percent: float = kinds.percent(0.01)
    min_enriched_percent: float = kinds.percent(99.5)
    max_enrichment_ms: float = kinds.number(50.0)
    max_freshness_ms: float = kinds.number(1000.0)
    max_lag_seconds: float = kinds.number(60.0)
    min_complete_percent: float = kinds.percent(99.0)
    max_late_percent: float = kinds.percent(1.0)


@dataclass(frozen=True)
class Settings:
    """All settings, by section."""

    log: LogSettings = field(default_factory=LogSettings)
    lake: LakeSettings = field(default_factory=LakeSettings)
    speed: SpeedSettings = field(default_factory=SpeedSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    views: ViewSettings = field(default_factory=ViewSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    dashboard: DashboardSettings = field(default_factory=DashboardSettings)
    batch: BatchSettings = field(default_factory=BatchSettings)
    spark: SparkSettings = field(default_factory=SparkSettings)
    gates: GateSettings = field(default_factory=GateSettings)

    @property
    def trigger(self) -> timedelta:
        return timedelta(milliseconds=self.speed.trigger_ms)

    @property
    def retention(self) -> timedelta:
        return timedelta(days=self.log.retention_days)


SECTIONS = {
    "log": LogSettings,
    "lake": LakeSettings,
    "speed": SpeedSettings,
    "engine": EngineSettings,
    "views": ViewSettings,
    "gateway": GatewaySettings,
    "api": ApiSettings,
    "dashboard": DashboardSettings,
    "batch": BatchSettings,
    "spark": SparkSettings,
    "gates": GateSettings,
}
