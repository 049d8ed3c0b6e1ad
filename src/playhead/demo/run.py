"""The demo's course: data, load, batch, live traffic, check, report."""

import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.text import Text

from playhead.assemble import Workspace
from playhead.batch.load import LoadReport, Progress
from playhead.batch.readers import open_rows
from playhead.batch.sources import Source, find_sources
from playhead.batch.sqltext import identifier
from playhead.batch.values import date_field, text_name, value_sql
from playhead.clock import SystemClock
from playhead.contracts import DIMENSIONS, TOPICS
from playhead.demo.check import Verdict, check_view
from playhead.demo.folder import DATA, claim
from playhead.demo.report import (
    print_alerts,
    print_check,
    print_headlines,
    print_quality,
    print_traffic,
)
from playhead.demo.stages import Stage, Stages
from playhead.demo.traffic import Pulse, SpeedProcess, Traffic
from playhead.engines import connect
from playhead.errors import LoadError
from playhead.testing.generate import GenerateSpec, generate

__all__ = ["DEMO_SPEC", "run_demo"]

DEMO_SPEC = GenerateSpec(users=2_000, movies=300, sessions=20_000, days=120, seed=7)
"""The data set of a demo that is given none: small enough for a few seconds."""

SESSIONS = "playback"

REPLAYED = 0.1
"""The share of the sessions that comes as live traffic."""

_BLOCKS = 20
"""About how many appends the live traffic comes in."""

_PIPED_WIDTH = 120


def run_demo(
    workspace: Path,
    data: Path | None = None,
    *,
    spec: GenerateSpec = DEMO_SPEC,
    out: Console | None = None,
    console: Console | None = None,
) -> bool:
    """Show both layers at work and check their answer; whether it equals the recomputation.

    Args:
        workspace: a folder that becomes the demo's, or is it already (then it is rebuilt).
        data: a folder of the data set's files; None generates one as `spec` says.
        out: where tables and the verdict go; stdout by default.
        console: where progress goes; stderr by default.

    Raises:
        WorkspaceError: the folder is no demo's, and not empty.
        LoadError: the data cannot be loaded, or has no watch_history.
        PlayheadError: the speed layer failed.
        KeyboardInterrupt: by Ctrl-C or SIGTERM; the speed layer has ended, too.
    """
    console = console or Console(stderr=True, highlight=False)
    out = out or _stdout()
    if data is not None:
        _check_data(data)
    origin = str(data.resolve()) if data else f"generated: {spec}"
    with ExitStack() as stack:
        stack.enter_context(_interrupted_by_sigterm())
        opened = stack.enter_context(claim(workspace, origin))
        return _Demo(opened, data, spec, console, out).run()


