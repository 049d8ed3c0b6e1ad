"""The text of a new workspace's `playhead.toml`."""

TEMPLATE = """\
# Settings of this workspace. Every line shows the default; PLAYHEAD_<SECTION>_<KEY> in the
# environment goes before this file.

[log]
# partitions = 3            # of each topic, fixed when the topic is made
# retention_days = 7        # older events may go, once every reader has them
# brokers = ""              # Kafka's, "host:9092,host:9093"; "" means the workspace's own file
# topic_prefix = "playhead."  # of the names of topics and consumer groups at the brokers
# replication = 1           # copies of each partition there
# options_file = ""         # librdkafka properties (SASL, TLS), relative to the workspace

[lake]
# warehouse = ""            # where files are, "s3://bucket/folder"; "" means in the workspace
# catalog = ""              # and then what names tables: "postgresql://user@host:5432/name"
#                           # or a REST catalog: "https://host/api/catalog"
# endpoint = ""             # of an object store other than Amazon's or Google's own
# cache_gb = 20             # what this machine may keep of files that are elsewhere

[speed]
# engine = "duckdb"         # in this process; "spark": as section [spark] says, from [log] brokers
# trigger_ms = 100          # from the start of one micro-batch to the next
# seal_seconds = 60         # how long an epoch stays open before it goes to the lake
# dedupe_hours = 24         # a repeated event is dropped if the first came this recently
# max_events = 400000       # of one topic in one micro-batch

[engine]
# memory_limit = "4GB"      # of one DuckDB session; beyond it, work spills to disk
# threads = 0               # worker threads; 0 means one per core

[views]
# folders = ["views"]       # folders of *.sql files, relative to the workspace

[gateway]
# address = "127.0.0.1:8600"  # beyond loopback only with a key that may write
# workers = 2               # processes that share the address; 1 where there is one core
# max_body_mb = 8           # of one body, before and after it is decompressed
# max_events = 20000        # in one body
# max_field_kb = 64         # of one field's value
# max_waiting_mb = 64       # bodies of one worker in memory and not yet durable
# body_seconds = 30         # a body must have come whole by then
# max_future_seconds = 300  # an event later than this after its arrival is refused
# max_past_days = 3650      # and one older than this
# max_skew_seconds = 5      # a client's clock that is off by more is corrected by sent_at
# min_free_mb = 256         # nothing is taken in while the disk has less left
# cors_origins = []         # of web pages that may send, as "https://example.org"; "*": any
# tls_certificate = ""      # PEM files, relative to the workspace; both or none
# tls_key = ""

[api]
# address = "127.0.0.1:8601"  # beyond loopback only with a key that may read
# query_seconds = 30        # a query that takes longer is cancelled
# query_memory = "2GB"      # of all queries together
# query_rows = 1000000      # of one answer
# cors_origins = []         # of web pages that may ask
# tls_certificate = ""      # PEM files, relative to the workspace; both or none
# tls_key = ""

[dashboard]
# address = "127.0.0.1:8602"  # beyond loopback only with a key that may read; "": none
# tls_certificate = ""      # PEM files, relative to the workspace; both or none
# tls_key = ""

[batch]
# engine = "duckdb"         # on this machine; "spark": as section [spark] says
# every_minutes = 60        # from the start of one run to the next; 0: never by itself

[spark]
# master = "local[*]"       # this machine; "spark://host:port": a cluster
# profile = "etl"           # of the job: etl, recommendation or ml-training
# memory = "2GB"            # of the driver, which on one machine does all the work
# options_file = ""         # options of Spark's own, relative to the workspace

[gates]
# min_conformance_percent = 99.99  # of events fit their contract
# max_rejected_percent = 0.001     # of events went to the dead letters
# max_duplicate_percent = 0.01     # of events had come before
# min_enriched_percent = 99.5      # of users and titles looked up were found
# max_enrichment_ms = 50.0         # of a micro-batch, 99th percentile
# max_freshness_ms = 1000.0        # from arrival to answer, 99th percentile
# max_lag_seconds = 60.0           # how far the speed layer is behind
# min_complete_percent = 99.0      # of events came before their window was final
# max_late_percent = 1.0           # of events came after it
"""
