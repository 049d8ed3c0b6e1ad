"""Dead letters: found wherever they are, each once, and recovered once."""

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from layers import T0, SmallWorkspace, counted, rows, watches, workspace
from letters import TOPIC, Dead, post, watch_body
from playhead.batch.deadletters import Wanted
from playhead.batch.recover import Patch
from playhead.clock import ManualClock
from playhead.errors import ContractError, QueryError, WorkspaceBusyError, WorkspaceError
from playhead.ops.deadletters import export, export_to


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    clock = ManualClock(T0 + timedelta(days=1))
    with workspace(tmp_path / "w", "counts", clock=clock) as made:
        yield made


def listed(opened: SmallWorkspace, wanted: Wanted | None = None) -> list[str]:
    """The ids of letters, newest first."""
    with opened.dead_letters() as letters:
        found: list[str] = (
            letters.newest(wanted or Wanted(), limit=100).column("letter_id").to_pylist()
        )
        assert letters.count(wanted or Wanted()) == len(found)
    return found


# -- reading -----------------------------------------------------------------------------


def test_without_letters_there_are_none(opened: SmallWorkspace) -> None:
    assert listed(opened) == []


def test_letters_of_the_log_and_of_the_lake_are_one_list(opened: SmallWorkspace) -> None:
    first, second, third = ([Dead(n, minute=n) for n in range(a, a + 5)] for a in (0, 5, 10))
    post(opened, first)
    opened.speed(drain=True)
    assert opened.lake.exists("raw.dead_letters")
    post(opened, second)
    opened.speed(drain=True)
    opened.clock.advance(timedelta(days=30))  # type: ignore[attr-defined]
    opened.log.retain(timedelta(days=1))
    post(opened, third)
    expected = [dead.letter_id for dead in [*first, *second, *third]][::-1]
    assert listed(opened) == expected


def test_a_letter_that_is_there_twice_is_one(opened: SmallWorkspace) -> None:
    post(opened, [Dead(1), Dead(2), Dead(1)])
    opened.speed(drain=True)
    post(opened, [Dead(2)])
    assert listed(opened) == [Dead(1).letter_id, Dead(2).letter_id]


def test_only_those_wanted(opened: SmallWorkspace) -> None:
    post(
        opened,
        [
            Dead(1, minute=1),
            Dead(2, reason="Rating: expected `int`, got `str`", topic="rating", minute=2),
            Dead(3, reason="event_type: unknown", topic=None, minute=3),
        ],
    )
    one, two, three = (Dead(n).letter_id for n in (1, 2, 3))
    assert listed(opened, Wanted(reason="rating")) == [two]
    assert listed(opened, Wanted(topic="playback")) == [one]
    assert listed(opened, Wanted(since=T0 + timedelta(minutes=2))) == [three, two]
    assert listed(opened, Wanted(until=T0 + timedelta(minutes=2))) == [one]
    assert listed(opened, Wanted(letter_id="0003")) == [three]
    assert listed(opened, Wanted(recovered=True)) == []


def test_reasons_are_counted_by_class(opened: SmallWorkspace) -> None:
    reasons = [
        "rating: expected `int`, got `str`",
        "[17].rating: expected `int`, got `str`",
        "event_time: 2031-01-01 10:00:00 is out of range",
        "event_time: 2029-12-24 00:00:01.5 is out of range",
        "event_time: 2031-01-01T00:00:00Z is more than 0:05:00 after it was received, at 2025",
        "event_time: 2031-01-01T00:00:07.25Z is more than 0:05:00 after it was received, at 2025",
        "quality: invalid enum value '9K' (allowed: SD, HD, 4K, Ultra HD)",
        "quality: invalid enum value 'it''s' (allowed: SD, HD)",
        "amount: 1E+30 is out of range",
    ]
    post(opened, [Dead(n, reason=reason, minute=n) for n, reason in enumerate(reasons)])
    with opened.dead_letters() as letters:
        found = {one.reason: one for one in letters.reasons(Wanted())}
    assert {reason: one.letters for reason, one in found.items()} == {
        "rating: expected `int`, got `str`": 2,
        "event_time: # is out of range": 2,
        "event_time: # is more than # after it was received, at #": 2,
        "quality: invalid enum value …": 1,
        "quality: invalid enum value ……": 1,
        "amount: # is out of range": 1,
    }
    ratings = found["rating: expected `int`, got `str`"]
    assert (ratings.first, ratings.last) == (T0, T0 + timedelta(minutes=1))
    assert ratings.example == Dead(1).letter_id


def test_one_letter_by_the_beginning_of_its_id(opened: SmallWorkspace) -> None:
    post(opened, [Dead(1, body=b"\xff not text"), Dead(2)])
    with opened.dead_letters() as letters:
        assert letters.letter("0001").body == b"\xff not text"
        with pytest.raises(QueryError, match="several"):
            letters.letter("000")
        with pytest.raises(QueryError, match="no dead letter"):
            letters.letter("ffff")


