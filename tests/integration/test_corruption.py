"""Bits flipped, files cut short and files deleted: found, never read as good, and mended."""

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from layers import (
    Running,
    SmallWorkspace,
    load,
    load_dimensions,
    ordered,
    searches,
    send,
    watches,
    workspace,
)
from playhead.errors import PlayheadError
from playhead.lake.checksums import VERIFIED
from playhead.ops import RebuildReport, VerifyReport, rebuild, verify

VIEWS = ("counts", "windows", "countries", "searches")
KINDS = ("log.db", "state.db", "catalog.db", ".parquet", ".metadata.json", ".avro")
Answers = dict[str, list[tuple[Any, ...]]]


class Patient:
    """A workspace that is damaged and made whole again, at one place: its files name each other."""

    def __init__(self, folder: Path) -> None:
        self.path, self._copy = folder / "w", folder / "copy"
        with workspace(self.path, *VIEWS) as opened:
            load_dimensions(opened)
            load(opened, watches(20, start=1000))
            opened.batch()
            send(opened, watches(60))
            opened.log.append("search", searches(range(20)))
            opened.speed(drain=True)
            opened.batch()
            send(opened, watches(40, start=50, minute=500))
            opened.speed(drain=True)
            send(opened, watches(30, start=80, minute=900))
            with Running(opened) as layer:
                layer.step()
            self.answers = self.ask(opened)
            assert verify(opened).findings == ()
        shutil.copytree(self.path, self._copy)

    def ask(self, opened: SmallWorkspace) -> Answers:
        return {name: ordered(opened.view(name).to_arrow()) for name in VIEWS}

    def open(self) -> SmallWorkspace:
        # Another process would find the damage; this one has seen the files sound.
        VERIFIED.forget()
        opened = SmallWorkspace(self.path)
        opened.names = VIEWS
        return opened

    def heal(self) -> None:
        shutil.rmtree(self.path)
        shutil.copytree(self._copy, self.path)

    def files(self, kind: str, among: str = "") -> list[Path]:
        found = sorted(path for path in self.path.rglob(f"*{kind}") if among in str(path))
        assert found, kind
        return found

    def is_as_it_was(self, path: Path) -> bool:
        """Whether a SQLite file's rows are those that were written, wherever the bit fell."""
        return _rows(path) == _rows(self._copy / path.relative_to(self.path))


