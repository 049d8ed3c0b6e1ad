"""The demo's speed layer, run as `python -m playhead.demo.speed_layer WORKSPACE`.

Its standard input is its lifeline: it starts on the first line, and ends in order (windows
judged, epoch sealed) when the input ends, which it also does when the demo is killed.
"""

import logging
import signal
import sys
import threading
from pathlib import Path

from playhead.assemble import Workspace
from playhead.errors import PlayheadError


def main(path: Path) -> int:
    """Run the speed layer between the first line of stdin and its end; the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    # Ctrl-C reaches the whole process group: how this process ends is up to the demo.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not sys.stdin.readline():
        return 0
    stop = threading.Event()
    threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
    try:
        with Workspace(path) as workspace:
            workspace.speed(stop)
    except PlayheadError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _stop_at_end_of_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
