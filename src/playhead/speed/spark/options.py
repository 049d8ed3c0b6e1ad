"""How Spark's Kafka source is told what the event log's own client is told."""

import json
from collections.abc import Mapping

from playhead.errors import SettingError
from playhead.eventlog.kafka.cluster import Brokers

_POLL_MS = 30_000

_SAME = frozenset(
    {
        "security.protocol",
        "sasl.kerberos.service.name",
        "client.id",
        "client.rack",
        "client.dns.lookup",
        "fetch.max.bytes",
        "fetch.min.bytes",
        "metadata.max.age.ms",
        "reconnect.backoff.ms",
        "reconnect.backoff.max.ms",
    }
)
"""Properties that librdkafka and Kafka's Java client both know by one name and meaning."""

_SECURE = ("sasl.", "ssl.", "oauthbearer", "enable.ssl", "enable.sasl", "security.")
_LOGIN = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


EARLIEST = -2
"""Of Spark's: the first offset that a partition holds."""


def source_options(
    brokers: Brokers, place: str, starts: Mapping[int, int], *, limit: int
) -> dict[str, str]:
    """Options of `readStream.format("kafka")` for one topic.

    Args:
        place: the topic's name at the brokers.
        starts: the next offset, of all partitions.
        limit: of events in one micro-batch.

    Raises:
        SettingError: a property of the brokers' options has no counterpart.
    """
    return {
        **_options(brokers),
        "subscribe": place,
        "startingOffsets": _offsets(place, starts),
        "maxOffsetsPerTrigger": str(limit),
    }


def range_options(
    brokers: Brokers, place: str, first: Mapping[int, int], after: Mapping[int, int]
) -> dict[str, str]:
    """Options of `read.format("kafka")` for the offsets [first, after) of a topic's partitions.

    Raises:
        SettingError: as `source_options`.
    """
    read = {partition: at for partition, at in first.items() if after[partition] > at}
    ends = {partition: after[partition] for partition in read}
    return {
        **_options(brokers),
        "assign": json.dumps({place: sorted(read)}),
        "startingOffsets": _offsets(place, read),
        "endingOffsets": _offsets(place, ends),
    }


def _offsets(place: str, offsets: Mapping[int, int]) -> str:
    return json.dumps({place: {str(p): at for p, at in offsets.items()}}, sort_keys=True)


def _options(brokers: Brokers) -> dict[str, str]:
    return {
        "kafka.bootstrap.servers": brokers.addresses,
        "includeHeaders": "true",
        # What retention has deleted before it was read is an error, never silence.
        "failOnDataLoss": "true",
        "kafkaConsumer.pollTimeoutMs": str(_POLL_MS),
        "kafka.isolation.level": "read_committed",
        **{f"kafka.{name}": value for name, value in java_options(brokers.options or {}).items()},
    }


def java_options(options: Mapping[str, str]) -> dict[str, str]:
    """Properties of librdkafka as those of Kafka's Java client.

    What tunes librdkafka alone is left out. PEM files stay as they are: the Java client reads
    them, too (KIP-651).

    Raises:
        SettingError: a property about security has no counterpart.
    """
    found = {name: value for name, value in options.items() if name in _SAME}
    mechanism = options.get("sasl.mechanism", options.get("sasl.mechanisms"))
    if mechanism is not None:
        found["sasl.mechanism"] = mechanism
    if "sasl.username" in options:
        found["sasl.jaas.config"] = _login(mechanism or "", options)
    if "ssl.ca.location" in options:
        found["ssl.truststore.type"] = "PEM"
        found["ssl.truststore.location"] = options["ssl.ca.location"]
    if options.get("ssl.endpoint.identification.algorithm") == "none":
        found["ssl.endpoint.identification.algorithm"] = ""
    _refuse_others(options)
    return found


def _login(mechanism: str, options: Mapping[str, str]) -> str:
    if mechanism not in _LOGIN:
        raise SettingError(
            f"Spark cannot log in to the brokers by sasl.mechanism={mechanism}",
            hint=f"With a name and a password there are {', '.join(_LOGIN)}.",
        )
    name, password = (_quoted(options.get(f"sasl.{x}", "")) for x in ("username", "password"))
    return f"{_LOGIN[mechanism]} required username={name} password={password};"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_KNOWN = frozenset(
    {
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
        "ssl.endpoint.identification.algorithm",
    }
)


def _refuse_others(options: Mapping[str, str]) -> None:
    for name in options:
        if name.startswith(_SECURE) and name not in _KNOWN | _SAME:
            raise SettingError(
                f"Spark has no counterpart of {name} in the brokers' options",
                hint="With speed.engine = spark, use SASL by name and password, and "
                "ssl.ca.location; or put kafka.* options of Spark's own into spark.options_file.",
            )
