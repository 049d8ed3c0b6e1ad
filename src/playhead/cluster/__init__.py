"""Real servers on loopback: a broker, Spark, an object store, a database for the catalog."""

from playhead.cluster.broker import Broker
from playhead.cluster.jars import jars
from playhead.cluster.postgres import Postgres
from playhead.cluster.server import Server, free_port, program
from playhead.cluster.servers import Servers, check_installed
from playhead.cluster.spark import SparkCluster
from playhead.cluster.store import ObjectStore

__all__ = [
    "Broker",
    "ObjectStore",
    "Postgres",
    "Server",
    "Servers",
    "SparkCluster",
    "check_installed",
    "free_port",
    "jars",
    "program",
]
