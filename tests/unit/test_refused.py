"""The summary of dead letters counts what the letters themselves say, as far as it looks."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from layers import T0, SmallWorkspace, workspace
from letters import Dead, post, watch_body
from playhead.batch.deadletters import Wanted
from playhead.batch.recover import Patch
from playhead.clock import ManualClock
from playhead.ops.refused import TEXT_CHARACTERS, LetterTail, dead_letter_summary


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    clock = ManualClock(T0 + timedelta(days=1))
    with workspace(tmp_path / "w", "counts", clock=clock) as made:
        yield made


def test_without_letters_there_is_nothing(opened: SmallWorkspace) -> None:
    summary = dead_letter_summary(opened)
    assert summary.reasons == ()
    assert summary.letters == summary.appended == 0
    assert summary.is_whole


def test_classes_are_those_of_all_letters(opened: SmallWorkspace) -> None:
    reasons = [
        "rating: expected `int`, got `str`",
        "quality: invalid enum value '9K'",
        "quality: invalid enum value '8K'",
        "event_time: 2031-01-01 is out of range",
    ]
    dead = [
        Dead(n, reason=reasons[n % 4], topic="rating" if n % 4 == 0 else "playback", minute=n)
        for n in range(40)
    ]
    post(opened, [*dead, *dead[:7]])
    summary = dead_letter_summary(opened)
    assert (summary.letters, summary.looked_at, summary.is_whole) == (40, 47, True)
    with opened.dead_letters() as letters:
        told = {one.reason: one for one in letters.reasons(Wanted())}
    assert {one.reason: one.letters for one in summary.reasons} == {
        reason: one.letters for reason, one in told.items()
    }
    first = summary.reasons[0]
    assert (first.reason, first.letters) == ("quality: invalid enum value …", 20)
    assert (first.first, first.last) == (dead[1].refused_at, dead[38].refused_at)
    assert [one.letter_id for one in first.examples] == [dead[n].letter_id for n in (38, 37, 34)]
    assert first.examples[0].reason == "quality: invalid enum value '8K'"
    late = dead_letter_summary(opened, since=dead[30].refused_at)
    assert late.letters == 10
    assert min(one.first for one in late.reasons) == dead[30].refused_at


def test_bodies_are_text_up_to_a_bound(opened: SmallWorkspace) -> None:
    bodies = [b"{" + "é".encode() * 3_000, b"\xff{}", b'{"a": 1}']
    post(opened, [Dead(n, body=body, minute=n) for n, body in enumerate(bodies)])
    ((newest, odd, long),) = (one.examples for one in dead_letter_summary(opened).reasons)
    assert (newest.body, newest.body_bytes, newest.index) == ('{"a": 1}', 8, 2)
    assert (odd.body, odd.body_bytes) == ("\\xff{}", 3)
    assert long.body == "{" + "é" * (TEXT_CHARACTERS - 1)
    assert long.body_bytes == 6_001


def test_recovered_ones_are_told(opened: SmallWorkspace) -> None:
    post(opened, [Dead(n, watch_body(n, device_type=None), minute=n) for n in range(4)])
    wanted = Wanted(until=Dead(0, minute=2).refused_at)
    opened.recover(wanted, Patch.parse(["device_type=Mobile"], []))
    (one,) = dead_letter_summary(opened).reasons
    assert (one.letters, one.recovered) == (4, 2)
    assert [example.is_recovered for example in one.examples] == [False, False, True]


def test_only_what_is_new_is_read(opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    log, original = opened.log, type(opened.log).read

    def counting(self: Any, topic: str, partition: int, offset: int, **options: Any) -> Any:
        found = original(self, topic, partition, offset, **options)
        read.append(found.num_rows if options["columns"] != ("body",) else 0)
        return found

    post(opened, [Dead(n, minute=n) for n in range(300)])
    monkeypatch.setattr(type(log), "read", counting)
    with LetterTail(log, limit=90) as tail:
        first = tail.summary()
        assert (first.looked_at, first.letters, first.held, first.appended) == (90, 90, 300, 300)
        assert not first.is_whole
        assert sum(read) == 90
        read.clear()
        assert tail.summary() is first
        assert read == []
        post(opened, [Dead(n, minute=n) for n in range(300, 306)])
        second = tail.summary()
        assert sum(read) == 6
        assert (second.looked_at, second.appended) == (90, 306)
        (one,) = second.reasons
        assert one.last == Dead(0, minute=305).refused_at
        fresh = dead_letter_summary(opened, limit=90)
        assert fresh == second


def test_what_retention_took_is_not_counted(opened: SmallWorkspace) -> None:
    post(opened, [Dead(n) for n in range(10)])
    with LetterTail(opened.log) as tail:
        assert tail.summary().letters == 10
        opened.speed(drain=True)
        opened.clock.advance(timedelta(days=30))  # type: ignore[attr-defined]
        opened.log.retain(timedelta(days=1))
        summary = tail.summary()
        assert (summary.letters, summary.held, summary.appended) == (0, 0, 10)
        assert not summary.is_whole
        post(opened, [Dead(99)])
        assert tail.summary().letters == 1
