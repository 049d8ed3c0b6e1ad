"""The spool: a queue on disk that outlives its process, cut off or damaged at any byte."""

import multiprocessing
import os
import random
from collections import deque
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.client import SpoolError, spool
from playhead.client.spool import Spool

MB = 1_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of some hundred bytes."""
    monkeypatch.setattr(spool, "_LEAST_SEGMENT", 300)
    monkeypatch.setattr(spool, "_MOST_SEGMENT", 300)


def _records(count: int, start: int = 0) -> list[bytes]:
    return [f'{{"n":{number}}}'.encode() for number in range(start, start + count)]


def _fill(waiting: Spool, records: list[bytes]) -> None:
    for record in records:
        assert waiting.append(record)


def _drain(waiting: Spool, most: int = 7) -> list[bytes]:
    drained: list[bytes] = []
    while waiting.events:
        taken = waiting.take(most, MB)
        waiting.drop(taken)
        drained += taken
    return drained


def _die(waiting: Spool) -> None:
    """What is left of a producer whose process was killed: nothing is tidied up."""
    waiting._let_go()


@pytest.mark.usefixtures("small")
def test_events_come_out_in_order_and_leave_nothing(folder: Path) -> None:
    waiting = Spool(folder, MB)
    _fill(waiting, _records(100))
    assert waiting.events == 100
    assert len(list(folder.glob("*.events"))) > 3
    assert _drain(waiting) == _records(100)
    waiting.close()
    assert {path.name for path in folder.iterdir()} == {"lock"}


@pytest.mark.usefixtures("small")
def test_what_was_not_delivered_comes_first_in_the_next_process(folder: Path) -> None:
    first = Spool(folder, MB)
    _fill(first, _records(50))
    first.drop(first.take(20, MB))
    _die(first)
    left = 50 - (50 - first.events)
    second = Spool(folder, MB)
    assert second.events == left
    _fill(second, _records(10, start=50))
    assert _drain(second) == _records(60)[60 - left - 10 :]
    second.close()


@pytest.mark.usefixtures("small")
@given(seed=st.integers(0, 2**32))
def test_any_use_with_any_deaths_is_a_queue(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random_ = random.Random(seed)
    folder = tmp_path_factory.mktemp("queue")
    waiting, model, number = Spool(folder, MB), deque[bytes](), 0
    for _ in range(40):
        action = random_.choice(["append", "append", "take", "die", "close"])
        if action == "append":
            for record in _records(random_.randrange(1, 30), start=number):
                assert waiting.append(record)
                model.append(record)
                number += 1
        elif action == "take" and model:
            taken = waiting.take(random_.randrange(1, 20), random_.randrange(1, 300))
            assert taken == [model[index] for index in range(len(taken))]
            assert taken
            done = taken[: random_.randrange(len(taken) + 1)]
            waiting.drop(done)
            for _ in done:
                model.popleft()
        elif action == "die":
            _die(waiting)
            waiting = Spool(folder, MB)
        else:
            waiting.close()
            waiting = Spool(folder, MB)
        assert waiting.events == len(model)
        assert waiting.size_bytes == sum(len(record) + 8 for record in model)
    assert _drain(waiting) == list(model)
    waiting.close()


def test_a_segment_cut_at_any_byte_gives_its_whole_events(folder: Path) -> None:
    waiting = Spool(folder, MB)
    _fill(waiting, _records(5))
    _die(waiting)
    (path,) = folder.glob("*.events")
    data = path.read_bytes()
    ends = [0]
    for record in _records(5):
        ends.append(ends[-1] + len(record) + 8)
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        again = Spool(folder, MB)
        whole = sum(end <= size for end in ends[1:])
        assert again.take(9, MB) == _records(whole)
        assert again.append(b'{"n":"next"}')
        assert again.events == whole + 1
        _die(again)
        for other in folder.glob("*.events"):
            if other != path:
                other.unlink()
        (folder / "delivered").unlink()


def test_a_flipped_bit_is_told_and_what_follows_is_kept_aside(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Spool(folder, MB)
    _fill(waiting, _records(5))
    _die(waiting)
    (path,) = folder.glob("*.events")
    data = bytearray(path.read_bytes())
    end = (len(_records(1)[0]) + 8) * 2
    for byte in range(end, len(data)):
        caplog.clear()
        flipped = bytearray(data)
        flipped[byte] ^= 1
        path.write_bytes(flipped)
        again = Spool(folder, MB)
        taken = again.take(9, MB)
        assert taken == _records(len(taken))
        assert len(taken) >= 2
        assert "is damaged" in caplog.text
        kept = path.with_suffix(".damaged").read_bytes()
        assert bytes(flipped).endswith(kept)
        assert len(kept) + sum(len(one) + 8 for one in taken) == len(data)
        _die(again)


def test_damage_while_it_waits_leaves_the_other_segments(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_LEAST_SEGMENT", 200)
    waiting = Spool(folder, 200)
    waiting._max_bytes = MB
    _fill(waiting, _records(40))
    first = min(folder.glob("*.events"))
    data = bytearray(first.read_bytes())
    data[9] ^= 1
    first.write_bytes(data)
    assert waiting.take(9, MB) == []
    left = waiting.events
    assert 0 < left < 40
    assert _drain(waiting) == _records(40)[-left:]
    waiting.close()
    assert (folder / first.with_suffix(".damaged").name).exists()


@pytest.mark.parametrize("mark", [b"", b"x", b"\xff" * 20, b"\0" * 20])
def test_without_a_note_of_what_was_delivered_all_is_sent_again(folder: Path, mark: bytes) -> None:
    waiting = Spool(folder, MB)
    _fill(waiting, _records(5))
    waiting.drop(waiting.take(2, MB))
    _die(waiting)
    (folder / "delivered").write_bytes(mark)
    again = Spool(folder, MB)
    assert _drain(again) == _records(5)
    again.close()


def test_a_full_spool_takes_nothing_and_then_again(folder: Path) -> None:
    waiting = Spool(folder, 200_000)
    record = b"x" * 1_000
    count = 0
    while waiting.append(record):
        count += 1
    assert count == 200_000 // 1_008
    assert sum(path.stat().st_size for path in folder.glob("*.events")) <= 200_000
    waiting.drop(waiting.take(100, MB))
    waiting.take(1, 1)
    assert waiting.append(record)
    waiting.close()


def test_a_large_event_is_taken_whole(folder: Path) -> None:
    waiting = Spool(folder, 64 * MB)
    _fill(waiting, [b"a" * 100, b"b" * 9_000_000, b"c"])
    assert waiting.take(9, 1_000) == [b"a" * 100]
    waiting.drop([b"a" * 100])
    assert waiting.take(9, 1_000) == [b"b" * 9_000_000]
    waiting.drop([b"b" * 9_000_000])
    assert waiting.take(9, 1_000) == [b"c"]
    waiting.close()


def test_a_disk_that_is_full_takes_nothing_and_loses_nothing(folder: Path) -> None:
    waiting = Spool(folder, MB)
    _fill(waiting, _records(3))
    real = os.pwrite
    for fails in (OSError(28, "No space left on device"), lambda f, d, o: real(f, d[:5], o)):
        failing = patch("playhead.client.spool.os.pwrite", side_effect=fails)
        with failing, pytest.raises(SpoolError, match="spool: "):
            waiting.append(b'{"n":"lost"}')
    _fill(waiting, _records(2, start=3))
    _die(waiting)
    again = Spool(folder, MB)
    assert _drain(again) == _records(5)
    again.close()


def test_two_producers_cannot_share_a_folder(folder: Path) -> None:
    waiting = Spool(folder, MB)
    _fill(waiting, _records(3))
    with pytest.raises(SpoolError, match=f"another producer uses this spool.*{os.getpid()}"):
        Spool(folder, MB)
    assert waiting.take(9, MB) == _records(3)
    waiting.close()
    again = Spool(folder, MB)
    assert again.events == 3
    again.close()


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpoolError, match="file"):
        Spool(tmp_path / "file", MB)


def test_a_folder_that_cannot_be_read_keeps_its_events(folder: Path) -> None:
    waiting = Spool(folder, MB)
    _fill(waiting, _records(3))
    _die(waiting)
    failing = patch("playhead.client.spool.Path.read_bytes", side_effect=OSError(5, "I/O error"))
    with failing, pytest.raises(SpoolError, match="I/O error"):
        Spool(folder, MB)
    again = Spool(folder, MB)
    assert _drain(again) == _records(3)
    again.close()


def test_a_spool_without_events_has_room(folder: Path) -> None:
    waiting = Spool(folder, 50_000)
    while waiting.append(b"x" * 1_000):
        pass
    _drain(waiting)
    assert waiting.append(b"x" * 49_000)
    assert sum(path.stat().st_size for path in folder.glob("*.events")) <= 50_000
    assert not waiting.append(b"x" * 1_000)
    assert _drain(waiting) == [b"x" * 49_000]
    assert not waiting.append(b"x" * 50_000)
    waiting.close()


def test_what_was_set_aside_is_its_owners_and_never_written_over(folder: Path) -> None:
    for number in range(2):
        waiting = Spool(folder, MB)
        _fill(waiting, _records(1, start=number))
        _die(waiting)
        (path,) = folder.glob("*.events")
        path.write_bytes(path.read_bytes()[:-1])
        Spool(folder, MB).close()
    kept = sorted(folder.glob("*.damaged"))
    assert [path.read_bytes()[8:] for path in kept] == [one[:-1] for one in _records(2)]
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


@pytest.mark.usefixtures("small")
def test_a_disk_that_takes_no_mark_still_delivers(folder: Path) -> None:
    waiting = Spool(folder, MB)
    _fill(waiting, _records(100))
    with patch.object(waiting, "_note", side_effect=OSError(28, "No space left on device")):
        assert _drain(waiting, 10) == _records(100)
    _fill(waiting, _records(1, start=100))
    _die(waiting)
    again = Spool(folder, MB)
    # The last segment may come once more, as no mark tells that it was delivered.
    assert _drain(again)[-1:] == _records(1, start=100)
    again.close()


def test_a_forked_child_does_not_hold_its_parents_spool(folder: Path) -> None:
    waiting = Spool(folder, MB)
    _fill(waiting, _records(1))
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    over = context.Event()

    def run() -> None:
        theirs.send("runs")
        over.wait(20)

    child = context.Process(target=run)
    child.start()
    assert ours.recv() == "runs"
    _die(waiting)
    again = Spool(folder, MB)
    assert _drain(again) == _records(1)
    again.close()
    over.set()
    child.join(10)


def test_a_full_disk_does_not_keep_a_spool_from_being_opened(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Spool(folder, MB)
    _fill(waiting, _records(3))
    _die(waiting)
    (path,) = folder.glob("*.events")
    path.write_bytes(path.read_bytes() + b"torn")
    full = OSError(28, "No space left on device")
    real = os.open

    def open_(name: Path, flags: int, mode: int = 0o777) -> int:
        if name.suffix == ".damaged":
            raise full
        return real(name, flags, mode)

    with (
        patch("playhead.client.spool.os.pwrite", side_effect=full),
        patch("playhead.client.spool.os.open", side_effect=open_),
    ):
        again = Spool(folder, MB)
        assert _drain(again) == _records(3)
    assert "cannot be kept: No space left" in caplog.text
    again.close()
