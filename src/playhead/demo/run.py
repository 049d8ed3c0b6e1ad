"""The demo's course: data, load, batch, live traffic, check, report."""

import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, date, datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from playhead.assemble import Workspace
from playhead.batch.deadletters import Wanted
from playhead.batch.load import LoadReport, Progress
from playhead.clock import SystemClock
from playhead.contracts import TOPICS
from playhead.demo.asking import Api
from playhead.demo.check import Verdict, check_view
from playhead.demo.encore import RATE, Encore
from playhead.demo.ending import interrupted_by_signals
from playhead.demo.folder import DATA, claim
from playhead.demo.recorded import check_data, last_tenth, recorded_files
from playhead.demo.report import (
    print_alerts,
    print_check,
    print_gates,
    print_headlines,
    print_letters,
    print_quality,
    print_traffic,
    report_console,
)
from playhead.demo.running import PlatformBeside
from playhead.demo.stages import Stage, Stages, serving_line
from playhead.demo.traffic import Pulse, Traffic
from playhead.ops.gates import measure
from playhead.testing.generate import GenerateSpec, generate

__all__ = ["DEMO_SPEC", "run_demo"]

DEMO_SPEC = GenerateSpec(users=2_000, movies=300, sessions=20_000, days=120, seed=7)
"""The data set of a demo that is given none: small enough for a few seconds."""

_BLOCKS = 20
"""About how often the live traffic waits for the gateway's answers."""


