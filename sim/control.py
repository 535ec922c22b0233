"""The slow clock: what happens to a plane between two advances (rules 13 to 15 and 18).

Autoscalers' scrapes and ticks, replicas that come and go with their machines, rollouts, and what fails: each an event
at its instant, in the written order. The plane is stopped there, and told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from serve.scaler import Scaler
from sim.agenda import Agenda, Order
from sim.failing import Failing, Failures
from sim.fleet import FleetPlan
from sim.fleets import Fleets
from sim.history import History, ModelCourse
from sim.machines import Machine, Machines
from sim.outages import Outages
from sim.plane import BUFFER, Plane, Stop, StopCode
from sim.release import Release, Traffic
from sim.rollout import Rollout, RolloutPlan
from sim.scaling import Scaling
from sim.spot import Market, Reclaims


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model under control.

    Parameters
    ----------
    fleets : by version; the plane's groups are those of all models, in order.
    count : replicas that are up at instant 0, of all versions together.
    scaler : sets their number from then on; None: they stay as many.
    shares : of the traffic, by version.
    rollouts : from one version to another, at their instants.
    on_demand : of the first replicas those that are to be on demand, the others on spot; None: as pools come.
    """

    fleets: Sequence[FleetPlan]
    count: int
    scaler: Scaler | None = None
    shares: Sequence[float] = (1.0,)
    rollouts: Sequence[RolloutPlan] = ()
    on_demand: int | None = None


class Control:
    """Models' replicas on a plane.

    Parameters
    ----------
    plane, advance : the plane, and what advances it to an instant, feeding it; it may return early with a stop.
    machines : that the fleets' slots are on, by number.
    routed : a router must be told who is in rotation.
    failing : what fails.
    markets : by pool, where machines come from that may not be there, or are taken back.
    """

    def __init__(
        self,
        plane: Plane,
        advance: Callable[[int], Stop],
        models: Sequence[ModelPlan],
        machines: Sequence[Machine],
        *,
        routed: bool,
        failing: Failing | None = None,
        markets: Mapping[str, Market] | None = None,
    ) -> None:
        self.history, self._agenda = History(), Agenda()
        self._plane, self._advance = plane, advance
        held = Machines(machines, markets or {}, self._agenda, self.history)
        plans = [plan for model in models for plan in model.fleets]
        self._fleets = Fleets(plane, self._agenda, self.history, held, plans, routed=routed)
        self._scaling_of: dict[int, Scaling] = {}
        """By group."""
        outages = Outages(self._fleets)
        Reclaims(held, outages, self._agenda)
        Failures(failing or Failing(), self._fleets, outages, self._agenda)
        traffic = Traffic(plane, len(plans))
        for model in models:
            self._begin(model, traffic, routed)

    def _begin(self, model: ModelPlan, traffic: Traffic, routed: bool) -> None:
        """A model's replicas are there, and its autoscaler and rollouts know when they are to act."""
        course = ModelCourse()
        self.history.models.append(course)
        groups = [plan.group for plan in model.fleets]
        release = Release([self._fleets.all[group] for group in groups], model.shares, course, traffic)
        release.begin(model.count, model.on_demand)
        if model.scaler is not None:
            scaling = Scaling(model.scaler, release, self._plane, self._agenda, routed=routed)
            self._scaling_of |= dict.fromkeys(groups, scaling)
        for plan in model.rollouts:
            begin = partial(Rollout.begin, plan, release, self._agenda, self.history)
            self._agenda.at(plan.at_ns, Order.ROLLOUT, begin)

    def run(self, until_ns: int) -> None:
        """Let time pass up to an instant, the slow clock's events at it included."""
        while True:
            at_ns = min(self._agenda.next_ns, until_ns)
            stop = self._advance(at_ns)
            if stop.code == StopCode.NO_REPLICA and stop.node <= BUFFER:
                if (scaling := self._scaling_of.get(BUFFER - stop.node)) is not None:
                    scaling.wake()
            elif stop.code == StopCode.EMPTY:
                self._scaling_of[BUFFER - stop.node].empty()
            elif stop.code in (StopCode.DRAINED, StopCode.DIED):
                replica = self._fleets.at_place(stop.node, stop.which)
                (replica.fleet.gone if stop.code == StopCode.DRAINED else replica.fleet.died)(replica)
            elif stop.code == StopCode.UNTIL:
                self._agenda.act(at_ns)
                if at_ns == until_ns:
                    return
