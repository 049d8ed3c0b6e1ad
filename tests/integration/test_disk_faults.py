"""Disks that are full or fail: one clear error, nothing acknowledged lost, and the work goes on."""

import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from test_crash import check

from failing_disk import Ended, FailingDisk, Fault, build_shim, compiler
from layers import (
    Running,
    assert_merged_is_full,
    counted,
    load_dimensions,
    send,
    watch_line,
    watches,
    workspace,
    write_files,
)
from playhead import disk
from playhead.errors import LakeError, LogFullError, PlayheadError, WorkspaceBusyError
from playhead.eventlog import SqliteEventLog
from playhead.eventlog.connections import Connections
from playhead.lake import Lake
from playhead.lake.checksums import VERIFIED, Checksums
from playhead.lock import RoleLock
from playhead.ops import verify
from stages import VIEWS

TESTS = Path(__file__).parents[1]
OLD = watches(30)
SEALED = watches(60, start=1000, minute=300, step=0.5)
WAITING = [*watches(60, start=2000, minute=600, step=0.5), *OLD[:5]]
LINES = [watch_line(3000 + number, user=number % 7) for number in range(40)]

LOG, STATE, CATALOG = "/log.db", "/state.db", "/catalog.db"
DATA, METADATA, SPILL = "/data/", "/metadata/", "/tmp/"  # noqa: S108
"""What the path of a file of each kind contains, beside the workspace's."""

COMMANDS = {
    LOG: ["replay"],
    STATE: ["speed", "compaction"],
    DATA: ["load", "speed", "batch"],
    METADATA: ["batch", "load", "speed"],
    CATALOG: ["speed", "batch", "load"],
    SPILL: ["replay"],
}
FAULTS = {
    "full": ("write", errno.ENOSPC),
    "write": ("write", errno.EIO),
    "sync": ("sync", errno.EIO),
}


@dataclass(frozen=True)
class Case:
    """What fails while a command runs."""

    place: str
    fault: str
    command: str

    def __str__(self) -> str:
        return f"{self.place.strip('/')}-{self.fault}-{self.command}"


CASES = [
    Case(place, fault, command)
    for place, commands in COMMANDS.items()
    for fault in FAULTS
    if (place, fault) != (SPILL, "sync")  # What goes with its process is never synced.
    for command in commands
]
FEW = [
    *(Case(place, "full", commands[0]) for place, commands in COMMANDS.items()),
    *(Case(place, "write", COMMANDS[place][-1]) for place in (LOG, STATE, METADATA)),
]