def test_letters_are_a_relation(opened: SmallWorkspace) -> None:
    post(opened, [Dead(1), Dead(2)])
    opened.speed(drain=True)
    opened.batch()
    post(opened, [Dead(3)])
    opened.speed(drain=True)
    assert rows(opened, "SELECT COUNT(*) AS n FROM dead_letters") == [{"n": 3}]


# -- export ------------------------------------------------------------------------------

BODIES = {1: b'{"a": "x, \\"y\\""}', 2: b"\xff\xfe", 3: b""}


@pytest.fixture
def exported(opened: SmallWorkspace) -> SmallWorkspace:
    post(opened, [Dead(n, body=body, minute=n) for n, body in BODIES.items()])
    return opened


def test_lines_hold_text_or_base64(exported: SmallWorkspace) -> None:
    sink = io.BytesIO()
    with exported.dead_letters() as letters:
        assert export(letters, Wanted(), sink, "ndjson") == 3
    told = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert [line["index"] for line in told] == [3, 2, 1]
    assert told[1]["body_base64"] == "//4="
    assert "body" not in told[1]
    assert told[2]["body"].encode() == BODIES[1]


def test_csv_holds_the_same(exported: SmallWorkspace) -> None:
    sink = io.BytesIO()
    with exported.dead_letters() as letters:
        assert export(letters, Wanted(), sink, "csv") == 3
    table = pa_csv.read_csv(io.BytesIO(sink.getvalue()))
    assert table.column("body").to_pylist()[2].encode() == BODIES[1]


def test_parquet_holds_the_bytes(exported: SmallWorkspace, tmp_path: Path) -> None:
    path = tmp_path / "letters.parquet"
    with exported.dead_letters() as letters:
        assert export_to(letters, Wanted(), path, "parquet") == 3
    table = pq.read_table(path)
    assert dict(zip(*(table.column(c).to_pylist() for c in ("index", "body")), strict=True)) == (
        BODIES
    )
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("format_", ["ndjson", "csv", "parquet"])
def test_nothing_can_be_exported(opened: SmallWorkspace, tmp_path: Path, format_: Any) -> None:
    with opened.dead_letters() as letters:
        assert export_to(letters, Wanted(), tmp_path / "none", format_) == 0


def test_a_file_that_cannot_be_written_is_named(opened: SmallWorkspace, tmp_path: Path) -> None:
    with opened.dead_letters() as letters, pytest.raises(WorkspaceError, match="cannot be written"):
        export_to(letters, Wanted(), tmp_path / "no" / "such" / "folder", "csv")


def test_a_folder_is_no_file_to_export_to(
    opened: SmallWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for path in (Path(), folder):
        with (
            opened.dead_letters() as letters,
            pytest.raises(WorkspaceError, match="cannot be written"),
        ):
            export_to(letters, Wanted(), path, "csv")
    assert list(folder.iterdir()) == []


# -- a patch -----------------------------------------------------------------------------


def test_a_patch_keeps_other_values_byte_for_byte() -> None:
    patch = Patch.parse(["rating=5", "device=Smart TV", 'note="5"'], ["old"])
    body = b'{"event_id": "e", "amount": 0.12345678901234567890, "old": 1, "rating": "x"}'
    changed = patch.apply(body, "letter")
    assert b"0.12345678901234567890" in changed
    assert json.loads(changed) == {
        "event_id": "e",
        "amount": 0.12345678901234567890,
        "rating": 5,
        "device": "Smart TV",
        "note": "5",
    }


def test_without_changes_the_bytes_stay() -> None:
    body = b'{ "event_id" : "e" }'
    assert Patch().apply(body, "letter") == body


@pytest.mark.parametrize("body", [b"{}", b'{"event_id": null}', b'{"event_id":  null }'])
def test_an_event_without_id_gets_that_of_the_letter(body: bytes) -> None:
    assert json.loads(Patch().apply(body, "letter"))["event_id"] == "letter"


def test_an_id_can_be_left_out() -> None:
    changed = Patch.parse(without=["event_id"]).apply(b'{"event_id": ""}', "letter")
    assert json.loads(changed) == {"event_id": "letter"}


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'{"a": 1} x', b"\xff", b"[" * 5000])
def test_what_is_no_object_stays_refused(body: bytes) -> None:
    with pytest.raises(ContractError, match="no JSON object"):
        Patch().apply(body, "letter")


@pytest.mark.parametrize(
    ("settings", "without"), [(["a"], []), (["=1"], []), (["event_id=x"], []), (["a=1"], ["a"])]
)
def test_a_patch_that_means_nothing_is_refused(settings: list[str], without: list[str]) -> None:
    with pytest.raises(ContractError):
        Patch.parse(settings, without)


# -- recovery ----------------------------------------------------------------------------


