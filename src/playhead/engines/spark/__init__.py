"""Spark, the engine of a cluster (`playhead[spark]`): the same plans, over DataFrames or Arrow."""

from playhead.engines.spark.engine import SparkEngine
from playhead.engines.spark.lakes import lake_session
from playhead.engines.spark.plans import SparkPlans
from playhead.engines.spark.session import spark_home, spark_session

__all__ = ["SparkEngine", "SparkPlans", "lake_session", "spark_home", "spark_session"]