def run_demo(
    workspace: Path,
    data: Path | None = None,
    *,
    spec: GenerateSpec = DEMO_SPEC,
    keep: bool = False,
    out: Console | None = None,
    console: Console | None = None,
) -> bool:
    """Show the platform at work and check its answers; whether they equal the recomputation.

    Args:
        workspace: a folder that becomes the demo's, or is it already (then it is rebuilt).
        data: a folder of the data set's files; None generates one as `spec` says.
        keep: go on serving until Ctrl-C, SIGTERM or `playhead down`.
        out: where tables and the verdict go; stdout by default.
        console: where progress goes; stderr by default.

    Raises:
        WorkspaceError: the folder is no demo's, and not empty.
        LoadError: the data cannot be loaded, or has no watch_history.
        PlayheadError: the platform failed.
        KeyboardInterrupt: by Ctrl-C or SIGTERM before the end; the platform has ended, too.
    """
    console = console or Console(stderr=True, highlight=False)
    out = out or report_console()
    if data is not None:
        check_data(data)
    origin = str(data.resolve()) if data else f"generated: {spec}"
    with ExitStack() as stack:
        stack.enter_context(interrupted_by_signals())
        opened = stack.enter_context(claim(workspace, origin))
        return _Demo(opened, data, spec, console, out).run(keep=keep)


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

    def run(self, *, keep: bool) -> bool:
        """Every stage, then the report."""
        started = self._clock.monotonic()
        with ExitStack() as stack:
            with self._stages:
                folder = self._find_data()
                loaded, since = self._load(folder)
                # Its processes get ready while the batch layer works.
                platform = stack.enter_context(PlatformBeside(self._workspace))
                self._batch(platform)
                traffic = Traffic(self._workspace, platform, self._pulse)
                self._live(traffic, folder, since)
                verdicts = self._check(platform, traffic)
            equal = self._report(loaded, verdicts)
            if not keep:
                with self._console.status("ending the platform"):
                    stack.close()
            self._tell_next(platform, self._clock.monotonic() - started, keep=keep)
            if keep:
                self._keep(platform)
        return equal

    def _report(self, loaded: LoadReport, verdicts: list[Verdict]) -> bool:
        """What was found, on stdout; whether all answers are equal."""
        workspace, out = self._workspace, self._out
        with workspace.dead_letters() as letters:
            reasons = letters.reasons(Wanted())
        self._console.print()
        print_headlines(out, verdicts)
        print_quality(out, loaded.quality)
        print_traffic(out, self._pulse)
        print_letters(out, reasons)
        print_gates(out, measure(workspace))
        print_alerts(out, workspace.state.alerts())
        by_batch = sum(entry.written for entry in loaded.tables if entry.table in TOPICS)
        by_speed = self._pulse.in_state - self._pulse.duplicates
        return print_check(out, verdicts, (by_batch, by_speed))

    def _find_data(self) -> Path:
        if self._data is not None:
            with self._stages.stage("data") as stage:
                sources = recorded_files(self._data)
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
            since = last_tenth(folder)
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

    def _batch(self, platform: PlatformBeside) -> None:
        began, started = datetime.now(UTC), self._clock.monotonic()
        with self._stages.stage("batch") as stage:
            report = self._workspace.batch(why="demo", on_stage=stage.tell)
            platform.note_batch(began, self._clock.monotonic() - started)
            days = max((run.days for run in report.views), default=0)
            rows = sum(run.rows for run in report.views)
            stage.tell(f"{len(report.views)} views over {days:,} days: {rows:,} states")

    def _live(self, traffic: Traffic, folder: Path, since: date) -> None:
        pulse = self._pulse
        with self._stages.stage("live") as stage:
            traffic.run(folder, since, block_events=self._block_events, tell=stage.tell)
            stage.tell(
                f"{pulse.accepted:,} events over HTTP, {pulse.events_per_s:,.0f} a second into "
                f"state; {pulse.refused:,} bad ones refused"
            )

    def _check(self, platform: PlatformBeside, traffic: Traffic) -> list[Verdict]:
        """Every view as the API answers it, and as it is recomputed here."""
        verdicts: list[Verdict] = []
        names = list(self._workspace.views)
        rows = self._workspace.settings.api.query_rows
        with (
            self._stages.stage("check") as stage,
            Api(platform.urls["api"], platform.key, rows=rows) as api,
        ):
            for name in names:
                stage.tell(name, len(verdicts) / len(names))
                verdicts.append(check_view(self._workspace, name, self._clock, api.view))
            stage.tell("waiting for the last alerts")
            traffic.settle()
            equal = sum(verdict.equal for verdict in verdicts)
            stage.tell(f"{equal} of {len(verdicts)} views of the API equal their recomputation")
        return verdicts

    def _keep(self, platform: PlatformBeside) -> None:
        """Serve until somebody ends it, with traffic that goes on."""
        line = serving_line(self._console, platform)
        with Encore(self._workspace, platform), line, suppress(KeyboardInterrupt):
            platform.wait()

    def _tell_next(self, platform: PlatformBeside, seconds: float, *, keep: bool) -> None:
        """How long it took, where the platform is, and what to go on with."""
        tell = self._console
        tell.print(Text(f"\n{seconds:.1f} s in all."))
        for name, url in platform.urls.items():
            taken = f"  ({platform.moved[name]} is taken)" if name in platform.moved else ""
            listens = "listens" if keep else "listened"
            tell.print(Text(f"The {name} {listens} at {url}{taken}"))
        if keep and "dashboard" in platform.urls:
            shown = f"{platform.urls['dashboard']}/live"
            tell.print(Text(f"Look at it: {shown}", style="bold"))
            tell.print(Text(f"(recorded sessions go on as if it were now, {RATE} a second)"))
        tell.print(Text("Try next:"))
        for what, command in self._next(platform, keep=keep):
            tell.print(Text(f"  # {what}", style="dim"))
            tell.print(Text(f"  {command}", style="bold"), soft_wrap=True)

    def _next(self, platform: PlatformBeside, *, keep: bool) -> list[tuple[str, str]]:
        """Commands, each with what it does."""
        path = self._workspace.path
        base = _program()
        if path != Path("workspace"):
            base += f" -w {shlex.quote(str(path))}"
        sql = "SELECT * FROM monthly_engagement ORDER BY total_sessions DESC LIMIT 5"
        shown = f"{platform.urls['api']}/v1/views/engagement_health?limit=5"
        return [
            ("a view over HTTP", f"curl '{shown}'") if keep else ("start it again", f"{base} up"),
            ("a view, merged live", f"{base} show engagement_health"),
            ("SQL over views, topics and dimensions", f'{base} query "{sql}"'),
            ("what was refused, with its bytes", f"{base} dead-letters list"),
            (
                "fold it all into the batch layer, new reviews into the ratings, too",
                f"{base} batch",
            ),
        ]


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


def _telling(stage: Stage) -> Callable[[Progress], None]:
    def tell(at: Progress) -> None:
        share = at.bytes_read / max(at.bytes_total, 1)
        doing = "reading" if share < 1 else "writing"
        stage.tell(f"{doing} {at.table}: {at.rows:,} rows", share)

    return tell
