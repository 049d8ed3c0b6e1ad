"""Consumer groups' offsets: a group of the log is one Kafka group for each topic."""

from collections.abc import Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from playhead.eventlog.kafka.catalog import Topic
from playhead.eventlog.kafka.cluster import Admin, explain

# No topic's name holds it, so that the two parts of a group's id are told apart.
_BETWEEN = "/"


class Groups:
    """Reads and writes them. The id at the brokers is `<prefix><topic>/<group>`."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def commit(self, group: str, topic: Topic, offsets: Mapping[int, int]) -> None:
        """Note offsets by partition; all or none."""
        places = [TopicPartition(topic.place, p, offset) for p, offset in offsets.items()]
        wanted = ConsumerGroupTopicPartitions(_id(topic, group), places)
        timeout_s = self._admin.brokers.patience_s
        self._admin.ask(
            f"Group {group}, topic {topic.name}: offsets cannot be committed",
            lambda: self._admin.client.alter_consumer_group_offsets(
                [wanted], request_timeout=timeout_s
            ),
        )

    def committed(self, group: str, topic: Topic) -> dict[int, int]:
        """What a group committed, by partition."""
        places = [TopicPartition(topic.place, number) for number in range(topic.partitions)]
        wanted = ConsumerGroupTopicPartitions(_id(topic, group), places)
        timeout_s = self._admin.brokers.patience_s
        told = self._admin.ask(
            f"Group {group}, topic {topic.name}: offsets cannot be read",
            lambda: self._admin.client.list_consumer_group_offsets(
                [wanted], request_timeout=timeout_s
            ),
        )
        (found,) = told.values()
        return {at.partition: at.offset for at in found.topic_partitions if at.offset >= 0}

    def names(self, topic: Topic) -> list[str]:
        """The groups that committed offsets of the topic, sorted."""
        timeout_s = self._admin.brokers.patience_s
        what = f"Topic {topic.name}: its groups cannot be listed"
        told = self._admin.ask(
            what,
            lambda: {0: self._admin.client.list_consumer_groups(request_timeout=timeout_s)},
        )[0]
        if told.errors and not told.valid:
            raise explain(self._admin.brokers, what, told.errors[0].args[0])
        start = _id(topic, "")
        found = (group.group_id for group in told.valid)
        return sorted(name.removeprefix(start) for name in found if name.startswith(start))

    def forget(self, group: str, topic: Topic) -> None:
        """Drop a group's offsets; an unknown group is no error."""
        if group not in self.names(topic):
            return
        timeout_s = self._admin.brokers.patience_s
        self._admin.ask(
            f"Group {group}, topic {topic.name}: it cannot be dropped",
            lambda: self._admin.client.delete_consumer_groups(
                [_id(topic, group)], request_timeout=timeout_s
            ),
        )


def _id(topic: Topic, group: str) -> str:
    return f"{topic.place}{_BETWEEN}{group}"
