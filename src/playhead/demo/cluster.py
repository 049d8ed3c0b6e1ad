"""The demo on a cluster: the same events there and in one folder, and every view compared."""

import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.text import Text

from playhead.assemble import Workspace
from playhead.cluster import Servers, check_installed
from playhead.demo.asking import Api
from playhead.demo.clusterfeed import Feed, Recorded, fill
from playhead.demo.clusterreport import (
    Compared,
    Figures,
    compare_answers,
    print_comparison,
    print_figures,
)
from playhead.demo.door import Door
from playhead.demo.ending import interrupted_by_signals
from playhead.demo.folder import DATA, claim_for_cluster
from playhead.demo.recorded import check_data, last_tenth, recorded_files
from playhead.demo.report import report_console
from playhead.demo.running import PlatformBeside
from playhead.demo.stages import Stages, serving_line
from playhead.demo.traffic import Pulse
from playhead.errors import CoverageError
from playhead.testing.generate import GenerateSpec, generate

__all__ = ["ENGINES", "EVENTS", "Engines", "environment", "run_cluster_demo"]

EVENTS = 1_000_000
"""Events of the generated data set, about, over all topics and with their repeats."""

_EVENTS_A_SESSION = 1.99
_USERS, _MOVIES = 10_000, 1_000
_SEAL_S = 5
_BATCH_EVENTS = 100_000
_BEFORE_ALL = date.min
_SETTINGS = "playhead.toml"
_SECRETS = "environment"


@dataclass(frozen=True)
class Engines:
    """What computes on the cluster: "duckdb" or "spark", as the sections' `engine` has it."""

    batch: str = "duckdb"
    speed: str = "duckdb"

    @property
    def with_spark(self) -> bool:
        """Whether a Spark cluster is needed."""
        return "spark" in (self.batch, self.speed)

    @property
    def settings(self) -> str:
        """The sections [batch] and [speed] of a `playhead.toml`."""
        sections = {
            "batch": ["every_minutes = 0"],
            "speed": [f"seal_seconds = {_SEAL_S}", f"max_events = {_BATCH_EVENTS}"],
        }
        for name, engine in (("batch", self.batch), ("speed", self.speed)):
            if engine != "duckdb":
                sections[name].append(f'engine = "{engine}"')
        return "".join(f"\n[{name}]\n" + "\n".join(told) + "\n" for name, told in sections.items())


ENGINES = Engines(batch="spark", speed="spark")
"""What the demo runs with."""


