"""Which plane simulates: the compiled one, or the SimPy reference."""

from __future__ import annotations

from sim.plane import Closed, Estate, Ints, Node, Plane
from sim.scenario import Engine
from sim.tally import NO_FINE


def build_plane(
    engine: Engine,
    what: Node | Estate,
    classes: int,
    closed: Closed | None,
    time_bins: int,
    bin_ns: int,
    slo_ns: Ints,
    metered: bool = False,
    fine: tuple[int, int] = NO_FINE,
) -> Plane:
    """A plane that tallies into `time_bins` bins of `bin_ns`, and into `fine` ones for error budgets."""
    if engine == "reference":
        from sim.reference import Reference

        return Reference(what, classes, closed, time_bins=time_bins, bin_ns=bin_ns, slo_ns=slo_ns, fine=fine)
    from sim.dataplane import DataPlane

    return DataPlane(
        what, classes, closed, time_bins=time_bins, bin_ns=bin_ns, slo_ns=slo_ns, fine=fine, metered=metered
    )
