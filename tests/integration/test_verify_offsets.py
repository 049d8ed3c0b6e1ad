"""`verify` on offsets: what was sealed and is gone is named; what never was an event is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from layers import Running, SmallWorkspace, send, watches, workspace
from playhead.cluster.broker import Broker
from playhead.lake.tables import raw_name
from playhead.ops.verify import verify

RAW = raw_name("playback")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as started:
        yield started


def sealed(opened: SmallWorkspace) -> None:
    running = Running(opened)
    with running as layer:
        running.catch_up()
        layer.seal()


def wrong(opened: SmallWorkspace) -> list[str]:
    return [finding.what for finding in verify(opened).findings if finding.place.startswith(RAW)]


def lose(opened: SmallWorkspace, condition: str) -> None:
    """Take rows out of the raw table, as no part of Playhead would."""
    with opened._connect() as connection, opened.lake.draft(RAW) as draft:
        draft.add(connection, f"FROM {opened.lake.scan(RAW)} WHERE NOT ({condition})")
        opened.lake.publish(RAW, draft, partitions=None)


def test_rows_that_are_gone_are_named_by_their_offsets(tmp_path: Path) -> None:
    with workspace(tmp_path / "w", "counts") as opened:
        send(opened, watches(40))
        sealed(opened)
        send(opened, watches(40, start=40))
        sealed(opened)
        assert wrong(opened) == []
        lose(opened, 'partition = 0 AND "offset" IN (1, 3, 4)')
        assert wrong(opened) == ["offsets 1, 3, 4 of epoch 1 are missing"]
        lose(opened, "partition = 1 AND epoch = 1")
        assert len(wrong(opened)) > 1


@pytest.mark.cluster
def test_on_brokers_a_message_that_is_no_event_is_not_missed(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = pytest.importorskip("confluent_kafka", reason="missing: confluent-kafka")
    monkeypatch.setenv("PLAYHEAD_LOG_BROKERS", broker.address)
    producer = kafka.Producer({"bootstrap.servers": broker.address})

    def others() -> None:
        """What others write: at the start, between events, and behind the last one."""
        for partition in range(3):
            for _ in range(2):
                producer.produce("playhead.playback", b"no event", partition=partition)
        assert producer.flush(30) == 0

    with workspace(tmp_path / "w", "counts") as opened:
        others()
        send(opened, watches(40))
        others()
        send(opened, watches(40, start=40))
        sealed(opened)
        others()
        send(opened, watches(40, start=80))
        others()
        sealed(opened)
        others()
        assert [f.what for f in verify(opened).findings] == []
        scan = opened.lake.scan(RAW)
        with opened._connect() as connection:
            found = connection.execute(
                f'SELECT min("offset") FROM {scan} WHERE partition = 0 AND epoch = 2'
            ).fetchone()
        assert found is not None
        lose(opened, f'partition = 0 AND "offset" IN ({found[0]}, {found[0] + 1})')
        told = wrong(opened)
        assert any("epoch 2 begins at" in what for what in told)
        assert any("epoch 2 has the offsets" in what for what in told)
        lose(opened, f'partition = 0 AND "offset" = {found[0] + 3}')
        assert f"offsets {found[0] + 3} of epoch 2 are missing" in wrong(opened)
