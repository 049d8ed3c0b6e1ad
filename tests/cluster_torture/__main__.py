"""`make torture-cluster`: rounds of kills on servers of its own, and a verdict."""

import argparse
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from cluster_torture.life import ClusterLife, Tally
from cluster_torture.plan import Blow, plan_round
from playhead.demo.cluster import ENGINES, Engines
from torture.truth import DifferenceError


def main() -> int:
    """Run so many rounds, or until time is up; 1 if anything differs."""
    options = _options()
    # So that no server outlives the program that torments it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    logging.disable(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="torture-cluster-"))
    engines = Engines(options.batch, options.speed)
    began, tally = time.monotonic(), Tally()
    life = ClusterLife(folder, tally, engines, told=lambda: _tell(tally, began))
    try:
        life.run(_rounds(options, engines, began))
    except Exception as error:
        kind = "" if isinstance(error, DifferenceError) else f"{type(error).__name__}: "
        print(f"\nFAILED in round {tally.rounds} of seed {options.seed}: {kind}{error}")
        print(f'again: make torture-cluster ARGS="--seed {options.seed} --keep"')
        return 1
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    _summarize(tally, options.seed, began)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cluster_torture", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="of the whole plan")
    parser.add_argument("--minutes", type=float, default=60, help="no round begins after so many")
    parser.add_argument("--batch", default=ENGINES.batch, help="engine: duckdb or spark")
    parser.add_argument("--speed", default=ENGINES.speed, help="engine: duckdb or spark")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    return parser.parse_args()


def _rounds(options: argparse.Namespace, engines: Engines, began: float) -> Iterator[list[Blow]]:
    for number in count():
        if number >= options.rounds or time.monotonic() - began > options.minutes * 60:
            return
        yield plan_round(options.seed, number, with_spark=engines.with_spark)


def _tell(tally: Tally, began: float) -> None:
    if sys.stderr.isatty():
        print(
            f"\r{tally.kills.total():,} kills, round {tally.rounds + 1}, "
            f"{time.monotonic() - began:.0f} s ",
            end="",
            file=sys.stderr,
            flush=True,
        )


def _summarize(tally: Tally, seed: int, began: float) -> None:
    killed = ", ".join(f"{name} {count}" for name, count in tally.kills.most_common())
    statuses = ", ".join(f"{count:,} x {status}" for status, count in tally.statuses.most_common())
    print(f"killed: {killed}")
    print(f"answers: {statuses}")
    print(
        f"{tally.kills.total():,} kills, {tally.events:,} events, {tally.certain:,} acknowledged: "
        f"0 lost, 0 doubled, 0 differing digits (seed {seed}, {time.monotonic() - began:.0f} s)"
    )


if __name__ == "__main__":
    sys.exit(main())