class _Demo:
    """One run of the demo in a workspace that is empty."""

    def __init__(
        self,
        workspace: Workspace,
        data: Path | None,
        spec: GenerateSpec,
        console: Console,
        out: Console,
    ) -> None:
        self._workspace = workspace
        self._data = data
        self._spec = spec
        self._console = console
        self._out = out
        self._pulse = Pulse()
        self._stages = Stages(console, self._pulse)
        self._clock = SystemClock()
        self._block_events = 0

    def run(self) -> bool:
        """Every stage, then the report."""
        started = self._clock.monotonic()
        with self._stages:
            folder = self._find_data()
            loaded, since = self._load(folder)
            # Its process gets ready while the batch layer works.
            with SpeedProcess(self._workspace.path) as speed:
                self._batch()
                self._live(speed, folder, since)
            verdicts = self._check()
        self._console.print()
        print_headlines(self._out, verdicts)
        print_quality(self._out, loaded.quality)
        print_traffic(self._out, self._pulse)
        print_alerts(self._out, self._workspace.state.alerts())
        by_batch = sum(entry.written for entry in loaded.tables if entry.table in TOPICS)
        by_speed = self._pulse.in_state - self._pulse.duplicates
        equal = print_check(self._out, verdicts, (by_batch, by_speed))
        self._tell_next(self._clock.monotonic() - started)
        return equal

    def _find_data(self) -> Path:
        if self._data is not None:
            with self._stages.stage("data") as stage:
                sources = _sources(self._data)
                size = sum(source.size_bytes for source in sources.values())
                stage.tell(f"{len(sources)} files of {size / 1e6:,.1f} MB in {self._data}")
            return self._data
        folder = self._workspace.path / DATA
        with self._stages.stage("generate") as stage:
            rows = generate(folder, self._spec, progress=lambda name, _: stage.tell(name))
            stage.tell(
                f"{sum(rows.values()):,} rows: {self._spec.users:,} users, "
                f"{self._spec.movies:,} titles, {self._spec.sessions:,} sessions in "
                f"{self._spec.days:,} days"
            )
        return folder

    def _load(self, folder: Path) -> tuple[LoadReport, date]:
        """Load all but the last tenth; the day on which that begins."""
        with self._stages.stage("load", "looking for the last tenth") as stage:
            since = _last_tenth(folder)
            report = self._workspace.load(
                folder, until=since, ignore_unknown=True, progress=_telling(stage)
            )
            report.check()
            held = sum(entry.outside for entry in report.tables)
            read = sum(entry.read for entry in report.tables)
            missing = [entry.file for entry in report.tables if entry.status == "missing"]
            lacking = f"; missing: {', '.join(missing)}" if missing else ""
            stage.tell(
                f"{read - held:,} rows before {since}; {held:,} kept for the live traffic{lacking}"
            )
        self._block_events = max(held // _BLOCKS, 500)
        return report, since

    def _batch(self) -> None:
        with self._stages.stage("batch") as stage:
            report = self._workspace.batch(on_stage=stage.tell)
            days = max((run.days for run in report.views), default=0)
            rows = sum(run.rows for run in report.views)
            stage.tell(f"{len(report.views)} views over {days:,} days: {rows:,} states")

    def _live(self, speed: SpeedProcess, folder: Path, since: date) -> None:
        pulse = self._pulse
        with self._stages.stage("speed", "starting the speed layer") as stage:
            traffic = Traffic(self._workspace, speed, pulse)
            traffic.run(folder, since, block_events=self._block_events, tell=stage.tell)
            stage.tell(
                f"{pulse.in_state:,} events at {pulse.events_per_s:,.0f} a second, "
                f"{pulse.final:,} windows final, {sum(pulse.alerts.values()):,} alerts"
            )

    def _check(self) -> list[Verdict]:
        verdicts: list[Verdict] = []
        names = list(self._workspace.views)
        with self._stages.stage("check") as stage:
            for name in names:
                stage.tell(name, len(verdicts) / len(names))
                verdicts.append(check_view(self._workspace, name, self._clock))
            equal = sum(verdict.equal for verdict in verdicts)
            stage.tell(f"{equal} of {len(verdicts)} views equal their recomputation")
        return verdicts

    def _tell_next(self, seconds: float) -> None:
        """How long it took, and three commands to go on with."""
        path = self._workspace.path
        base = _program()
        if path != Path("workspace"):
            base += f" -w {shlex.quote(str(path))}"
        sql = "SELECT * FROM monthly_engagement ORDER BY total_sessions DESC LIMIT 5"
        self._console.print(Text(f"\n{seconds:.1f} s in all. Try next:"))
        for what, command in (
            ("a view, merged live", f"{base} show engagement_health"),
            ("SQL over views, topics and dimensions", f'{base} query "{sql}"'),
            (
                "fold it all into the batch layer, new reviews into the ratings, too",
                f"{base} batch",
            ),
        ):
            self._console.print(Text(f"  # {what}", style="dim"))
            self._console.print(Text(f"  {command}", style="bold"), soft_wrap=True)


def _program() -> str:
    """The command as it can be typed here: by its name, or by its path if that is not on PATH."""
    if shutil.which("playhead"):
        return "playhead"
    called = Path(sys.argv[0])
    if called.name != "playhead":
        return f"{shlex.quote(sys.executable)} -m playhead.cli"
    here = Path.cwd()
    shown = called.relative_to(here) if called.is_relative_to(here) else called
    return shlex.quote(str(shown))


def _sources(folder: Path) -> dict[str, Source]:
    contracts = [*DIMENSIONS.values(), *TOPICS.values()]
    return find_sources(folder, [contract.file for contract in contracts])


def _check_data(folder: Path) -> None:
    """Refuse a folder without sessions before anything is made or deleted."""
    sessions = TOPICS[SESSIONS].file
    if sessions not in _sources(folder):
        raise LoadError(
            f"{folder} holds no {sessions}",
            hint="The demo replays sessions: give a folder with that file, or none at all.",
        )


def _last_tenth(folder: Path) -> date:
    """The day from which on at most about a tenth of the sessions happened."""
    contract = TOPICS[SESSIONS]
    day = date_field(contract)
    assert day is not None  # noqa: S101 - every topic has one
    source = _sources(folder)[contract.file]
    with connect() as con, open_rows(source, contract, con, ignore_unknown=True) as rows:
        texts = f"SELECT {identifier(day.source or '')} AS {text_name(day.source or '')} FROM "
        found = con.execute(
            f"SELECT quantile_disc(day, {1 - REPLAYED}) FROM (SELECT {value_sql(day)} AS day "
            f"FROM ({texts} {rows.sql}))"
        ).fetchone()
    if not found or found[0] is None:
        raise LoadError(
            f"{source.name}: no session has a date", hint="The demo needs sessions to replay."
        )
    since: date = found[0]
    return since


def _telling(stage: Stage) -> Callable[[Progress], None]:
    def tell(at: Progress) -> None:
        share = at.bytes_read / max(at.bytes_total, 1)
        doing = "reading" if share < 1 else "writing"
        stage.tell(f"{doing} {at.table}: {at.rows:,} rows", share)

    return tell


def _stdout() -> Console:
    """As wide as the terminal; elsewhere wide enough for every table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does: in order, and the speed layer with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_: int, __: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
