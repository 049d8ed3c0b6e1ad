"""Clients that retry: each notes what it tried to send, and what was acknowledged."""

import gzip
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from live_torture.events import Event, event, event_id, is_bad
from live_torture.spooling import noted, numbers
from playhead.client import Producer, ProducerOptions
from torture.truth import DifferenceError

TIMEOUT_S = 2.0
"""Short, so that requests to a process that is paused are sent again beside their first copy."""

SETTLE_S = 120.0
_AGAIN_S = 0.05
_PAUSE_S = 0.03
_ABANDONED, _HALVED = 0.04, 0.03


class Client(threading.Thread):
    """One client.

    Attributes:
        tried: numbers of the events that may be there.
        certain: of those that have to be there, as events or as dead letters.
        statuses: of the answers that it had.
    """

    def __init__(self, url: str, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.url = url
        self.tried: set[int] = set()
        self.certain: set[int] = set()
        self.statuses: Counter[int] = Counter()
        self._stopping = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self._failure = error

    def _work(self) -> None:
        """Send until `_stopping`, and then until everything is settled."""
        raise NotImplementedError

    def progress(self) -> int:
        """How many events are acknowledged; of a client that cannot tell, how many it sent."""
        return len(self.certain)

    def check(self) -> None:
        """Raise what ended it.

        Raises:
            DifferenceError: it has failed, or had an answer that nobody may get.
        """
        if self._failure is not None:
            raise DifferenceError(f"client {self.name}: {self._failure!r}") from self._failure

    def kill(self) -> bool:
        """Kill it and start it again; False if it is no process of its own."""
        return False

    def end(self) -> None:
        """Have it settle what it sent, and end.

        Raises:
            DifferenceError: it cannot, or has failed.
        """
        self._stopping.set()
        self.join(SETTLE_S)
        if self.is_alive():
            raise DifferenceError(f"client {self.name} could not deliver in {SETTLE_S:.0f} s")
        self.check()


class RawClient(Client):
    """HTTP by hand: every request again until it is acknowledged, in all forms of a body.

    Some requests it leaves without waiting for the answer, and of some it sends a half.
    """

    def _work(self) -> None:
        r = random.Random(self.name)
        number = 0
        with httpx.Client(base_url=self.url, timeout=TIMEOUT_S) as connection:
            while not self._stopping.wait(_PAUSE_S):
                batch = list(range(number, number + r.randint(1, 9)))
                number = batch[-1] + 1
                chance = r.random()
                if chance < _HALVED:
                    self._halve(batch)
                elif chance < _HALVED + _ABANDONED:
                    self._abandon(batch)
                else:
                    self._deliver(connection, batch, r.choice(["json", "lines", "gzip"]))

    def _deliver(self, connection: httpx.Client, batch: list[int], form: str) -> None:
        self.tried.update(batch)
        body, headers = _body([event(self.name, number) for number in batch], form)
        while True:
            try:
                answer = connection.post("/v1/events", content=body, headers=headers)
            except httpx.TransportError:
                time.sleep(_AGAIN_S)
                continue
            self.statuses[answer.status_code] += 1
            if answer.status_code == httpx.codes.ACCEPTED:
                self._settle(batch, answer.json())
                return
            if answer.status_code not in (503, 408):
                raise DifferenceError(f"{answer.status_code}: {answer.text}")
            time.sleep(_AGAIN_S)

    def _settle(self, batch: list[int], told: dict[str, object]) -> None:
        rejected = told["rejected"]
        assert isinstance(rejected, list)
        wanted = [place for place, number in enumerate(batch) if is_bad(number)]
        if [one["index"] for one in rejected] != wanted:
            raise DifferenceError(f"{wanted} are bad, and it was told {told}")
        if told["accepted"] != len(batch) - len(wanted):
            raise DifferenceError(f"of {len(batch)} events: {told}")
        self.certain.update(batch)

    def _abandon(self, batch: list[int]) -> None:
        """Send all of a request and leave; it may be there or not."""
        self.tried.update(batch)
        self._push([event(self.name, number) for number in batch], share=1.0)

    def _halve(self, batch: list[int]) -> None:
        """Send a part of a request and leave; nothing of it may be there."""
        self._push([event(self.name, number) for number in batch], share=0.6)

    def _push(self, events: list[Event], *, share: float) -> None:
        body = json.dumps(events).encode()
        place = urlsplit(self.url)
        head = f"POST /v1/events HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(body)}"
        try:
            with socket.create_connection((place.hostname, place.port), TIMEOUT_S) as sent:
                sent.sendall(head.encode() + b"\r\n\r\n" + body[: int(len(body) * share)])
        except OSError:
            time.sleep(_AGAIN_S)


def _body(events: list[Event], form: str) -> tuple[bytes, dict[str, str]]:
    if form == "lines":
        lines = b"\n".join(json.dumps(one).encode() for one in events)
        return lines, {"Content-Type": "application/x-ndjson"}
    body = json.dumps(events if len(events) > 1 else events[0]).encode()
    headers = {"Content-Type": "application/json"}
    if form == "gzip":
        return gzip.compress(body, 1), headers | {"Content-Encoding": "gzip"}
    return body, headers


class ProducerClient(Client):
    """A producer that keeps what waits in memory."""

    def _work(self) -> None:
        rejected: set[str] = set()
        options = ProducerOptions(
            timeout_s=TIMEOUT_S, on_rejected=lambda one, _: rejected.add(one["event_id"])
        )
        count = itertools.count()
        with Producer(self.url, **options) as producer:
            while not self._stopping.wait(_PAUSE_S):
                batch = set(itertools.islice(count, 40))
                self.tried |= batch
                for number in sorted(batch):
                    producer.send(event(self.name, number))
                producer.flush(timeout=SETTLE_S)
                wanted = {event_id(self.name, number) for number in batch if is_bad(number)}
                if rejected != wanted:
                    raise DifferenceError(f"rejected: {rejected}, and not {wanted}")
                rejected.clear()
                self.certain |= batch


class SpoolingClient(Client):
    """A process with a producer and its spool, killed and started again.

    Args:
        folder: of its spool and notes.
    """

    def __init__(self, url: str, name: str, folder: Path) -> None:
        super().__init__(url, name)
        self._notes = folder / f"{name}.notes"
        self._command = [
            sys.executable, "-m", "live_torture.spooling", url, str(folder / f"{name}.spool"),
            str(self._notes), name,
        ]  # fmt: skip
        self._lock = threading.Lock()
        self._process = self._begin()

    def _begin(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        return subprocess.Popen(self._command, env=os.environ | {"PYTHONPATH": path})

    def kill(self) -> bool:
        with self._lock:
            self._process.kill()
            self._process.wait()
            self._process = self._begin()
        return True

    def abort(self) -> None:
        """End the process for good, whatever it has left."""
        with self._lock:
            self._process.kill()
            self._process.wait()

    def progress(self) -> int:
        return noted(self._notes, "taken")

    def _work(self) -> None:
        while not self._stopping.wait(0.1):
            with self._lock:
                if self._process.poll() is not None:
                    raise DifferenceError(f"its process ended with {self._process.returncode}")
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(SETTLE_S)
        except subprocess.TimeoutExpired as error:
            self.abort()
            raise DifferenceError(f"its spool was not delivered in {SETTLE_S:.0f} s") from error
        if status != 0:
            raise DifferenceError(f"its process ended with {status}")
        self.tried = numbers(self._notes, "tried")
        self.certain = numbers(self._notes, "taken")


class Analyst(Client):
    """Asks the API all the while: events are counted once, and never fewer than before.

    409 (no exact answer now), 503, 504 and 507 (the query's process was killed) are answers.
    """

    _MAY_BE = (200, 409, 503, 504, 507)
    _SQL = "SELECT COUNT(*) AS n, COUNT(DISTINCT event_id) AS ids FROM playback"

    def _work(self) -> None:
        before = 0
        with httpx.Client(base_url=self.url, timeout=20) as connection:
            while not self._stopping.wait(0.2):
                counted = self._ask(connection, "POST", "/v1/query", {"sql": self._SQL})
                if counted is not None:
                    row = counted[0]
                    if row["n"] != row["ids"]:
                        raise DifferenceError(f"{row['n']} rows of {row['ids']} events")
                    before = self._rising("query", before, row["n"])
                self._ask(connection, "GET", "/v1/views/live_playback", None)

    def _rising(self, what: str, before: int, now: int) -> int:
        if now < before:
            raise DifferenceError(f"{what}: {now} events after {before}")
        return now

    def _ask(
        self, connection: httpx.Client, method: str, path: str, body: dict[str, str] | None
    ) -> list[dict[str, int]] | None:
        """The rows of an answer; None if there is none now."""
        try:
            answer = connection.request(method, path, json=body)
        except httpx.TransportError:
            return None
        self.statuses[answer.status_code] += 1
        if answer.status_code not in self._MAY_BE:
            raise DifferenceError(f"{path}: {answer.status_code}: {answer.text}")
        if answer.status_code != httpx.codes.OK:
            return None
        rows: list[dict[str, int]] = answer.json()["rows"]
        return rows
