"""Taking events in by Spark's Structured Streaming, from Kafka's brokers."""

from playhead.speed.spark.source import SparkSource

__all__ = ["SparkSource"]