def run_cluster_demo(
    folder: Path,
    data: Path | None = None,
    *,
    events: int = EVENTS,
    engines: Engines = ENGINES,
    keep: bool = False,
    out: Console | None = None,
    console: Console | None = None,
) -> bool:
    """Run the platform on servers of its own; whether its answers equal the embedded ones.

    Args:
        folder: not there, empty, or of such a demo: then it is made anew.
        data: a folder of the data set's files, sent besides what is generated.
        events: of the generated set, about.
        keep: go on serving until Ctrl-C, SIGTERM or `playhead down`.
        out: where the tables go; stdout by default.
        console: where progress goes; stderr by default.

    Raises:
        WorkspaceError: the folder is something else.
        ServerError: a server cannot be started, or something that it needs is missing.
        LoadError: the data cannot be loaded, or has no watch_history.
        PlayheadError: the platform failed.
        KeyboardInterrupt: by Ctrl-C or SIGTERM before the end. Whatever ends it, all that was
            started is stopped.
    """
    console = console or Console(stderr=True, highlight=False)
    check_installed(with_spark=engines.with_spark)
    if data is not None:
        check_data(data)
    origin = f"{data.resolve() if data else 'generated'}, {events} events"
    with interrupted_by_signals(), claim_for_cluster(folder, origin):
        demo = _ClusterDemo(folder.absolute(), data, events, engines, console)
        return demo.run(out or report_console(), keep=keep)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have some variables in this process's environment, and in what it starts, for the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _ClusterDemo:
    """One run, in a folder that is empty."""

    def __init__(
        self, folder: Path, data: Path | None, events: int, engines: Engines, console: Console
    ) -> None:
        self._folder, self._data, self._events = folder, data, events
        self._engines, self._console = engines, console
        self._stages = Stages(console, Pulse())
        self._figures = Figures(engines=f"batch {engines.batch}, speed {engines.speed}")

    def run(self, out: Console, *, keep: bool) -> bool:
        """Every stage, then the report."""
        began = time.monotonic()
        with ExitStack() as stack:
            with self._stages:
                servers = self._start(stack)
                sets = self._find_data()
                cluster = stack.enter_context(self._open("cluster", servers))
                embedded = stack.enter_context(self._open("embedded", None))
                self._load([cluster, embedded], sets)
                platform = stack.enter_context(PlatformBeside(cluster))
                # Nothing is loaded any more that the speed layer would have to wait for.
                platform.begin()
                refused = self._feed(cluster, platform, sets)
                self._fill(embedded, sets, refused)
                compared = self._compare(platform, embedded)
            self._console.print()
            equal = print_comparison(out, compared)
            print_figures(out, self._figures, {**platform.urls, **servers.addresses})
            if keep:
                self._keep(platform)
            with self._console.status("stopping everything"):
                stack.close()
        self._console.print(Text(f"\n{time.monotonic() - began:.1f} s in all."))
        return equal

    # -- what it runs on ---------------------------------------------------------------------

    def _start(self, stack: ExitStack) -> Servers:
        servers = Servers(self._folder / "servers", with_spark=self._engines.with_spark)
        stack.callback(servers.stop)
        with self._stages.stage("servers") as stage:
            servers.start(stage.tell)
            stage.tell(", ".join(servers.addresses))
        stack.enter_context(environment(servers.environment))
        lines = (f"export {n}={shlex.quote(v)}\n" for n, v in servers.environment.items())
        # Nobody else may read it, at no moment.
        self._secrets.touch(0o600)
        self._secrets.write_text("".join(lines), encoding="utf-8")
        return servers

    @property
    def _secrets(self) -> Path:
        return self._folder / "servers" / _SECRETS

    def _open(self, name: str, servers: Servers | None) -> Workspace:
        """A new workspace, on the servers or by itself."""
        path = self._folder / name
        path.mkdir()
        settings = servers.settings + self._engines.settings if servers else ""
        (path / _SETTINGS).write_text(settings, encoding="utf-8")
        return Workspace.create(path)

    def _find_data(self) -> list[Recorded]:
        with self._stages.stage("data") as stage:
            made = self._folder / DATA
            sessions = max(round(self._events / _EVENTS_A_SESSION), 1)
            spec = GenerateSpec(
                users=min(_USERS, max(sessions // 20, 20)),
                movies=min(_MOVIES, max(sessions // 200, 10)),
                sessions=sessions,
            )
            rows = generate(made, spec, progress=lambda name, _: stage.tell(f"generating {name}"))
            sets = [Recorded(made, "generated-", last_tenth(made))]
            told = f"{sum(rows.values()):,} generated rows"
            if self._data is not None:
                sets.append(Recorded(self._data, "given-", last_tenth(self._data)))
                size = sum(source.size_bytes for source in recorded_files(self._data).values())
                told += f", and {size / 1e6:,.1f} MB in {self._data}"
            stage.tell(told)
        return sets

    def _load(self, workspaces: Sequence[Workspace], sets: Sequence[Recorded]) -> None:
        """Users and titles, of the last set that has them: events come as events."""
        with self._stages.stage("load") as stage:
            for workspace in workspaces:
                for recorded in sets:
                    stage.tell(f"users and titles into {workspace.path.name}")
                    report = workspace.load(recorded.folder, until=_BEFORE_ALL, ignore_unknown=True)
                    report.check()
            rows = [(entry.written, entry.table) for entry in report.tables if entry.written]
            stage.tell(", ".join(f"{count:,} {table}" for count, table in rows))

    # -- events and answers ------------------------------------------------------------------

    def _feed(
        self, cluster: Workspace, platform: PlatformBeside, sets: Sequence[Recorded]
    ) -> set[str]:
        """Send everything: nine tenths, the batch layer, the last tenth; the ids refused."""
        with Door(platform.urls["gateway"], platform.key, platform.check) as door:
            feed = Feed(cluster, platform, door, sets, self._figures)
            with self._stages.stage("history") as stage:
                sent = feed.send(stage, live=False)
                feed.seal(stage)
                stage.tell(f"{sent:,} events over HTTP, in state and lake")
            with self._stages.stage("batch") as stage:
                began = time.monotonic()
                report = cluster.batch(why="demo", on_stage=stage.tell)
                self._figures.batch_s = time.monotonic() - began
                rows = sum(run.rows for run in report.views)
                stage.tell(f"{len(report.views)} views up to epoch {report.epoch}: {rows:,} states")
            with self._stages.stage("live") as stage:
                stage.tell(f"{feed.send(stage, live=True):,} events over HTTP, in state")
            self._figures.refused = len(door.refused)
            return door.refused

    def _fill(self, embedded: Workspace, sets: Sequence[Recorded], refused: set[str]) -> None:
        with self._stages.stage("embedded") as stage:
            began = time.monotonic()
            fill(embedded, sets, refused, stage)
            self._figures.embedded_s = time.monotonic() - began
            stage.tell("the same events, in one folder")

    def _compare(self, platform: PlatformBeside, embedded: Workspace) -> list[Compared]:
        names = list(embedded.views)
        found: list[Compared] = []
        rows = embedded.settings.api.query_rows
        with (
            self._stages.stage("check") as stage,
            Api(platform.urls["api"], platform.key, rows=rows) as api,
        ):
            for name in names:
                stage.tell(name, len(found) / len(names))
                found.append(_compared(api, embedded, name))
            equal = sum(one.equal for one in found)
            stage.tell(f"{equal} of {len(found)} views equal")
        return found

    def _keep(self, platform: PlatformBeside) -> None:
        """Serve until somebody ends it."""
        tell, path = self._console.print, shlex.quote(str(self._folder / "cluster"))
        tell(Text("\nTry next, in another terminal:"))
        tell(Text(f"  . {shlex.quote(str(self._secrets))}", style="bold"), soft_wrap=True)
        for words in ("status", "topics list", "show engagement_health", "doctor"):
            tell(Text(f"  playhead -w {path} {words}", style="bold"), soft_wrap=True)
        with serving_line(self._console, platform), suppress(KeyboardInterrupt):
            platform.wait()


def _compared(api: Api, embedded: Workspace, name: str) -> Compared:
    """A view's answers from the API of the cluster, from the embedded layers, and recomputed."""
    began = time.monotonic()
    try:
        cluster = api.view(name)
        asked = time.monotonic()
        own = embedded.view(name).to_arrow()
    except CoverageError as error:
        return Compared(name, waits=error.message)
    merged = time.monotonic()
    full = embedded.full(name).to_arrow()
    seconds = (asked - began, merged - asked, time.monotonic() - merged)
    return compare_answers(name, cluster, own, full, seconds)
