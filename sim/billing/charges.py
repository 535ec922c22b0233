"""The lines of one clock-hour: spot, on-demand with what covers it, commitments, and what is paid beside machines."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sim.billing.coverage import Coverage, cover
from sim.billing.hours import HOUR_NS
from sim.billing.lines import Line
from sim.billing.prices import PriceBook, TypePrice
from sim.billing.usage import FleetUsage, NodeUsage, Owner


@dataclass(frozen=True, slots=True)
class Billed:
    """Time of a node that a bill covers."""

    node: NodeUsage
    start_ns: int
    end_ns: int
    refunded: bool
    """Whether the machine itself is free."""

    @property
    def span_ns(self) -> int:
        """Its length."""
        return self.end_ns - self.start_ns

    def within(self, start_ns: int, end_ns: int) -> Billed | None:
        """What of it lies between two instants; none: nothing."""
        start_ns, end_ns = max(start_ns, self.start_ns), min(end_ns, self.end_ns)
        return replace(self, start_ns=start_ns, end_ns=end_ns) if start_ns < end_ns else None


def billed_nodes(usage: FleetUsage, book: PriceBook) -> tuple[Billed, ...]:
    """Billed time of each node, in node-id order: hand-over to release, at least the type's minimum.

    A node still held when the run ends is billed to that instant, the minimum left to what follows. The minimum
    of one that was released may reach beyond the end of the run.
    """
    nodes = sorted(usage.nodes, key=lambda node: node.node_id)
    return tuple(_billed(node, usage.end_ns, book.price(node.type)) for node in nodes)


def _billed(node: NodeUsage, end_ns: int, price: TypePrice) -> Billed:
    if node.released_ns is None:
        return Billed(node, node.handed_over_ns, end_ns, refunded=False)
    until_ns = max(node.released_ns, node.handed_over_ns + price.minimum_s * 10**9)
    young = node.released_ns - node.handed_over_ns < HOUR_NS
    return Billed(node, node.handed_over_ns, until_ns, price.refund_first_hour and node.reclaimed and young)


def hour_lines(
    start_ns: int, end_ns: int, billed: Sequence[Billed], usage: FleetUsage, book: PriceBook
) -> tuple[Line, ...]:
    """All lines of a clock-hour, or of a part of one, in a fixed order."""
    nodes = [part for whole in billed if (part := whole.within(start_ns, end_ns)) is not None]
    committed_ns = max(0, min(end_ns, usage.end_ns) - start_ns)
    on_demand = [part for part in nodes if part.node.buy == "on_demand"]
    usage_ns: Counter[str] = Counter()
    for part in on_demand:
        usage_ns[part.node.type] += part.span_ns
    coverage = cover(usage_ns, committed_ns, book)
    return (
        *_spot_lines(nodes, book),
        *_on_demand_lines(on_demand, usage_ns, coverage, book),
        *_commitment_lines(start_ns, committed_ns, coverage, book),
        *_disk_lines(nodes, book),
        *_load_balancer_lines(start_ns, committed_ns, book),
        *_cross_zone_lines(start_ns, end_ns, usage, book),
    )


def _spot_lines(nodes: Sequence[Billed], book: PriceBook) -> Iterator[Line]:
    for part in nodes:
        if part.node.buy != "spot" or part.refunded:
            continue
        node, list_usd_per_h = part.node, book.price(part.node.type).on_demand_usd_per_h
        for start_ns, end_ns, usd_per_h in book.spot_price(node.type).pieces(part.start_ns, part.end_ns):
            hours = (end_ns - start_ns) / HOUR_NS
            usd = hours * usd_per_h
            line = Line("spot", start_ns, end_ns, hours, usd, usd, hours * list_usd_per_h)
            yield _of_node(line, node)


def _on_demand_lines(
    nodes: Sequence[Billed], usage_ns: Counter[str], coverage: Coverage, book: PriceBook
) -> Iterator[Line]:
    for part in nodes:
        type_ = part.node.type
        share = part.span_ns / usage_ns[type_]
        for covered in coverage.covers:
            if covered.type != type_:
                continue
            hours, usd = covered.node_h * share, covered.usd * share
            listed = covered.commitment is None
            line = Line(
                kind="on_demand" if listed else "committed",
                start_ns=part.start_ns,
                end_ns=part.end_ns,
                quantity=hours,
                billed_usd=usd if listed else 0.0,
                effective_usd=usd,
                list_usd=hours * book.price(type_).on_demand_usd_per_h,
                commitment=covered.commitment,
            )
            yield _of_node(line, part.node)


def _of_node(line: Line, node: NodeUsage) -> Line:
    return replace(line, node_id=node.node_id, pool=node.pool, type=node.type, zone=node.zone)


def _commitment_lines(start_ns: int, committed_ns: int, coverage: Coverage, book: PriceBook) -> Iterator[Line]:
    """What commitments cost in the hour, and what nobody used of them: list cost 0, since nothing was used."""
    if committed_ns == 0:
        return
    hours, end_ns = committed_ns / HOUR_NS, start_ns + committed_ns
    for commitment in book.commitments:
        usd = commitment.recurring_usd_per_h * hours
        quantity = commitment.quantity_per_h * hours
        yield Line("purchase", start_ns, end_ns, quantity, usd, 0.0, usd, commitment=commitment)
    for unused in coverage.unused:
        yield Line("unused", start_ns, end_ns, unused.quantity, 0.0, unused.usd, 0.0, commitment=unused.commitment)


def _disk_lines(nodes: Sequence[Billed], book: PriceBook) -> Iterator[Line]:
    """Disks of nodes, those of a refunded machine too."""
    usd_per_h = book.extras.disk_usd_per_node_h
    if usd_per_h == 0:
        return
    for part in nodes:
        hours = part.span_ns / HOUR_NS
        usd = hours * usd_per_h
        yield _of_node(Line("disk", part.start_ns, part.end_ns, hours, usd, usd, usd), part.node)


def _load_balancer_lines(start_ns: int, committed_ns: int, book: PriceBook) -> Iterator[Line]:
    usd_per_h = book.extras.load_balancer_usd_per_h
    if usd_per_h > 0 and committed_ns > 0:
        hours = committed_ns / HOUR_NS
        usd = hours * usd_per_h
        yield Line("load_balancer", start_ns, start_ns + committed_ns, hours, usd, usd, usd)


def _cross_zone_lines(start_ns: int, end_ns: int, usage: FleetUsage, book: PriceBook) -> Iterator[Line]:
    """Traffic by owner; that of a bin which the full hour cuts counts in both hours by time."""
    usd_per_gib = book.extras.cross_zone_usd_per_gib
    if usd_per_gib == 0:
        return
    gib: defaultdict[Owner, float] = defaultdict(float)
    for traffic in usage.cross_zone:
        bin_start_ns, bin_end_ns = traffic.bin * usage.bin_ns, min((traffic.bin + 1) * usage.bin_ns, usage.end_ns)
        inside_ns = min(end_ns, bin_end_ns) - max(start_ns, bin_start_ns)
        if inside_ns > 0:
            gib[traffic.owner] += traffic.bytes / 2**30 * (inside_ns / (bin_end_ns - bin_start_ns))
    for owner in sorted(gib):
        usd = gib[owner] * usd_per_gib
        yield Line("cross_zone", start_ns, min(end_ns, usage.end_ns), gib[owner], usd, usd, usd, owner=owner)
