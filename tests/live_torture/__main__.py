"""`make torture-live`: so many kills of a running platform, and a verdict."""

import argparse
import logging
import shutil
import signal
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

from failing_disk import build_shim, compiler
from live_torture.life import Life, Tally
from live_torture.plan import plan_round
from torture.truth import DifferenceError


def main() -> int:
    """Run one life until there are kills enough, or time is up; 1 if anything differs."""
    options = _options()
    # So that a platform does not outlive the program that torments it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Path(tempfile.mkdtemp(prefix="torture-live-"))
    logging.disable(logging.WARNING)
    began, tally = time.monotonic(), Tally()
    shim = build_shim(folder) if compiler() and not options.sound_disk else None
    plan = (plan_round(options.seed, number, fails=shim is not None) for number in count())
    ends = began + options.minutes * 60
    try:
        (folder / "life").mkdir()
        life = Life(folder / "life", tally, shim=shim, told=lambda: _tell(tally, began))
        life.run(plan, lambda: tally.kills.total() >= options.kills or time.monotonic() > ends)
    except Exception as error:
        _fail(error, options.seed, folder, tally, keep=options.keep)
        return 1
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    _tell(tally, began, end="\n")
    _summarize(tally, options.seed, began)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="live_torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="of the whole plan")
    parser.add_argument("--minutes", type=float, default=60, help="stop after so many")
    parser.add_argument("--sound-disk", action="store_true", help="the disk never fails")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    return parser.parse_args()


def _tell(tally: Tally, began: float, end: str = "") -> None:
    if end or sys.stderr.isatty():
        print(
            f"\r{tally.kills.total():,} kills, {tally.pauses} pauses, {tally.faults} disk faults, "
            f"round {tally.rounds + 1}, {time.monotonic() - began:.0f} s ",
            end=end,
            file=sys.stderr,
            flush=True,
        )


def _summarize(tally: Tally, seed: int, began: float) -> None:
    killed = ", ".join(f"{name} {count}" for name, count in tally.kills.most_common())
    statuses = ", ".join(f"{count:,} x {status}" for status, count in tally.statuses.most_common())
    print(f"killed: {killed}")
    calls = tally.failed_calls.total()
    print(
        f"besides: {tally.pauses} pauses, {tally.faults} disk faults ({calls:,} calls failed), "
        f"{tally.missed} blows missed; stopped in {max(tally.down_s):.1f} s"
    )
    print(f"answers: {statuses}")
    print(
        f"{tally.kills.total():,} kills, {tally.events:,} events, {tally.certain:,} acknowledged: "
        f"0 lost, 0 doubled, 0 differing digits (seed {seed}, {time.monotonic() - began:.0f} s)"
    )


def _fail(error: Exception, seed: int, folder: Path, tally: Tally, *, keep: bool) -> None:
    kind = "" if isinstance(error, DifferenceError) else f"{type(error).__name__}: "
    print(f"\nFAILED in round {tally.rounds} of seed {seed}: {kind}{error}")
    if keep:
        print(f"kept: {folder}")
    print(f'again: make torture-live ARGS="--seed {seed} --keep"')


if __name__ == "__main__":
    sys.exit(main())
