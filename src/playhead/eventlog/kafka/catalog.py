"""Which topics there are, and their schemas: kept in a compacted topic of their own."""

import base64
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

import msgspec
import pyarrow as pa
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from playhead.errors import EventLogError, UnknownTopicError
from playhead.eventlog.kafka.cluster import MESSAGE_BYTES, Admin, away, explain
from playhead.eventlog.kafka.codec import Decoder, check_types
from playhead.eventlog.schemas import check_topic, evolve, without_metadata

SCHEMAS = "schemas"
"""The topic of schemas, after the prefix."""

_FRESH_S = 1.0
_POLL_S = 0.05
_FOREVER = -1


@dataclass(frozen=True)
class Topic:
    """A topic as the brokers have it.

    Attributes:
        name: without the prefix.
        place: its name at the brokers.
    """

    name: str
    place: str
    partitions: int
    schema: pa.Schema = field(repr=False)

    @cached_property
    def decoder(self) -> Decoder:
        """Reads its messages."""
        return Decoder(self.name, self.schema)


@dataclass(frozen=True, slots=True)
class Keeping:
    """What the brokers do for a topic.

    Attributes:
        retention: older events are deleted, whoever has not read them; None: never.
    """

    replication: int
    retention: timedelta | None


class Catalog:
    """The topics that `create` made; looked up anew every second at most. Safe for threads."""

    def __init__(self, admin: Admin) -> None:
        self._admin, self._brokers = admin, admin.brokers
        self._lock = threading.RLock()
        self._topics: dict[str, Topic] = {}
        self._schemas: dict[str, pa.Schema] = {}
        self._read_to = 0
        self._looked_at = float("-inf")

    @property
    def _place(self) -> str:
        return self._brokers.prefix + SCHEMAS

    def topics(self, *, is_fresh: bool = True) -> dict[str, Topic]:
        """All topics, by name.

        Args:
            is_fresh: as of now; else as of a second ago.
        """
        with self._lock:
            if is_fresh or time.monotonic() - self._looked_at > _FRESH_S:
                self._look()
            return self._topics

    def topic(self, name: str) -> Topic:
        """One topic.

        Raises:
            UnknownTopicError: `create` never named it.
        """
        found = self.topics(is_fresh=False).get(name) or self.topics().get(name)
        if found is None:
            known = ", ".join(sorted(self._topics)) or "no topic yet"
            raise UnknownTopicError(
                f"The event log at {self._brokers.addresses} has no topic {name}.",
                hint=f"It has {known}.",
            )
        return found

    def create(self, name: str, schema: pa.Schema, partitions: int) -> None:
        """Make sure that a topic is there with at least these fields; see `EventLog`."""
        check_topic(name, schema, partitions)
        check_types(name, schema)
        if name == SCHEMAS:
            raise EventLogError(f"Topic {name} holds the schemas of all others; use another name.")
        with self._lock:
            place = self._brokers.prefix + name
            there = self._admin.topics()
            if self._place not in there:
                self._make(NewTopic(self._place, 1, self._brokers.replication, config=_COMPACTED))
            if place in there and there[place] != partitions:
                raise EventLogError(
                    f"Topic {name} has {there[place]} partitions, not {partitions}.",
                    hint="`playhead topics create --partitions` adds some; then say the same"
                    " number in [log] of playhead.toml.",
                )
            self._grow_schema(name, schema)
            if place not in there:
                config = {"retention.ms": str(_FOREVER), "max.message.bytes": str(MESSAGE_BYTES)}
                self._make(NewTopic(place, partitions, self._brokers.replication, config=config))
            self._await(lambda: name in self.topics(), f"Topic {name} was made")

    def add_partitions(self, name: str, partitions: int) -> None:
        """Give a topic more partitions; keys may move to others, with their events to come."""
        known = self.topic(name)
        what = f"Topic {name}: partitions cannot be added"
        wanted = [NewPartitions(known.place, partitions)]
        self._admin.ask(what, lambda: self._client.create_partitions(wanted))
        self._await(lambda: self.topics()[name].partitions == partitions, what)

    def keep_for(self, name: str, age: timedelta) -> None:
        """Let the brokers delete a topic's events that are older than `age`."""
        milliseconds = str(age // timedelta(milliseconds=1))
        resource = ConfigResource(
            ResourceType.TOPIC,
            self.topic(name).place,
            incremental_configs=[
                ConfigEntry(
                    "retention.ms", milliseconds, incremental_operation=AlterConfigOpType.SET
                )
            ],
        )
        self._admin.ask(
            f"Topic {name}: its retention cannot be set",
            lambda: self._client.incremental_alter_configs([resource]),
        )

    def leaders(self, name: str) -> dict[int, str]:
        """The broker that leads each partition, as "host:port"; those without one are left out."""
        place = self.topic(name).place
        what = f"Topic {name} cannot be described"
        told = self._admin.ask(
            what,
            lambda: self._client.describe_topics(
                TopicCollection([place]), request_timeout=self._brokers.patience_s
            ),
        )[place]
        return {
            part.id: f"{part.leader.host}:{part.leader.port}"
            for part in told.partitions
            if part.leader is not None and part.leader.host
        }

    def kept(self, names: Sequence[str]) -> dict[str, "Keeping"]:
        """How often and how long the brokers keep each topic's events."""
        places = {self.topic(name).place: name for name in names}
        if not places:
            return {}
        timeout_s = self._brokers.patience_s
        topics = self._admin.ask(
            "Topics cannot be described",
            lambda: self._client.describe_topics(
                TopicCollection(list(places)), request_timeout=timeout_s
            ),
        )
        resources = [ConfigResource(ResourceType.TOPIC, place) for place in places]
        settings = self._admin.ask(
            "Topics' settings cannot be read",
            lambda: self._client.describe_configs(resources, request_timeout=timeout_s),
        )
        copies = {place: len(told.partitions[0].replicas) for place, told in topics.items()}
        ages = {at.name: int(found["retention.ms"].value) for at, found in settings.items()}
        return {
            name: Keeping(
                copies[place],
                None if ages[place] < 0 else timedelta(milliseconds=ages[place]),
            )
            for place, name in places.items()
        }

    @property
    def _client(self) -> AdminClient:
        return self._admin.client

    def _make(self, topic: NewTopic) -> None:
        what = f"Topic {topic.topic} cannot be made"
        timeout_s = self._brokers.patience_s
        for future in self._client.create_topics([topic], request_timeout=timeout_s).values():
            try:
                future.result(timeout_s + 1)
            except KafkaException as error:
                # Another process has made it meanwhile.
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise explain(self._brokers, what, error.args[0]) from error
            except TimeoutError:
                raise away(self._brokers, what, "no answer in time") from None

    def _await(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until what the controller has done is known to all."""
        until = time.monotonic() + self._brokers.patience_s
        while not is_so():
            if time.monotonic() > until:
                raise away(self._brokers, what, "but it is not there yet")
            time.sleep(_POLL_S)

    def _look(self) -> None:
        there = self._admin.topics()
        if self._place in there:
            self._read_schemas()
        topics = {}
        for name, schema in sorted(self._schemas.items()):
            partitions = there.get(self._brokers.prefix + name, 0)
            if partitions:
                topic = Topic(name, self._brokers.prefix + name, partitions, schema)
                before = self._topics.get(name)
                topics[name] = before if before == topic and before is not None else topic
        self._topics, self._looked_at = topics, time.monotonic()

    def _read_schemas(self) -> None:
        """Take in what was written to the topic of schemas since the last look."""
        end = self._admin.ends(self._place, 1)[0]
        if end <= self._read_to:
            return
        what = "The schemas of topics cannot be read"
        until = time.monotonic() + self._brokers.patience_s
        consumer = Consumer(
            self._brokers.client(
                **{
                    "group.id": f"{self._brokers.prefix}catalog",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 20,
                }
            )
        )
        try:
            consumer.assign([TopicPartition(self._place, 0, self._read_to)])
            while self._read_to < end:
                message = consumer.poll(_POLL_S)
                if time.monotonic() > until:
                    raise away(self._brokers, what, "no answer in time")
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    self._take_schema(message.key(), message.value())
                    self._read_to = (message.offset() or 0) + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._read_to = end
        finally:
            consumer.close()

    def _take_schema(self, key: bytes | str | None, value: bytes | str | None) -> None:
        name = key.decode() if isinstance(key, bytes) else key
        if name and value:
            text = msgspec.json.decode(value, type=_Written).arrow
            self._schemas[name] = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))

    def _grow_schema(self, name: str, offered: pa.Schema) -> None:
        """Write the schema with the offered fields; again if another process wrote meanwhile."""
        self._await(lambda: self._place in self._admin.topics(), "The topic of schemas was made")
        while True:
            self._read_schemas()
            current = self._schemas.get(name)
            grown = without_metadata(offered) if current is None else evolve(name, current, offered)
            if grown == current:
                return
            self._write_schema(name, grown)

    def _write_schema(self, name: str, schema: pa.Schema) -> None:
        what = f"Topic {name}: its schema cannot be kept"
        timeout_s = self._brokers.patience_s
        producer = Producer(
            self._brokers.client(**{"acks": "all", "message.timeout.ms": int(1_000 * timeout_s)})
        )
        failed: list[KafkaError] = []
        text = base64.b64encode(schema.serialize().to_pybytes()).decode()
        fields = {f.name: f"{f.type}{'' if f.nullable else ' required'}" for f in schema}
        producer.produce(
            self._place,
            key=name,
            value=msgspec.json.encode(_Written(fields, text)),
            partition=0,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
        left = producer.flush(timeout_s + 1)
        if failed or left:
            why = failed[0] if failed else KafkaError(KafkaError._TIMED_OUT)
            raise explain(self._brokers, what, why)


class _Written(msgspec.Struct):
    """A message of the topic of schemas: the fields for people, and the Arrow schema."""

    fields: dict[str, str]
    arrow: str


_COMPACTED = {"cleanup.policy": "compact", "retention.ms": str(_FOREVER)}
