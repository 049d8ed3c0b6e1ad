"""Looks at every part that the settings name: is it there, does it answer, will it do?

Each check says what it found in one line and, where something is wrong, what mends it. None of
them changes a workspace, a table or a topic; the object store gets a small file, which is deleted.
"""

import importlib.metadata
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path

from playhead.assemble import Workspace
from playhead.config.address import Address
from playhead.engines.spark.lakes import check_reach
from playhead.errors import PlayheadError
from playhead.platform.control import platform_status

__all__ = ["Check", "State", "diagnose"]

LEAST_FREE_BYTES = 2 << 30
MOST_SKEW_S = 2.0
"""Windows are cut by the clock of whoever stamps an event: more is told."""
LEAST_JAVA = 17
_TIMEOUT_S = 10.0
_VERSION = re.compile(r'version "(\d+)')


class State(StrEnum):
    """How a part is."""

    FINE = "fine"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """What was found of one part.

    Attributes:
        part: such as "lake: catalog".
        told: what was found, in a line.
        mend: what to do about it; empty if all is well.
    """

    part: str
    state: State
    told: str
    mend: str = ""


Found = Iterator[Check]


def diagnose(path: Path, on_part: Callable[[str], None] | None = None) -> Iterator[Check]:
    """Check what the settings of a workspace name, one part after another.

    Args:
        path: of the workspace; that it is none, is one of the findings.
        on_part: told what is looked at now.
    """
    tell = on_part or (lambda _: None)
    tell("versions")
    yield from _versions()
    tell("workspace")
    try:
        opened = Workspace(path)
    except PlayheadError as error:
        yield _failed("workspace", error)
        return
    with opened:
        yield _fine("workspace", f"{path}, format and settings can be read")
        parts: dict[str, Callable[[Workspace], Found]] = {
            "disk": _disk,
            "views": _views,
            "event log": _log,
            "lake: catalog": _catalog,
            "lake: object store": _store,
            "lake": _lake,
            "Spark": _spark,
            "addresses": _addresses,
        }
        for part, look in parts.items():
            tell(part)
            try:
                yield from look(opened)
            except (PlayheadError, OSError) as error:
                yield _failed(part, error)


def _fine(part: str, told: str) -> Check:
    return Check(part, State.FINE, told)


def _failed(part: str, error: PlayheadError | OSError) -> Check:
    if isinstance(error, PlayheadError):
        return Check(part, State.FAILED, error.message, error.hint or "")
    return Check(part, State.FAILED, str(error))


# -- this machine --------------------------------------------------------------------------


def _versions() -> Found:
    python = ".".join(map(str, sys.version_info[:3]))
    names = ("playhead", "duckdb", "pyarrow", "pyiceberg", "sqlglot")
    found = {name: importlib.metadata.version(name) for name in names}
    told = [f"Python {python}", *(f"{name} {version}" for name, version in found.items())]
    yield _fine("versions", ", ".join(told))
    wrong = _unmet("playhead")
    if wrong:
        yield Check(
            "versions", State.WARNING, f"not as Playhead needs them: {', '.join(wrong)}",
            "Install Playhead anew: pip install --upgrade playhead.",
        )  # fmt: skip


def _unmet(package: str) -> list[str]:
    """Requirements of an installed package that what is installed does not meet."""
    from packaging.requirements import Requirement

    wrong = []
    for text in importlib.metadata.requires(package) or ():
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{needed.name} is missing")
            continue
        if not needed.specifier.contains(version, prereleases=True):
            wrong.append(f"{needed.name} {version}, not {needed.specifier}")
    return wrong


def _disk(workspace: Workspace) -> Found:
    free = shutil.disk_usage(workspace.path).free
    told = f"{free / (1 << 30):,.1f} GB free where the workspace is"
    least = max(LEAST_FREE_BYTES, workspace.settings.gateway.min_free_mb << 20)
    if free < least:
        mend = f"Make room: the gateway refuses events below {least / (1 << 30):,.1f} GB."
        yield Check("disk", State.WARNING, told, mend)
    else:
        yield _fine("disk", told)
    began = time.perf_counter()
    probe = workspace.path / f".doctor-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"x")
        took_ms = (time.perf_counter() - began) * 1000
        yield _fine("disk", f"can be written, a small file in {took_ms:.1f} ms")
    finally:
        probe.unlink(missing_ok=True)


def _views(workspace: Workspace) -> Found:
    yield _fine("views", f"{len(workspace.views)} views can be merged exactly")


def _addresses(workspace: Workspace) -> Found:
    settings = workspace.settings
    if platform_status(workspace.path).state not in ("none", "dead"):
        yield _fine("addresses", "the platform runs in this workspace")
        return
    addresses = {
        "gateway": settings.gateway.address,
        "api": settings.api.address,
        "dashboard": settings.dashboard.address,
    }
    for name, text in addresses.items():
        address = Address.parse(text) if text else None
        if address is None or not address.port:
            continue
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, address.port))
            except OSError as error:
                yield Check(
                    name, State.FAILED, f"{text}: {error.strerror}",
                    f"Stop what listens there, or set {name}.address.",
                )  # fmt: skip
            else:
                yield _fine(name, f"{text} is free")


