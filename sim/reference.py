"""The reference simulator: the production scheduler under SimPy's clock, one lean event flow per request.

It is slow and beyond doubt. Nodes are `sim.station`s over `serve.scheduler`, what sends requests to
them is a `sim.network` over `serve.balancer`. Every event goes through `sim.clock`, which turns the
written order of simultaneous events into SimPy's priority; what happened is written down in
`sim.ledger`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serve.policy.codes import EVENT_CONTROL
from serve.policy.routing import ROUTE_ROUND_ROBIN
from serve.policy.scaling.metering import Scrape
from serve.records import Rows
from serve.scheduler import Request
from sim.arrivals import Arrivals
from sim.clock import Clock
from sim.ledger import Ledger
from sim.network import Network
from sim.plane import (
    BUFFER,
    Closed,
    Estate,
    Ints,
    Node,
    Requests,
    Stop,
    StopCode,
    check_bins,
    check_estate,
    check_rotation,
    check_slow,
    check_split,
)
from sim.station import Answer, Station
from sim.tally import NO_FINE, Tally


class Reference:
    """A `Plane` over `serve.scheduler.Scheduler`; always keeps rows, and tallies from them."""

    def __init__(
        self,
        what: Node | Estate,
        classes: int,
        closed: Closed | None = None,
        *,
        time_bins: int = 1,
        bin_ns: int = 2**62,
        slo_ns: Ints | None = None,
        fine: tuple[int, int] = NO_FINE,
    ) -> None:
        estate = self.estate = Estate.of(what)
        check_estate(estate, closed)
        check_bins(time_bins, bin_ns)
        self._classes = classes
        self._bins, self._fine, self._slo_ns = (time_bins, bin_ns), fine, slo_ns
        self._clock = Clock()
        self._ledger = Ledger(routed=estate.router is not None)
        self._arrivals = Arrivals(self._clock, estate.nodes[0], classes, closed, self._arrive)
        self.stations = [self._station(number) for number in range(len(estate.nodes))]
        self._network = None
        if estate.router is not None:
            self._network = Network(
                self._clock, self._ledger, estate, estate.router, self.stations, self._arrivals.left
            )
        self._reached: list[bool] = []

    def _station(self, number: int, first_batch: int = 0) -> Station:
        router, node = self.estate.router, self.estate.nodes[number]
        policy = ROUTE_ROUND_ROBIN if router is None else router.policy
        return Station(self._clock, self._ledger, node, number, self._left, policy, first_batch, self._beside(number))

    def _beside(self, number: int) -> Callable[[], int]:
        """Replicas that run on a node's machine, but on other nodes."""
        machines = self.estate.machines
        others = [n for n, machine in enumerate(machines) if machine == machines[number] and n != number]
        return lambda: sum(self.stations[other].scheduler.running for other in others)

    # -- what comes in ---------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Instant of the last stop."""
        return self._clock.now_ns

    @property
    def unsettled(self) -> int:
        """Requests that the router has not seen the end of."""
        assert self._network is not None, "an estate without a router"
        return self._network.unsettled

    def feed(self, requests: Requests) -> None:
        """Hand over the next open arrivals."""
        self._arrivals.feed(requests)

    def feed_closed(self, requests: Requests) -> None:
        """Hand over the next requests of the closed-loop clients, client by client."""
        self._arrivals.feed_closed(requests)

    def end_feed(self) -> None:
        """No more open arrivals will come."""
        self._arrivals.end_feed()

    def _arrive(self, request: Request) -> None:
        if self._network is None:
            self.stations[0].arrive(request)
        else:
            self._network.arrive(request)

    def _left(self, request: Request, answer: Answer) -> None:
        if self._network is None:
            self._ledger.row(request, 0, answer.outcome, answer.reason, self.now_ns)
            self._arrivals.left(request, answer.outcome)
        else:
            self._network.answer(request, answer)

    # -- the clock ---------------------------------------------------------------------------------

    def advance(self, until_ns: int) -> Stop:
        """Handle every event before `until_ns`, and classes 0 and 1 at it; return early where control must react."""
        assert until_ns >= self.now_ns, f"{until_ns=} lies before {self.now_ns=}"
        # A marker of an advance that stopped early must not end a later one.
        reached = self._reached = []
        self._clock.at(until_ns, EVENT_CONTROL, -1, reached.append, True)
        self._arrivals.resume()
        while (stop := self._stop()) is None:
            self._clock.step()
        self._ledger.check(sum(station.present for station in self.stations))
        return stop

    def _stop(self) -> Stop | None:
        if self._network is not None and self._network.woken is not None:
            (which, group), self._network.woken = self._network.woken, None
            return Stop(StopCode.NO_REPLICA, self.now_ns, which, BUFFER - group)
        if self._network is not None and self._network.emptied:
            self._network.emptied = False
            return Stop(StopCode.EMPTY, self.now_ns, node=BUFFER)
        told = next((stop for station in self.stations if (stop := station.stop()) is not None), None)
        if told is not None:
            return told
        if self._arrivals.starved:
            return Stop(StopCode.STARVED, self.now_ns)
        return Stop(StopCode.UNTIL, self.now_ns) if self._reached else None

    # -- control -----------------------------------------------------------------------------------

    def ready(self, replica: int, node: int = 0) -> None:
        """Control: the replica is up."""
        self._control(lambda: self._ready(replica, node))

    def _ready(self, replica: int, node: int) -> None:
        if self.stations[node].lost:
            self.stations[node] = self._station(node, self.stations[node].scheduler.next_batch)
        self.stations[node].ready(replica)

    def kill(self, replica: int, node: int = 0) -> None:
        """Control: the replica dies (rule 8)."""
        self._control(lambda: self.stations[node].kill(replica))

    def drain_replica(self, replica: int, node: int = 0) -> None:
        """Control: the replica takes no more batches (rule 12)."""
        self._control(lambda: self.stations[node].drain_replica(replica))

    def retire(self, replica: int, node: int = 0) -> None:
        """Control: a replica without a batch goes; a new one may be ready in its place."""
        self._control(lambda: self.stations[node].retire(replica))

    def drain(self, node: int = 0) -> None:
        """Control: the node drains (rule 12)."""
        self._control(self.stations[node].drain)

    def lose(self, node: int) -> None:
        """Control: the node goes, and all that it holds (rule 14)."""
        self._control(self.stations[node].lose)

    def slow(self, node: int, per_mille: int) -> None:
        """Control: batches that start at the node from now on take so many thousandths of their time."""
        check_slow(per_mille)
        self._control(lambda: self.stations[node].slow(per_mille))

    def hang(self, replica: int, node: int = 0) -> None:
        """Control: the batch that runs on a replica, or the next to start there, never ends."""
        self._control(lambda: self.stations[node].hang(replica))

    def cut(self, node: int, off: bool) -> None:
        """Control: nothing passes between router and node any more, or again."""
        network = self._network
        assert network is not None, "an estate without a router"
        self._control(lambda: network.cut(node, off))

    def rotate(self, nodes: Sequence[int], group: int = 0) -> None:
        """Control: from now on the router sends to these nodes of a group only."""
        check_rotation(self.estate, nodes, group)
        network = self._network
        assert network is not None, "an estate without a router"
        self._control(lambda: network.rotate(nodes, group))

    def split(self, upto: Sequence[int]) -> None:
        """Control: from now on requests are given to the versions of their models by these parts."""
        check_split(self.estate, upto)
        assert self._network is not None, "an estate without a router"
        self._network.split = tuple(upto)

    def _control(self, act: Callable[[], None]) -> None:
        """Control is an event too: what classes 0 and 1 hold at this instant comes before it."""
        done: list[bool] = []

        def event() -> None:
            act()
            done.append(True)

        self._clock.at(self.now_ns, EVENT_CONTROL, 0, event)
        while not done:
            self._clock.step()

    def scrape(self, node: int = 0) -> Scrape:
        """What is counted of a node, now (rule 13)."""
        if node < 0:
            assert self._network is not None, "an estate without a router"
            return self._network.scrape(BUFFER - node)
        return self.stations[node].scheduler.scrape(self.now_ns)

    def outcomes(self) -> Ints:
        """Requests that have come to their end by now, by class and outcome."""
        return self._ledger.outcomes(self._classes)

    # -- the record --------------------------------------------------------------------------------

    def rows(self) -> Rows:
        """The rows of all attempts that left their node, by (request, attempt)."""
        return self._ledger.rows()

    def batches(self) -> Ints:
        """The batch log (see `sim.tally`), by node in order of dispatch, of every batch that started."""
        return self._ledger.batches()

    def tally(self) -> Tally:
        """Histograms and sums so far, computed from the rows."""
        bins, groups = self._bins, self.estate.group_of
        return self._ledger.tally(self._classes, *bins, self.estate.rows_max, self._slo_ns, groups, self._fine)
