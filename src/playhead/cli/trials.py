"""Commands that try Playhead out: demo, bench."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

import playhead
from playhead.cli.invocation import Invocation, command
from playhead.cli.terminal import stdout
from playhead.errors import CoverageError, PlayheadError

app = typer.Typer()
PANEL = "Trials"


@command(
    app,
    panel=PANEL,
    examples=[
        "playhead demo --workspace demo",
        "playhead demo --workspace demo --data data",
        "playhead demo --workspace cluster-demo --cluster --events 100000",
    ],
)
def demo(
    invocation: Invocation,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="The six files; a small set is generated without them."
        ),
    ] = None,
    keep: Annotated[
        bool | None,
        typer.Option(
            "--keep/--no-keep",
            help="Go on serving until Ctrl-C; by default where stdout is a terminal, and "
            "with --cluster never.",
            show_default=False,
        ),
    ] = None,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="On a broker, an object store and a database of its own."),
    ] = False,
    events: Annotated[
        int,
        typer.Option(min=1_000, help="With --cluster: how many are generated, about."),
    ] = 1_000_000,
) -> None:
    """Show the platform at work, from nothing to answers checked against a full recomputation.

    Loads all but the last tenth of the sessions and runs the batch layer, starts the platform,
    sends the rest over HTTP and asks the API. It leaves a workspace on which every other command
    works.

    With --cluster it starts servers on this machine, sends the same events to a platform on them
    and into a workspace of its own, and compares every view. Whatever it started, it stops.
    """
    # The demo ends the processes of its platform before it goes.
    invocation.interrupts.patient = True
    if cluster:
        from playhead.demo.cluster import run_cluster_demo

        equal = run_cluster_demo(invocation.workspace, data, events=events, keep=bool(keep))
    else:
        from playhead.demo import run_demo

        goes_on = stdout().is_terminal if keep is None else keep
        equal = run_demo(invocation.workspace, data, keep=goes_on)
    if not equal:
        raise CoverageError(
            "the merged answer of a view differs from its full recomputation",
            hint="That must not happen: please report it, with the data if you can.",
        )


@command(
    app,
    panel=PANEL,
    examples=["playhead bench speed --events 200000 --format json"],
    takes_rest=True,
)
def bench(
    invocation: Invocation,
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="speed, batch, freshness, query, recovery, growth, log, load, generate, demo, "
            "gateway, live, dashboards, spark, kafka or stream.",
        ),
    ],
) -> None:
    """Measure a layer against its peers; only in a checkout of the source.

    What follows NAME goes to the benchmark: `playhead bench speed -- --help` lists its options.
    """
    invocation.interrupts.patient = True
    names, run = _benchmarks()
    if name not in names:
        raise typer.BadParameter(f"no benchmark {name}; there are {', '.join(names)}.")
    run(name, context.args)


def _benchmarks() -> tuple[Sequence[str], Callable[[str, list[str]], None]]:
    """The names of the benchmarks, and a function that runs one.

    Raises:
        PlayheadError: this Playhead was installed without its source.
    """
    checkout = Path(playhead.__file__).parents[2]
    if not (checkout / "benchmarks" / "__init__.py").is_file():
        raise PlayheadError(
            "this Playhead was installed without its benchmarks",
            hint="Clone the source and run `make bench` there.",
        )
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))

    def run(name: str, arguments: list[str]) -> None:
        import_module(f"benchmarks.{name}").main(arguments)

    return import_module("benchmarks").NAMES, run
