"""A client with a spool, as a program that is killed and started again.

Its notes are lines "tried N" before `send` and "taken N" once it has returned: what was taken has
to be delivered by whichever process of this spool lives long enough.
"""

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from live_torture.events import event
from playhead.client import Producer, ProducerFullError

_PAUSE_S = 0.02


def main(url: str, spool: Path, notes: Path, name: str) -> None:
    """Send until SIGTERM, then deliver all that waits in the spool."""
    logging.disable(logging.CRITICAL)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    number = noted(notes, "tried") + 1
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Producer(url, spool=spool, timeout_s=2) as producer:
        while not stop.wait(_PAUSE_S):
            os.write(file, b"tried %d\n" % number)
            try:
                producer.send(event(name, number))
            except ProducerFullError:
                continue
            finally:
                number += 1
            os.write(file, b"taken %d\n" % (number - 1))
        producer.flush()


def noted(notes: Path, word: str) -> int:
    """The highest number of a word; -1 if there is none."""
    return max(numbers(notes, word), default=-1)


def numbers(notes: Path, word: str) -> set[int]:
    """All numbers that were noted with a word."""
    if not notes.exists():
        return set()
    told = [line.split() for line in notes.read_text(encoding="ascii").splitlines()]
    return {int(line[1]) for line in told if line[0] == word}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
