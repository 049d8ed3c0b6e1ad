"""Checks of each store alone: the event log, the lake's files, the speed layer's state."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

from playhead import disk
from playhead.errors import PlayheadError
from playhead.eventlog.inspect import Hole, LogInspector
from playhead.lake.checksums import named_crc32
from playhead.ops.findings import REBUILD_ALL, Finding, Scope, Severity, from_error
from playhead.speed.statefile import StateFile

_ORPHAN_AGE = timedelta(hours=1)
LOAD_AGAIN = "playhead load FOLDER"


def check_log(scope: Scope) -> Iterator[Finding]:
    """Structure, small tables, offsets without gaps, checksums of all blocks, groups.

    Brokers look after what they hold: of those, only that they answer and what groups committed.
    """
    if scope.workspace.settings.log.brokers:
        yield from _check_brokers(scope)
        return
    path = scope.path / "log.db"
    if not path.exists() or not path.stat().st_size:
        yield Finding.error(str(path), "the event log is missing", "restore it from a backup")
        return
    inspector = LogInspector(path)
    problems = inspector.problems(quick=scope.quick)
    yield from (Finding.error(str(path), problem) for problem in problems)
    try:
        topics = inspector.topics()
    except PlayheadError as error:
        yield from_error(str(path), error)
        return
    for done, (topic, number) in enumerate(topics.items()):
        scope.told("event log", done, len(topics), topic)
        yield from _check_topic(scope, inspector, topic, number)


def _check_brokers(scope: Scope) -> Iterator[Finding]:
    log, place = scope.workspace.log, scope.workspace.settings.log.brokers
    try:
        for topic in log.topics():
            ends = log.end_offsets(topic)
            scope.count("log partitions", len(ends))
            for group in log.groups(topic):
                for partition, offset in log.committed(group, topic).items():
                    if offset > ends.get(partition, 0):
                        yield Finding.error(
                            f"{place}: topic {topic}, partition {partition}",
                            f"consumer group {group} has committed offset {offset}, which is not "
                            "there",
                        )
    except PlayheadError as error:
        yield from_error(place, error)


def _check_topic(
    scope: Scope, inspector: LogInspector, topic: str, number: int
) -> Iterator[Finding]:
    place = f"{scope.path / 'log.db'}: topic {topic}"
    try:
        heads, commits = inspector.heads(number), inspector.commits(number)
    except PlayheadError as error:
        yield from_error(place, error)
        return
    for partition, head in heads.items():
        scope.count("log partitions")
        for hole in inspector.holes(topic, number, partition, head, quick=scope.quick):
            yield _hole(scope, hole)
    for group, offsets in commits.items():
        for partition, offset in offsets.items():
            at = heads.get(partition)
            if at is None or not 0 <= offset <= at.end_offset:
                yield Finding.error(
                    f"{place}, partition {partition}",
                    f"consumer group {group} has committed offset {offset}, which is not there",
                )


def _hole(scope: Scope, hole: Hole) -> Finding:
    return Finding.error(
        f"{scope.path / 'log.db'}: topic {hole.topic}, partition {hole.partition}",
        f"offsets {hole.first} to {hole.end - 1} are missing or fail their checksum",
    )


def check_lake(scope: Scope) -> Iterator[Finding]:
    """The catalog, every metadata file, every data file; orphans."""
    shared = scope.workspace.settings.lake
    place = shared.catalog or str(scope.path / "lake" / "catalog.db")
    try:
        inspector = scope.workspace.lake.inspector
        problems = inspector.catalog_problems()
        names = scope.workspace.lake.tables()
    except PlayheadError as error:
        yield from_error(place, error)
        return
    problems += [] if scope.quick or shared.catalog else _integrity(place)
    yield from (Finding.error(place, problem) for problem in problems)
    for path in inspector.lost_metadata():
        yield Finding.warning(place, f"has a checksum of {path}, which is missing", REBUILD_ALL)
    for name in names:
        for finding in _check_table(scope, name):
            if finding.severity is Severity.ERROR:
                scope.broken.add(name)
            yield finding
    if not problems and not scope.broken:
        found = inspector.orphans(older_than=_ORPHAN_AGE)
        if found:
            yield Finding.info(
                shared.warehouse or str(scope.path / "lake"),
                f"{len(found)} files that no table refers to, such as {found[0]}: left by writers "
                "that died; they do no harm",
            )


def _check_table(scope: Scope, name: str) -> Iterator[Finding]:
    inspector = scope.workspace.lake.inspector
    mend = LOAD_AGAIN if name.split(".")[0] in ("dim", "quality") else REBUILD_ALL
    mend = REBUILD_ALL if name == "dim.pair_ratings" else mend
    bad = inspector.metadata(name)
    scope.count("tables")
    if bad and not bad[0].needed:
        yield from (
            Finding.warning(
                f"{name}: {found.path}",
                f"{found.what}: an older version of the table's metadata, which no query needs",
                REBUILD_ALL,
            )
            for found in bad
        )
    elif bad:
        what = "metadata (the table cannot be read without it): "
        yield from (Finding.error(f"{name}: {f.path}", what + f.what, mend) for f in bad)
        return
    try:
        files = inspector.files(name)
    except PlayheadError as error:
        yield from_error(name, error, mend)
        return

    def on_file(done: int) -> None:
        scope.told(f"files of {name}", done, len(files), f"{done} of {len(files)}")

    if not bad:
        for found in inspector.data(inspector.older_files(name), quick=scope.quick):
            yield Finding.warning(
                f"{name}: {found.path}",
                f"{found.what}: a file of an older snapshot, which no query needs",
                REBUILD_ALL,
            )
    scope.count("data files", len(files))
    scope.count("data files without checksum", sum(named_crc32(f.path) is None for f in files))
    for found in inspector.data(files, quick=scope.quick, on_file=on_file):
        held = f"{found.file.rows} rows of {found.file.partition or name}" if found.file else ""
        yield Finding.error(f"{name}: {found.path}", f"{found.what}; it holds {held}", mend)


def check_state(scope: Scope) -> Iterator[Finding]:
    """The speed layer's file: structure, small tables, checksums of all blocks."""
    path = scope.path / "state.db"
    if not path.exists():
        return
    if not scope.quick:
        yield from (Finding.error(str(path), problem) for problem in _integrity(str(path)))
    try:
        with closing(StateFile(path)) as file:
            for body in () if scope.quick else file.damaged_bodies():
                yield Finding.error(str(path), f"body {body} of state blocks fails its checksum")
    except PlayheadError as error:
        yield from_error(str(path), error)
    unpublished = _unpublished(scope)
    if unpublished:
        yield Finding.info(
            str(path), f"{unpublished} alerts are not published yet", "playhead speed --drain"
        )


def _unpublished(scope: Scope) -> int:
    try:
        return len(scope.workspace.state.alerts(unpublished=True))
    except PlayheadError:
        return 0


def _integrity(path: str) -> list[str]:
    """What SQLite itself finds wrong with a file."""
    try:
        with closing(sqlite3.connect(path, timeout=30, factory=disk.Connection)) as db:
            rows = db.execute("PRAGMA integrity_check(20)").fetchall()
    except sqlite3.Error as error:
        return [str(error)]
    return [str(text) for (text,) in rows if text != "ok"]
