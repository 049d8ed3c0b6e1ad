"""One platform on servers of its own, from its start to the count of its events."""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cluster_torture.plan import PARTS, SERVERS, Blow
from live_torture.clients import Analyst, Client, ProducerClient, RawClient
from live_torture.ledger import VIEWS, Ledger, Sent, settle
from live_torture.tree import Tree, await_true
from playhead.assemble import Workspace
from playhead.cluster import Servers
from playhead.demo.cluster import Engines, environment
from torture.truth import DifferenceError

GOES_ON_S = 180.0
"""After the last blow of a round, every client has to be acknowledged more within this."""


@dataclass
class Tally:
    """What happened.

    Attributes:
        kills: by target.
        missed: blows whose target was not there.
        events: that the workspace holds in the end.
        certain: events that were acknowledged.
        statuses: of the answers that clients had.
    """

    kills: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    rounds: int = 0
    events: int = 0
    certain: int = 0
    statuses: Counter[int] = field(default_factory=Counter)


class ClusterLife:
    """Runs rounds of blows on a platform under load, and counts what is left.

    Args:
        folder: for everything; empty.
        engines: what computes.
        told: called after every blow.
    """

    def __init__(
        self,
        folder: Path,
        tally: Tally,
        engines: Engines,
        *,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._tally, self._told = folder, tally, told
        self._engines = engines
        self._servers = Servers(folder / "servers", with_spark=engines.with_spark)
        self._senders: list[Client] = []

    def run(self, rounds: Iterable[Iterable[Blow]]) -> None:
        """Live through some rounds, and settle.

        Raises:
            DifferenceError: an event is lost, doubled or strange; an answer is wrong; or
                something does not go on after a round.
        """
        with ExitStack() as stack:
            stack.enter_context(self._servers)
            stack.enter_context(environment(self._servers.environment))
            tree = Tree(self._folder, VIEWS, beside=self._servers.settings, engines=self._chosen())
            stack.callback(tree.destroy)
            urls = tree.start()
            self._senders = [
                RawClient(urls["gateway"], "raw0"),
                RawClient(urls["gateway"], "raw1"),
                ProducerClient(urls["gateway"], "memory"),
            ]
            analyst = Analyst(urls["api"], "analyst")
            for client in (*self._senders, analyst):
                client.start()
            self._await_progress(tree)
            for blows in rounds:
                self._round(tree, analyst, blows)
            for client in (*self._senders, analyst):
                client.end()
                self._tally.statuses.update(client.statuses)
            tree.down()
            self._settle(tree.workspace)

    def _chosen(self) -> dict[str, str]:
        return {"batch": self._engines.batch, "speed": self._engines.speed}

    def _round(self, tree: Tree, analyst: Client, blows: Iterable[Blow]) -> None:
        tree.make_batch_due()
        for blow in blows:
            tree.wait(blow.wait_s)
            self._strike(tree, blow)
            self._told()
        tree.await_whole()
        self._await_progress(tree)
        analyst.check()
        self._tally.rounds += 1
        self._told()

    def _strike(self, tree: Tree, blow: Blow) -> None:
        """Kill something; what no supervisor starts again is started after a while."""
        done = True
        if blow.target in PARTS:
            done = tree.kill(blow.target, "full")
        elif blow.target in SERVERS:
            server = getattr(self._servers, blow.target)
            server.kill()
            tree.wait(blow.gone_s)
            server.start()
        else:
            self._strike_worker(tree, int(blow.target[-1]), blow.gone_s)
        self._tally.kills[blow.target] += done
        self._tally.missed += not done

    def _strike_worker(self, tree: Tree, number: int, gone_s: float) -> None:
        spark = self._servers.spark
        assert spark is not None
        spark.kill_worker(number)
        tree.wait(gone_s)
        spark.start_worker(number)

    def _await_progress(self, tree: Tree) -> None:
        """Wait until every client has been acknowledged more than before."""
        before = {client: client.progress() for client in self._senders}

        def goes_on() -> bool:
            for client in self._senders:
                client.check()
            return all(client.progress() > least for client, least in before.items())

        await_true(goes_on, GOES_ON_S, lambda: f"does not go on: {tree.last_words()}")

    def _settle(self, workspace: Path) -> None:
        sent = {
            client.name: Sent(frozenset(client.certain), frozenset(client.tried))
            for client in self._senders
        }
        if not all(one.certain for one in sent.values()):
            raise DifferenceError("a client was never acknowledged anything")
        with Workspace(workspace) as opened:
            settle(opened)
            self._tally.events += Ledger(sent).check(opened)
        self._tally.certain += sum(len(one.certain) for one in sent.values())