class Patient:
    """A workspace with work for every command, of which each test has a copy at one place."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self.folder, self.path = folder, folder / "w"
        self._copy, self._files = folder / "copy", folder / "files"
        write_files(self._files, {
            "watch_history": [*LINES, LINES[0]],
            "users": [{"user_id": "u1", "email": "x", "country": "Peru"}],
        })  # fmt: skip
        with workspace(self.path, *VIEWS) as opened:
            (self.path / "playhead.toml").write_text("[speed]\nmax_events = 30\n")
            load_dimensions(opened)
            send(opened, OLD)
            opened.speed(drain=True)
            opened.batch()
            send(opened, SEALED)
            running = Running(opened, max_events=10)
            with running as layer:
                running.catch_up()
                layer.seal()
            send(opened, WAITING)
        shutil.copytree(self.path, self._copy)
        self._disk = FailingDisk(folder, shim)
        self._calls: dict[tuple[str, str, str], int] = {}

    def close(self) -> None:
        self._disk.close()

    def heal(self) -> None:
        shutil.rmtree(self.path)
        shutil.copytree(self._copy, self.path)

    def run(self, command: str, fault: Fault | None = None, *, killed: bool = False) -> Ended:
        options = {"replay": [str(self._files), "--rate", "max"], "load": [str(self._files)]}
        options["speed"] = ["--drain"]
        given = options.get(command, [])
        return self._disk.run(command, *given, fault=fault, killed=killed)

    def query(self, sql: str, fault: Fault | None = None) -> Ended:
        return self._disk.run("query", sql, fault=fault)

    def calls(self, case: Case) -> int:
        """How many calls of a command could fail."""
        call, _ = FAULTS[case.fault]
        key = (case.place, call, case.command)
        if key not in self._calls:
            self.heal()
            ended = self.run(case.command, Fault(self._text(case.place), call))
            assert ended.status == 0, ended.err
            self._calls[key] = ended.matched
            self.heal()
        return self._calls[key]

    def fault(self, case: Case, after: int, *, times: int = 0) -> Fault:
        call, number = FAULTS[case.fault]
        return Fault(self._text(case.place), call, number, after, times)

    def _text(self, place: str) -> str:
        # The lake and all that is in it have their place below the workspace's.
        return f"{self.path}{place}" if place == SPILL else place

    def check_whole(self, command: str) -> None:
        """After a command went on to its end, all is there, once, and nothing is damaged."""
        VERIFIED.forget()
        with workspace(self.path, *VIEWS) as opened:
            if command != "load":
                # Whatever was committed is all that counts, before anything else is done.
                assert_merged_is_full(opened)
            opened.speed(drain=True)
            opened.batch()
            ids = {event.event_id for event in (*OLD, *SEALED, *WAITING)}
            if command in ("load", "replay"):
                ids |= {line["session_id"] for line in LINES}
            check(opened, ids)
            report = verify(opened)
            assert report.clean, report.findings


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if compiler() is None:
        pytest.skip("missing: a C compiler (cc, gcc or clang)")
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Patient]:
    patient = Patient(tmp_path_factory.mktemp("disk"), shim)
    yield patient
    patient.close()


@pytest.fixture
def patient(sick: Patient) -> Patient:
    sick.heal()
    return sick


def names(told: str, path: str) -> bool:
    """Whether an error names a file or its folder; of a SQLite file, its main one will do."""
    file = path.removesuffix("-wal").removesuffix("-shm").removesuffix("-journal")
    return file in told or (not file.endswith(".db") and str(Path(file).parent) in told)


def assert_told(ended: Ended, fault: Fault) -> None:
    """One clear error says where and what to do; or nothing that matters failed."""
    assert ended.failed
    assert "Traceback" not in ended.err, ended.err
    if ended.status == 0:
        # A checkpoint of SQLite: what it moves stays in the write-ahead log.
        assert all(path.endswith((".db", ".db-wal")) for _, path in ended.failed), ended
        return
    assert ended.status == 1, ended
    assert ended.err.count("error: ") >= 1, ended.err
    assert "unexpected" not in ended.err, ended.err
    assert any(names(ended.err, path) for _, path in ended.failed), ended
    assert any(advice in ended.err for advice in advices(ended, fault)), ended


def advices(ended: Ended, fault: Fault) -> set[str]:
    """What may be said of a fault: SQLite does not always tell one reason from another."""
    told = {disk.FULL if fault.number == errno.ENOSPC else disk.FAILS}
    if any(path.endswith("-shm") for _, path in ended.failed):
        return {disk.FULL, disk.FAILS, disk.UNWRITABLE}
    if any(call.startswith("open") for call, _ in ended.failed):
        told.add(disk.UNWRITABLE)
    return told


def meet(patient: Patient, case: Case, after: int) -> None:
    """A command meets a fault; when that is gone, the same command goes on to its end."""
    fault = patient.fault(case, after)
    ended = patient.run(case.command, fault)
    assert_told(ended, fault)
    again = patient.run(case.command)
    assert again.status == 0, again.err
    patient.check_whole(case.command)


def places(patient: Patient, case: Case, count: int) -> list[int]:
    """Calls to fail from: some of all, the first and the last among them if there are several."""
    calls = patient.calls(case)
    assert calls, f"{case} never comes to pass"
    if count == 1:
        return [random.Random(str(case)).randrange(calls)]
    return sorted({round(number * (calls - 1) / (count - 1)) for number in range(count)})


@pytest.mark.parametrize("case", FEW, ids=str)
def test_a_command_meets_a_fault_and_goes_on_when_it_is_gone(patient: Patient, case: Case) -> None:
    (after,) = places(patient, case, 1)
    meet(patient, case, after)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_command_meets_a_fault_at_any_call(patient: Patient, case: Case) -> None:
    for after in places(patient, case, 5):
        patient.heal()
        meet(patient, case, after)


@pytest.mark.parametrize(
    ("place", "command"),
    [
        *[(f"{LOG}-wal", "replay"), (f"{STATE}-wal", "compaction"), (f"{CATALOG}-wal", "speed")],
        *[(DATA, "speed"), (METADATA, "batch")],
    ],
    ids=lambda text: text.strip("/"),
)
def test_a_sync_that_fails_once_is_no_success(patient: Patient, place: str, command: str) -> None:
    # The kernel tells once of what it could not write; asked again, it says that all is well.
    ended = patient.run(command, Fault(place, "sync", errno.EIO, times=1))
    assert ended.status == 1, ended
    assert len(ended.failed) == 1
    assert disk.FAILS in ended.err
    assert patient.run(command).status == 0
    patient.check_whole(command)


SLOW = pytest.mark.slow
UNSYNCED = [(LOG, "replay"), (STATE, "speed"), (CATALOG, "batch")]


@pytest.mark.parametrize(
    ("place", "command", "count"),
    [
        *[pytest.param(*case, 1, id="-".join(case)[1:]) for case in UNSYNCED],
        *[
            pytest.param(*c, 9, marks=pytest.mark.slow, id=f"{c[0][1:]}-{c[1]}-any")
            for c in UNSYNCED
        ],
    ],
)
def test_a_crash_after_a_sync_that_failed(
    patient: Patient, place: str, command: str, count: int
) -> None:
    # SQLite then finds whole transactions that it has reported as failed, and takes them for good.
    for after in range(count):
        patient.heal()
        patient.run(command, Fault(f"{place}-wal", "sync", errno.EIO, after, 1), killed=True)
        again = patient.run(command)
        assert again.status == 0, again.err
        patient.check_whole(command)


def test_init_on_a_full_disk_is_done_by_another_init(
    tmp_path: Path, shim: Path, request: pytest.FixtureRequest
) -> None:
    ill = FailingDisk(tmp_path, shim)
    request.addfinalizer(ill.close)
    step = 1 if request.config.getoption("-m") == "slow" else 9
    for after in range(0, 40, step):
        shutil.rmtree(tmp_path / "w", ignore_errors=True)
        fault = Fault(str(tmp_path / "w"), "write", errno.ENOSPC, after)
        ended = ill.run("init", fault=fault)
        if ended.status == 1:
            assert_told(ended, fault)
        again = ill.run("init")
        assert again.status == 0, (after, again.err)
        assert ill.run("verify").status == 0


def test_a_query_that_spills_onto_a_full_disk(patient: Patient) -> None:
    with (patient.path / "playhead.toml").open("a") as file:
        file.write('[engine]\nmemory_limit = "30MB"\nthreads = 1\n')
    sql = "SELECT count(*) FROM (SELECT DISTINCT i::VARCHAR || repeat('x', 20) FROM range(300000) "
    fault = patient.fault(Case(SPILL, "full", "query"), 1)
    ended = patient.query(sql + "t(i))", fault)
    assert ended.status == 1, ended
    assert_told(ended, fault)
    assert patient.query(sql + "t(i))").status == 0


APPENDS = """
import sys
from pathlib import Path
from layers import table, watches
from playhead import disk
from playhead.clock import SystemClock
from playhead.contracts import TOPICS
from playhead.errors import LogFullError
from playhead.eventlog import SqliteEventLog

