"""A life: rounds of blows to a platform under load, and the reckoning."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from live_torture.clients import Analyst, Client, ProducerClient, RawClient, SpoolingClient
from live_torture.ledger import VIEWS, Ledger, Sent, settle
from live_torture.plan import Blow, Deed, Round
from live_torture.tree import Tree, await_true
from playhead.assemble import Workspace
from torture.truth import DifferenceError

GOES_ON_S = 120.0
"""How long after a round every client has to have got on."""


@dataclass
class Tally:
    """What a life has done so far.

    Attributes:
        kills: by process; those of clients are among them.
        missed: blows to a process that was not there just then.
        statuses: answers, by their number, that were counted by the clients themselves.
        down_s: how long each stop took.
    """

    kills: Counter[str] = field(default_factory=Counter)
    pauses: int = 0
    faults: int = 0
    failed_calls: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    rounds: int = 0
    events: int = 0
    certain: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    down_s: list[float] = field(default_factory=list)


class Life:
    """One workspace, its platform and its clients, in a folder of its own, which is empty.

    Args:
        shim: makes the disk fail; None: it never does.
        told: called after every blow.
    """

    def __init__(
        self,
        folder: Path,
        tally: Tally,
        *,
        shim: Path | None = None,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._tally = tally
        self._told = told
        self._tree = Tree(folder, VIEWS, shim)
        self._senders: list[Client] = []
        self._fault = "full"

    def run(self, rounds: Iterable[Round], enough: Callable[[], bool] = lambda: False) -> None:
        """Live through some rounds, or until it is enough, and settle.

        Args:
            enough: asked after every blow.

        Raises:
            DifferenceError: an event is lost, doubled or strange; an answer is wrong; or
                something does not go on after a round.
        """
        try:
            urls = self._tree.start()
            self._senders = self._clients(urls["gateway"])
            analyst = Analyst(urls["api"], "analyst")
            for client in (*self._senders, analyst):
                client.start()
            self._await_progress()
            for one in rounds:
                self._round(one, analyst, enough)
                if enough():
                    break
            self._end(analyst)
        finally:
            for client in self._senders:
                if isinstance(client, SpoolingClient):
                    client.abort()
            self._tree.destroy()
        self._settle()

    def _clients(self, url: str) -> list[Client]:
        return [
            RawClient(url, "raw0"),
            RawClient(url, "raw1"),
            RawClient(url, "raw2"),
            ProducerClient(url, "memory"),
            SpoolingClient(url, "spool", self._folder),
        ]

    # -- blows ---------------------------------------------------------------------------

    def _round(self, one: Round, analyst: Client, enough: Callable[[], bool]) -> None:
        self._fault = one.fault
        if one.batch:
            self._tree.make_batch_due()
        for blow in one.blows:
            self._tree.wait(blow.wait_s)
            self._strike(blow)
            self._told()
            if enough():
                break
        self._tree.resume(everything=True)
        self._tree.await_whole()
        self._await_progress()
        analyst.check()
        self._tally.rounds += 1
        self._told()

    def _strike(self, blow: Blow) -> None:
        tally = self._tally
        match blow.deed:
            case Deed.KILL:
                done = self._tree.kill(blow.target, self._fault)
                tally.kills[blow.target] += done
            case Deed.KILL_CLIENT:
                done = any(client.kill() for client in self._senders)
                tally.kills["client"] += done
            case Deed.PAUSE:
                done = self._tree.pause(blow.target, blow.lasts_s)
                tally.pauses += done
            case Deed.FAIL:
                done = self._tree.fail(blow.lasts_s)
                tally.faults += done
        tally.missed += not done

    def _await_progress(self) -> None:
        """Wait until every client has sent, and been acknowledged, more than before."""
        before = {client: client.progress() for client in self._senders}

        def goes_on() -> bool:
            for client in self._senders:
                client.check()
            return all(client.progress() > least for client, least in before.items())

        await_true(goes_on, GOES_ON_S, lambda: f"does not go on: {self._standing(before)}")

    def _standing(self, before: dict[Client, int]) -> str:
        halted = [client.name for client, least in before.items() if client.progress() <= least]
        return f"{', '.join(halted)}; {self._tree.last_words()}"

    # -- the end -------------------------------------------------------------------------

    def _end(self, analyst: Client) -> None:
        """Have the clients settle while the platform runs, and stop it."""
        for client in (*self._senders, analyst):
            client.end()
            self._tally.statuses.update(client.statuses)
        self._tally.down_s.append(self._tree.down())
        self._tally.failed_calls += self._tree.failures()

    def _settle(self) -> None:
        sent = {
            client.name: Sent(frozenset(client.certain), frozenset(client.tried))
            for client in self._senders
        }
        if not all(one.certain for one in sent.values()):
            raise DifferenceError("a client was never acknowledged anything")
        with Workspace(self._tree.workspace) as opened:
            settle(opened)
            self._tally.events += Ledger(sent).check(opened)
        self._tally.certain += sum(len(one.certain) for one in sent.values())
