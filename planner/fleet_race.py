"""The race of fleets: what they cost and whether they hold comes from simulating them; nothing is ruled out before.

The bounds of `planner.ruling` are of one node. Here every candidate is simulated briefly; not simulated in full is only
what a confidence interval puts beyond the SLO, or beyond the cost of what holds.
"""

from __future__ import annotations

import math

from planner import cost
from planner.race import Entry, Race, Stage
from planner.ruling import Outside
from planner.space import Candidate
from serve.errors import SpecError
from serve.fleet import places
from sim.result import Estimate, Result

COST_STEP = 0.01
"""Bills within one per cent count as equal: latency decides."""


class FleetRace(Race):
    """Candidates with several nodes, a router or an autoscaler."""

    def entry(self, candidate: Candidate) -> Entry:
        """Nothing is known before it is simulated, but whether its replicas fit its nodes."""
        entry = Entry(candidate, 0)
        try:
            places(candidate.deployment, cost.only_model(candidate.deployment)[0])
        except SpecError as error:
            entry.outside = Outside("cores", error.faults[0].message)
            entry.fate, entry.reason = "ruled out", f"cores: {entry.outside.reason}"
        return entry

    def group_of(self, entry: Entry) -> int:
        """All race each other."""
        return 0

    def step(self, entry: Entry) -> int:
        """The bill, in steps of COST_STEP."""
        return cost_step(self.usd(entry))

    def usd(self, entry: Entry) -> float:
        """The bill of its last simulation."""
        return _bill(entry).value or 0.0

    def cores(self, entry: Entry) -> float | None:
        """Nodes are paid, not cores."""
        return None

    def capacity(self, entry: Entry) -> float:
        """What an autoscaler could serve at most is not what decides."""
        return 0.0

    def cores_outside(self, candidate: Candidate, result: Result) -> Outside | None:
        """Replicas are placed where there are cores for them."""
        return None

    def stages(self) -> list[Stage]:
        """A scaled run is never cut short: replicas come and go over all of it."""
        return [Stage(stage.replications, 1.0) for stage in super().stages()]

    def _may_beat(self, entry: Entry, best: Entry) -> bool:
        if entry.result is None:
            return True
        bill = _bill(entry)
        low = cost_step(bill.ci[0] if bill.ci is not None else bill.value or 0.0)
        return low < self.step(best) or (low == self.step(best) and self._may_be_as_fast(entry, best))


def cost_step(usd_per_h: float) -> int:
    """The step of COST_STEP that a bill falls into."""
    return math.floor(math.log(usd_per_h) / math.log1p(COST_STEP)) if usd_per_h > 0 else -(10**6)


def _bill(entry: Entry) -> Estimate:
    assert entry.result is not None, "not simulated"
    return entry.result.total.metrics["cost_usd_per_h"]