switch = Path(sys.argv[2])
log = SqliteEventLog(Path(sys.argv[1]))
log.create_topic("playback", TOPICS["playback"].schema)
for turn in range(3):
    log.append("playback", table(watches(20, start=100 * turn)))
    switch.touch()
    for _ in range(3):
        try:
            log.append("playback", table(watches(50, start=100 * turn + 20)))
        except LogFullError as error:
            assert error.retryable
            assert error.hint
        else:
            raise AssertionError("taken by a full disk")
    read = sum(log.read("playback", p, 0).num_rows for p in range(3))
    assert read == sum(log.end_offsets("playback").values()) == 70 * turn + 20, read
    switch.unlink()
    log.append("playback", table(watches(50, start=100 * turn + 20)))
ids = [i for p in range(3) for i in log.read("playback", p, 0).column("event_id").to_pylist()]
assert len(ids) == len(set(ids)) == 210
log.close()
"""


def test_the_log_goes_on_in_the_same_process_when_there_is_space_again(
    tmp_path: Path, shim: Path
) -> None:
    switch = tmp_path / "full"
    fault = Fault(f"{tmp_path}{LOG}", "write", errno.ENOSPC)
    told = fault.environment(only_while=switch, log=tmp_path / "faults.log")
    paths = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **told, "LD_PRELOAD": str(shim), "PYTHONPATH": paths}
    program = [sys.executable, "-c", APPENDS, str(tmp_path / "log.db"), str(switch)]
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "faults.log").read_text().count("\n") >= 9


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 12 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "playhead-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    # It fails if anything on that disk is still open.
    subprocess.run(["umount", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Take all the space that the disk has left."""
    written = subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=4k"], capture_output=True)
    assert b"No space left" in written.stderr