# -- stores --------------------------------------------------------------------------------


def _log(workspace: Workspace) -> Found:
    began = time.perf_counter()
    topics = workspace.log.topics()
    took_ms = (time.perf_counter() - began) * 1000
    brokers = getattr(workspace.settings.log, "brokers", "")
    place = f"brokers {brokers}" if brokers else "the workspace's own file"
    if not topics:
        mend = "Make its topics: playhead topics create." if brokers else "Run playhead init."
        yield Check("event log", State.WARNING, f"{place}: no topics yet", mend)
    else:
        yield _fine("event log", f"{place}: {len(topics)} topics, told in {took_ms:.0f} ms")


def _lake(workspace: Workspace) -> Found:
    where = workspace.settings.lake.warehouse or "the workspace"
    yield _fine("lake", f"{len(workspace.lake.tables())} tables in {where}")


def _catalog(workspace: Workspace) -> Found:
    if not workspace.settings.lake.catalog:
        return
    address = workspace.settings.lake.catalog
    if address.startswith(("http://", "https://")):
        from playhead.lake.restcatalog import service_of

        service, now = service_of(address)
        yield _fine("lake: catalog", f"REST, by {service}")
        yield _clock("lake: catalog", now)
        return
    from playhead.lake.sharedcatalog import server_of

    version, now = server_of(address)
    yield _fine("lake: catalog", f"PostgreSQL {version}")
    yield _clock("lake: catalog", now)


def _store(workspace: Workspace) -> Found:
    told = workspace.settings.lake
    if not told.warehouse:
        return
    from playhead.lake.objects import ObjectFiles, ObjectIO

    warehouse = told.warehouse.rstrip("/")
    cache = workspace.path / "lake" / "files"
    files = ObjectFiles(warehouse, cache, told.cache_gb << 30, endpoint=told.endpoint)
    access, place, body = (
        ObjectIO(files.properties),
        f"{warehouse}/.doctor-{uuid.uuid4().hex}",
        b"x",
    )
    began = time.perf_counter()
    try:
        with access.new_output(place).create() as stream:
            stream.write(body)
        with access.new_input(place).open() as stream:
            read = stream.read()
    except OSError as error:
        hint = "Does the bucket exist? Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        yield Check("lake: object store", State.FAILED, f"{warehouse}: {error}", hint)
        return
    access.delete(place)
    took_ms = (time.perf_counter() - began) * 1000
    if read != body:
        mend = "It must show what was written at once."
        yield Check("lake: object store", State.FAILED, "gave other bytes than it took", mend)
        return
    yield _fine("lake: object store", f"{warehouse}: written, read and deleted in {took_ms:.0f} ms")


def _clock(part: str, theirs: datetime) -> Check:
    """How far another machine's clock is from this one's."""
    skew_s = abs((theirs.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    told = f"its clock is {skew_s:.2f} s from this machine's"
    if skew_s <= MOST_SKEW_S:
        return _fine(part, told)
    return Check(part, State.WARNING, told, "Let both follow the same time server (NTP).")


# -- Spark ---------------------------------------------------------------------------------


def _spark(workspace: Workspace) -> Found:
    settings = workspace.settings
    master = settings.spark.master
    engines = {getattr(settings.batch, "engine", ""), getattr(settings.speed, "engine", "")}
    if "spark" not in engines and master.startswith("local"):
        return
    yield _package("Spark", "pyspark", "playhead[spark]")
    yield _java()
    if master.startswith("spark://"):
        host, _, port = master.removeprefix("spark://").partition(",")[0].rpartition(":")
        connect = partial(socket.create_connection, (host, int(port or 7077)), _TIMEOUT_S)
        try:
            connect().close()
        except OSError as error:
            mend = "Start it, or set spark.master."
            yield Check("Spark: master", State.FAILED, f"{master}: {error}", mend)
        else:
            yield _fine("Spark: master", f"{master} answers")
    if "spark" in engines:
        # What fails here has failed above, too, but for files that a cluster cannot reach.
        check_reach(settings.spark, settings.lake)


def _package(part: str, name: str, extra: str) -> Check:
    try:
        return _fine(part, f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        mend = f"Install it: pip install '{extra}'."
        return Check(part, State.FAILED, f"{name} is not installed", mend)


def _java() -> Check:
    mend = f"Install a Java runtime of version {LEAST_JAVA} or newer, such as openjdk-17-jre."
    try:
        told = subprocess.run(
            ["java", "-version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return Check("Spark: Java", State.FAILED, "java is not on PATH", mend)
    found = _VERSION.search(told)
    if found is None or int(found[1]) < LEAST_JAVA:
        return Check("Spark: Java", State.FAILED, told.splitlines()[0] if told else "?", mend)
    return _fine("Spark: Java", told.splitlines()[0])