def test_what_is_good_after_a_patch_is_sent_on_once(opened: SmallWorkspace) -> None:
    post(opened, [Dead(n, watch_body(n, device_type=None)) for n in range(5)])
    post(opened, [Dead(9, watch_body(9, device_type=None, user_id=None))])
    patch = Patch.parse(["device_type=Mobile"])
    before = opened.log.end_offsets("playback")
    tried = opened.recover(patch=patch, dry_run=True)
    assert (tried.letters, tried.recovered["playback"], tried.refused) == (6, 5, 1)
    assert opened.log.end_offsets("playback") == before
    done = opened.recover(patch=patch)
    assert done == tried
    opened.speed(drain=True)
    assert counted(opened) == 5
    assert listed(opened) == [Dead(9).letter_id]
    assert listed(opened, Wanted(recovered=True)) == [Dead(n).letter_id for n in range(5)]
    again = opened.recover(patch=patch)
    assert (again.letters, again.recovered.total(), again.refused) == (1, 0, 1)


def test_without_a_patch_what_was_bad_stays_bad(opened: SmallWorkspace) -> None:
    post(opened, [Dead(1, b"no json"), Dead(2, watch_body(2, device_type=None))])
    report = opened.recover()
    assert (report.letters, report.recovered.total(), report.refused) == (2, 0, 2)
    assert set(report.examples.values()) == {Dead(1).letter_id, Dead(2).letter_id}
    assert any("device_type" in reason for reason in report.reasons)
    assert len(listed(opened)) == 2


def test_letters_of_several_topics_and_moments(opened: SmallWorkspace) -> None:
    search = {
        "event_id": "s1", "event_type": "search", "event_time": str(T0), "user_id": "u1",
        "device_type": "Mobile", "search_query": "x", "search_date": str(T0.date()),
        "results_returned": 1, "had_typo": False, "used_filters": False,
        "location_country": "USA",
    }  # fmt: skip
    post(opened, [Dead(1, watch_body(1), minute=1), Dead(2, watch_body(2), minute=1)])
    post(opened, [Dead(3, json.dumps(search).encode(), topic=None, minute=2)])
    report = opened.recover()
    assert report.recovered == {"playback": 2, "search": 1}, report.reasons
    opened.speed(drain=True)
    assert counted(opened) == 2
    assert rows(opened, "SELECT event_id FROM search") == [{"event_id": "s1"}]


def test_an_event_without_id_gets_one_and_counts_once(opened: SmallWorkspace) -> None:
    post(opened, [Dead(1, watch_body(1, event_id=None))])
    assert opened.recover().recovered == {"playback": 1}
    opened.speed(drain=True)
    assert rows(opened, "SELECT event_id FROM playback") == [{"event_id": Dead(1).letter_id}]


def test_its_time_is_compared_with_when_it_was_refused(opened: SmallWorkspace) -> None:
    """Twenty years later it is as good as it was then; and what came from the future still does."""
    opened.clock.advance(timedelta(days=20 * 365))  # type: ignore[attr-defined]
    future = str(T0 + timedelta(days=1))
    post(opened, [Dead(1, watch_body(1)), Dead(2, watch_body(2, event_time=future))])
    report = opened.recover()
    assert (report.recovered, report.refused) == ({"playback": 1}, 1)


def test_its_clock_is_put_right_as_when_it_came(opened: SmallWorkspace) -> None:
    # A clock that is two hours ahead, which the sender told beside the body.
    ahead = timedelta(hours=2)
    body = watch_body(1, event_time=(T0 + ahead).isoformat() + "Z", user_rating="x")
    post(opened, [Dead(1, body, sent_at=T0 + ahead)])
    opened.recover(patch=Patch.parse(["user_rating=4"]))
    [partition] = [p for p, end in opened.log.end_offsets("playback").items() if end]
    assert opened.log.read("playback", partition, 0).column("event_time").to_pylist() == [T0]


def test_an_event_that_came_by_itself_meanwhile_counts_once(opened: SmallWorkspace) -> None:
    from layers import send

    post(opened, [Dead(1, watch_body(1))])
    send(opened, watches(3))
    opened.recover()
    opened.speed(drain=True)
    assert counted(opened) == 3


def test_two_letters_of_one_event_make_it_one(opened: SmallWorkspace) -> None:
    post(opened, [Dead(1, watch_body(7)), Dead(2, watch_body(7))])
    assert opened.recover().recovered == {"playback": 2}
    opened.speed(drain=True)
    assert counted(opened) == 1
    assert len(listed(opened, Wanted(recovered=True))) == 2


def test_one_recovery_at_a_time(opened: SmallWorkspace) -> None:
    with opened._role("recovery"), pytest.raises(WorkspaceBusyError):
        opened.recover()


def test_marks_survive_sealing_and_cleaning(opened: SmallWorkspace) -> None:
    post(opened, [Dead(n, watch_body(n)) for n in range(10)])
    opened.recover(Wanted(letter_id="0003"))
    opened.speed(drain=True)
    opened.batch()
    assert Dead(3).letter_id not in listed(opened)
    assert len(listed(opened)) == 9
    assert rows(opened, f"SELECT event_type, COUNT(*) AS n FROM {TOPIC} GROUP BY 1 ORDER BY 1") == [
        {"event_type": "recovered", "n": 1},
        {"event_type": "rejected", "n": 10},
    ]
