"""`make demo`, stage by stage: what a newcomer waits for.

The demo itself compares each view's merged answer with recomputation.
"""

import argparse
import io
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

from rich.console import Console

from benchmarks.measure import Figure, alone, run_quietly, show, timed
from playhead.demo.run import run_demo
from playhead.demo.stages import Stages


def measure(folder: str, data: str | None) -> Figure:
    """The whole demo, and the seconds of each stage."""
    seconds: dict[str, float] = {}
    leave = Stages.__exit__

    def noted(self: Stages, *raised: object) -> None:
        seconds.update({stage.name: stage.elapsed_s for stage in self.done})
        leave(self, *raised)  # type: ignore[arg-type]

    quiet = Console(file=io.StringIO())
    source = Path(data) if data else None
    with patch.object(Stages, "__exit__", noted):
        whole, equal = timed(
            lambda: run_demo(Path(folder) / "workspace", source, out=quiet, console=quiet)
        )
    if not equal:
        raise SystemExit("the demo's merged answers differ from recomputation")
    return Figure("all stages", 1, whole, note="every view == recomputed", extra=seconds)


def main(arguments: list[str] | None = None) -> None:
    """Run the demo and print its stages."""
    parser = argparse.ArgumentParser(prog="playhead bench demo", description=__doc__)
    parser.add_argument("--data", help="a folder of the data set's files; generated if not given")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        whole = alone(measure, folder, options.data)
    help_s, _ = timed(lambda: run_quietly([sys.executable, "-m", "playhead", "--help"]))
    stages = [Figure(name, 1, seconds) for name, seconds in whole.extra.items()]
    figures = [whole, *stages, Figure("playhead --help", 1, help_s)]
    show("demo", figures, as_json=options.format == "json")


if __name__ == "__main__":
    main()
