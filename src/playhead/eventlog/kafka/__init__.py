"""The event log on Kafka's brokers; needs `playhead[kafka]`."""

from playhead.eventlog.kafka.cluster import Brokers, read_options
from playhead.eventlog.kafka.log import KafkaEventLog

__all__ = ["Brokers", "KafkaEventLog", "read_options"]
