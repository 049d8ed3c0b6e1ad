"""`make torture`: so many kills, and a verdict."""

import argparse
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path

from torture.life import Life, Tally
from torture.plan import plan_life
from torture.truth import DifferenceError


def main() -> int:
    """Run lives until there are kills enough, or time is up; 1 if anything differs."""
    options = _options()
    logging.disable(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    began, tally, life = time.monotonic(), Tally(), options.life
    ends = began + options.minutes * 60
    try:
        while tally.kills < options.kills and time.monotonic() < ends:
            _live(folder / str(life), options.seed, life, tally, options.kills, began)
            shutil.rmtree(folder / str(life))
            life += 1
    except (DifferenceError, Exception) as error:
        _fail(error, options.seed, life, folder, keep=options.keep)
        return 1
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    _tell(tally, began, end="\n")
    points = ", ".join(f"{name} {count}" for name, count in tally.by_point.most_common())
    print(f"at commit points: {points or 'none'}")
    print(
        f"{tally.kills:,} kills, {tally.events:,} events: 0 lost, 0 doubled, 0 differing digits "
        f"(seed {options.seed}, {time.monotonic() - began:.0f} s)"
    )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, default=1, help="of the whole plan")
    parser.add_argument("--life", type=int, default=0, help="which workspace of it to begin with")
    parser.add_argument("--minutes", type=float, default=60, help="stop after so many")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a failure")
    return parser.parse_args()


def _live(path: Path, seed: int, life: int, tally: Tally, kills: int, began: float) -> None:
    path.mkdir()
    Life(path, plan_life(seed, life), tally, lambda: _tell(tally, began)).run(kills=kills)


def _tell(tally: Tally, began: float, end: str = "") -> None:
    if end or sys.stderr.isatty():
        print(
            f"\r{tally.kills:,} kills ({tally.by_point.total():,} at {len(tally.by_point)} commit "
            f"points), workspace {tally.lives + 1}, cycle {tally.cycles}, {tally.gave_way} gave "
            f"way, {time.monotonic() - began:.0f} s ",
            end=end,
            file=sys.stderr,
            flush=True,
        )


def _fail(error: Exception, seed: int, life: int, folder: Path, *, keep: bool) -> None:
    kind = "" if isinstance(error, DifferenceError) else f"{type(error).__name__}: "
    print(f"\nFAILED in workspace {life} of seed {seed}: {kind}{error}")
    if keep:
        print(f"kept: {folder / str(life)}")
    print(f'again: make torture ARGS="--seed {seed} --life {life} --keep"')


if __name__ == "__main__":
    sys.exit(main())