def _rows(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return sorted(map(str, connection.iterdump()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    return Patient(tmp_path_factory.mktemp("corruption"))


@pytest.fixture
def patient(whole: Patient) -> Iterator[Patient]:
    yield whole
    whole.heal()


def flip(path: Path, at: int, bit: int) -> None:
    body = bytearray(path.read_bytes())
    body[at] ^= 1 << bit
    path.write_bytes(body)


def damage(path: Path, chance: random.Random) -> str:
    """Damage a file in one of the ways in which disks do."""
    size, how = path.stat().st_size, chance.choice(["flip"] * 6 + ["cut", "empty", "gone"])
    at = chance.randrange(size)
    if how == "flip":
        flip(path, at, chance.randrange(8))
    elif how == "gone":
        path.unlink()
    else:
        with path.open("r+b") as file:
            file.truncate(at if how == "cut" else 0)
    return f"{how} at {at} of {path.name}"


SEEDS = [
    pytest.param(range(2), id="few"),
    pytest.param(range(2, 40), id="many", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found_and_never_answers_wrongly(
    patient: Patient, kind: str, seeds: range
) -> None:
    for seed in seeds:
        chance = random.Random(f"{kind} {seed}")
        path = chance.choice(patient.files(kind))
        what = f"{damage(path, chance)} (seed {seed})"
        with patient.open() as opened:
            for name in VIEWS:
                answer = answer_or_error(opened, name)
                if isinstance(answer, PlayheadError):
                    assert answer.hint, what
                else:
                    assert answer == patient.answers[name], what
            report = verify(opened)
        assert not report.clean or (kind.endswith(".db") and patient.is_as_it_was(path)), what
        patient.heal()


def answer_or_error(opened: SmallWorkspace, view: str) -> list[tuple[Any, ...]] | PlayheadError:
    try:
        answer: list[tuple[Any, ...]] = ordered(opened.view(view).to_arrow())
        return answer
    except PlayheadError as error:
        return error


def rebuilt(patient: Patient) -> tuple[RebuildReport, VerifyReport]:
    with patient.open() as opened:
        report = rebuild(opened, everything=True)
        return report, verify(opened)


def assert_whole(patient: Patient, report: RebuildReport, after: VerifyReport) -> None:
    assert not report.lost
    assert after.clean, after.findings
    with patient.open() as opened:
        assert patient.ask(opened) == patient.answers


@pytest.mark.parametrize(
    ("kind", "among"),
    [
        (".parquet", "/state/"),
        (".metadata.json", "/state/"),
        (".avro", "/state/"),
        (".parquet", "/clean/playback"),
        (".avro", "/clean/playback"),
        (".parquet", "/raw/search"),
        ("catalog.db", ""),
        ("state.db", ""),
    ],
)
def test_rebuild_mends(patient: Patient, kind: str, among: str) -> None:
    for path in patient.files(kind, among)[-2:]:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size * 2 // 3)
    with patient.open() as opened:
        assert not verify(opened).clean
    assert_whole(patient, *rebuilt(patient))


def test_a_block_of_the_log_is_mended_from_the_lake(patient: Patient) -> None:
    path = patient.path / "log.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE blocks SET body = zeroblob(length(body)) WHERE rowid = "
            "(SELECT min(rowid) FROM blocks)"
        )
        connection.commit()
    with patient.open() as opened:
        (finding,) = verify(opened).findings
        assert "topic playback, partition" in finding.place
        assert "offsets 0 to" in finding.what
    report, after = rebuilt(patient)
    assert "restored from the lake" in report.mended[0].what
    assert_whole(patient, report, after)


def test_what_only_a_file_had_is_said_to_be_lost(patient: Patient) -> None:
    for path in patient.files(".parquet", "/raw/playback"):
        path.unlink()
    report, _ = rebuilt(patient)
    assert report.batch is None
    lost = report.lost[0]
    assert lost.place.startswith("raw.playback, 2025-0")
    assert "20 of" in lost.what


def test_damaged_dimensions_are_dropped_only_when_told_to(patient: Patient) -> None:
    flip(patient.files(".parquet", "/dim/users")[0], 100, 3)
    report, _ = rebuilt(patient)
    assert [one.place for one in report.lost] == ["dim.users"]
    with patient.open() as opened:
        report = rebuild(opened, everything=True, drop_lost=True)
        assert not report.lost
        load_dimensions(opened)
        opened.batch()
        assert patient.ask(opened) == patient.answers


@pytest.mark.parametrize(
    ("table", "change", "found"),
    [
        ("clean.playback", "DELETE", "cleaning gives"),
        ("raw.playback", "DELETE", "missing"),
        ("raw.playback", "DOUBLE", "there twice"),
        ("state.counts", "DOUBLE", "are not what the events give"),
    ],
)
def test_rows_that_do_not_belong_are_found(
    patient: Patient, table: str, change: str, found: str
) -> None:
    with patient.open() as opened:
        (name,) = [t for t in opened.lake.tables() if t.startswith(table)]
        scan = opened.lake.scan(name)
        first = f"(SELECT * FROM {scan} ORDER BY ALL LIMIT 1)"
        with opened._connect() as connection:
            if change == "DOUBLE":
                opened.lake.append(name, connection, f"FROM {first}")
            else:
                opened.lake.overwrite(name, connection, f"FROM {scan} EXCEPT ALL FROM {first}")
        report = verify(opened)
    assert [f for f in report.findings if found in f.what], report.findings


def test_speed_states_that_are_wrong_are_found(patient: Patient) -> None:
    with patient.open() as opened:
        before = verify(opened)
        assert before.clean
        assert before.checked["speed epochs"] > 0
    _edit_state(patient.path / "state.db")
    with patient.open() as opened:
        report = verify(opened)
    assert any(
        "epoch" in f.place and f.mend.startswith("playhead rebuild") for f in report.findings
    )


def _edit_state(path: Path) -> None:
    """Say that the epochs' blocks belong to another epoch, as a program that errs would."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE blocks SET epoch = epoch - 1 WHERE epoch = (SELECT max(epoch) FROM blocks)"
        )
        connection.commit()
