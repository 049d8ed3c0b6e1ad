"""Real servers on loopback: a broker, Spark, an object store, a database for the catalog."""

from playhead.cluster.jars import jars
from playhead.cluster.server import Server, await_port, free_port, program

__all__ = ["Server", "await_port", "free_port", "jars", "program"]