def test_a_small_disk_that_fills_up(small_disk: Path) -> None:
    path, ballast = small_disk / "w", small_disk / "ballast"
    taken = list(OLD)
    with workspace(path, *VIEWS) as opened:
        load_dimensions(opened)
        send(opened, OLD)
        opened.speed(drain=True)
        opened.batch()
        fill(ballast)
        refused = watches(5000, start=5000)
        with pytest.raises(LogFullError) as caught:
            send(opened, refused)
        assert caught.value.retryable
        ballast.unlink()
        send(opened, refused)
        taken += refused
        fill(ballast)
        with pytest.raises(PlayheadError, match=r"full"):
            opened.speed(drain=True)
        assert counted(opened) == len(OLD)
    # What the closed log gave back is taken, too: its shared memory may find no room.
    fill(ballast)
    with suppress(LogFullError):
        SqliteEventLog(path / "log.db").close()
    ballast.unlink()
    VERIFIED.forget()
    with workspace(path, *VIEWS) as opened:
        opened.speed(drain=True)
        opened.batch()
        check(opened, {event.event_id for event in taken})
        assert verify(opened).clean


def test_a_table_stays_when_its_checksum_cannot_be_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = pa.schema([("number", pa.int64())])

    def full(*_: object) -> None:
        raise LakeError("the catalog cannot be used")

    with Lake(tmp_path) as lake:
        with monkeypatch.context() as broken:
            broken.setattr(Checksums, "set", full)
            with pytest.raises(LakeError, match="cannot be used"):
                lake.create("raw.numbers", schema)
        lake.create("raw.numbers", schema)
        assert lake.rows("raw.numbers") == 0


def raised_from(cause: BaseException) -> PlayheadError:
    error = PlayheadError("something")
    error.__cause__ = cause
    return error


def test_what_an_error_says_of_the_disk() -> None:
    assert disk.advice(OSError(errno.ENOSPC, "No space")) == disk.FULL
    assert disk.advice(OSError(errno.EDQUOT, "Quota")) == disk.FULL
    assert disk.advice(raised_from(OSError(errno.EIO, "Failed"))) == disk.FAILS
    assert disk.advice(duckdb.IOException("IO Error: No space left on device")) == disk.FULL
    assert disk.advice(OSError("IO Error: Input/output error")) == disk.FAILS
    assert disk.advice(FileNotFoundError(errno.ENOENT, "No such file")) is None
    assert disk.advice(ValueError("no")) is None
    assert not disk.is_undecided(OSError(errno.EIO, "Failed"))


def test_a_log_that_cannot_be_opened_on_a_full_disk_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = Connections(tmp_path / "log.db", timedelta(seconds=1))
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    assert not connections.explain(error).retryable
    monkeypatch.setattr(disk, "_SMALL_BYTES", 1 << 62)
    assert isinstance(connections.explain(error), LogFullError)
    connections.close()


def test_a_role_is_taken_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("playhead.lock.os.write", full)
    with (
        RoleLock(tmp_path / "role.lock", "role"),
        pytest.raises(WorkspaceBusyError, match="unknown"),
    ):
        RoleLock(tmp_path / "role.lock", "role").acquire()
