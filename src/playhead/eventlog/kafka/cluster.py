"""The brokers: how clients reach them, and what becomes of their errors."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playhead.errors import EventLogError, LogAwayError, SettingError

try:
    from confluent_kafka import (
        OFFSET_INVALID,
        IsolationLevel,
        KafkaError,
        KafkaException,
        TopicPartition,
    )
    from confluent_kafka.admin import AdminClient, OffsetSpec
except ImportError as error:
    raise EventLogError(
        "The event log is on Kafka's brokers, and their client is not installed.",
        hint='Install it: pip install "playhead[kafka]"',
    ) from error

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long a call waits for brokers that do not answer."""

MESSAGE_BYTES = 8 << 20
"""The largest event that a topic takes, as JSON."""

_RETRY_S = 0.1
_PASSING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.NOT_CONTROLLER,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        # "No leaders found".
        KafkaError._NOENT,
        KafkaError.FENCED_LEADER_EPOCH,
    }
)
_AWAY = _PASSING | {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._WAIT_COORD,
    KafkaError._RESOLVE,
    KafkaError._PURGE_QUEUE,
    KafkaError._PURGE_INFLIGHT,
    KafkaError._STATE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    KafkaError.KAFKA_STORAGE_ERROR,
}
_REFUSED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class Brokers:
    """Where the brokers are, and what of them is Playhead's.

    Attributes:
        addresses: "host:9092,host:9093": some of them; the others are found.
        prefix: of the names of topics and consumer groups.
        replication: copies of each partition.
        options: librdkafka's properties, such as those of SASL and TLS.
        patience_s: how long a call waits for brokers that do not answer.
    """

    addresses: str
    prefix: str = "playhead."
    replication: int = 1
    options: Mapping[str, str] | None = None
    patience_s: float = PATIENCE_S

    def client(self, **settings: Any) -> dict[str, Any]:
        """The properties of one client: these settings, and the workspace's own before them."""
        return {
            "bootstrap.servers": self.addresses,
            "client.id": "playhead",
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": 1_000,
            # What a client has to say of brokers that are away is said by LogAwayError.
            "log_level": 2,
            "logger": logger,
            **settings,
            **(self.options or {}),
        }


def read_options(path: Path) -> dict[str, str]:
    """The properties of a file: `name=value` a line; empty lines and those after # are left out.

    Raises:
        SettingError: the file cannot be read, or a line has no "=".
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(
            f"The options of the event log's brokers cannot be read from {path}: {error}",
            hint="It is named by options_file in [log] of playhead.toml.",
        ) from error
    options = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise SettingError(
                f"{path}, line {number}: there is no '='",
                hint="One librdkafka property a line, such as security.protocol=SASL_SSL",
            )
        options[name.strip()] = value.strip()
    return options


def explain(brokers: Brokers, what: str, error: KafkaError) -> EventLogError:
    """The error of what was tried, such as "topic a: its events cannot be read"."""
    code = error.code()
    if code in _REFUSED:
        return EventLogError(
            f"{what}: the brokers {brokers.addresses} refuse this client: {error.str()}",
            hint="Who it is, is said in the file that options_file in [log] names.",
        )
    if code in _AWAY or error.retriable():
        return away(brokers, what, error.str())
    return EventLogError(f"{what}: the brokers {brokers.addresses} answer: {error.str()}")


def away(brokers: Brokers, what: str, why: str) -> LogAwayError:
    """The error of brokers that do not answer."""
    return LogAwayError(
        f"{what}: the brokers {brokers.addresses} do not answer, or too few of them: {why}",
        hint="Are they running, and are their addresses those of brokers in [log] of"
        " playhead.toml? All goes on by itself when they are back.",
    )


def refused_setting(brokers: Brokers, error: KafkaException | ValueError) -> SettingError:
    """The error of properties that the client does not take."""
    return SettingError(
        f"The client of the brokers {brokers.addresses} does not take its settings: {error}",
        hint="See brokers and options_file in [log] of playhead.toml.",
    )


class Admin:
    """Asks the brokers about topics, offsets and groups; each call in bounded time.

    Safe to use from any thread. All raise LogAwayError if nobody answers, or EventLogError.
    """

    def __init__(self, brokers: Brokers) -> None:
        self.brokers = brokers
        self._renewing = threading.Lock()
        self._before: AdminClient | None = None
        try:
            self.client = AdminClient(brokers.client())
        except (KafkaException, ValueError) as error:
            raise refused_setting(brokers, error) from error

    def topics(self) -> dict[str, int]:
        """The partitions of every topic that the brokers have, by its full name."""
        client = self.client
        try:
            found = client.list_topics(timeout=self.brokers.patience_s).topics
        except KafkaException as error:
            self._renew(client)
            raise explain(self.brokers, "The topics cannot be listed", error.args[0]) from error
        return {name: len(topic.partitions) for name, topic in found.items() if not topic.error}

    def starts(self, topic: str, partitions: int) -> dict[int, int]:
        """The first offset of each partition of a topic."""
        return self._offsets(topic, partitions, OffsetSpec.earliest())

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """The offset after the last message that may be read, of each partition of a topic."""
        return self._offsets(topic, partitions, OffsetSpec.latest())

    def since(self, topic: str, partitions: int, time_ms: int) -> dict[int, int]:
        """The offset of the first message of a time or later, by partition; -1 if there is none.

        Args:
            time_ms: milliseconds since 1970 UTC, 0 or more.
        """
        return self._offsets(topic, partitions, OffsetSpec.for_timestamp(time_ms))

    def _offsets(self, topic: str, partitions: int, spec: OffsetSpec) -> dict[int, int]:
        asked = {TopicPartition(topic, number): spec for number in range(partitions)}
        what = f"Topic {topic}, its offsets"
        until = time.monotonic() + self.brokers.patience_s
        while True:
            told = self.ask(
                what,
                lambda: self.client.list_offsets(
                    asked,
                    isolation_level=IsolationLevel.READ_COMMITTED,
                    request_timeout=self.brokers.patience_s,
                ),
            )
            found = {place.partition: result.offset for place, result in told.items()}
            # So the client tells, without an error, of a broker that dies while it is asked.
            unknown = [number for number, offset in found.items() if offset == OFFSET_INVALID]
            if not unknown:
                return found
            if time.monotonic() > until:
                raise away(self.brokers, what, f"nobody knows those of partition {unknown[0]}")
            time.sleep(_RETRY_S)

    def ask(self, what: str, call: Callable[[], Mapping[Any, Future[Any]]]) -> dict[Any, Any]:
        """The answers to a request of several parts; again while the brokers sort themselves out.

        Args:
            what: what is asked, for messages.
            call: sends the request.
        """
        until = time.monotonic() + self.brokers.patience_s
        while True:
            client = self.client
            try:
                return {
                    part: future.result(self.brokers.patience_s + 1)
                    for part, future in call().items()
                }
            except FutureTimeoutError:
                self._renew(client)
                raise away(self.brokers, what, "no answer in time") from None
            except KafkaException as error:
                told = error.args[0]
                if told.code() not in _PASSING or time.monotonic() > until:
                    if told.code() in _AWAY:
                        self._renew(client)
                    raise explain(self.brokers, what, told) from error
            time.sleep(_RETRY_S)

    def _renew(self, failed: AdminClient) -> None:
        """Use another client from now on.

        A client whose broker was killed may wait in vain for the coordinator of groups, even when
        that is back; it does so for as long as it lives.
        """
        with self._renewing:
            if self.client is failed:
                # Other threads may still wait for answers to the one that failed.
                self._before, self.client = failed, AdminClient(self.brokers.client())
