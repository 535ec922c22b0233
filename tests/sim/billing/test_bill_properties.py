"""What holds of every bill: its parts, its cuts, its order, and how far commitments reach."""

import math
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.billing.attribution import attribute, check
from sim.billing.bill import bill
from sim.billing.commitments import Reservation, SavingsPlan
from sim.billing.lines import MACHINES
from sim.billing.prices import PriceBook
from sim.billing.usage import FleetUsage
from tests.sim.billing.fleets import END_S, books, fleets, reservations, savings_plans, starts

HOURS = END_S / 3600


def in_unit(share: float) -> bool:
    """Whether a share is one, or undefined."""
    return math.isnan(share) or 0 <= share <= 1


@given(fleets(), books(), starts())
def test_parts_add_up_to_the_bill(usage: FleetUsage, prices: PriceBook, start: datetime) -> None:
    whole = bill(usage, prices, start)
    check(attribute(whole, usage), whole)


@given(fleets(), books(), starts(), st.data())
def test_the_order_of_nodes_changes_nothing(
    usage: FleetUsage, prices: PriceBook, start: datetime, data: st.DataObject
) -> None:
    mixed = replace(usage, nodes=tuple(data.draw(st.permutations(usage.nodes))))
    one, other = bill(usage, prices, start), bill(mixed, prices, start)
    assert one.lines == other.lines
    assert attribute(one, usage) == attribute(other, mixed)


@given(fleets(), books(), starts(), st.data())
def test_two_halves_are_the_whole_at_a_full_hour(
    usage: FleetUsage, prices: PriceBook, start: datetime, data: st.DataObject
) -> None:
    whole = bill(usage, prices, start)
    cut_ns = data.draw(st.sampled_from([hour.start_ns for hour in whole.hours[1:]]))
    first, second = bill(usage, prices, start, until_ns=cut_ns), bill(usage, prices, start, from_ns=cut_ns)
    assert (*first.lines, *second.lines) == whole.lines
    assert first.total.usd + second.total.usd == pytest.approx(whole.total.usd, rel=1e-12)


@given(fleets(), books(), starts())
def test_hours_add_up_to_the_total(usage: FleetUsage, prices: PriceBook, start: datetime) -> None:
    whole = bill(usage, prices, start)
    assert sum(hour.figures.usd for hour in whole.hours) == pytest.approx(whole.total.usd, rel=1e-12)
    assert sum(hour.figures.list_usd for hour in whole.hours) == pytest.approx(whole.total.list_usd, rel=1e-12)


@given(fleets(), books(), starts(), reservations("more"), savings_plans("more still"))
def test_more_commitments_never_cover_more_than_all(
    usage: FleetUsage, prices: PriceBook, start: datetime, reservation: Reservation, plan: SavingsPlan
) -> None:
    more = replace(
        prices,
        reservations=(*prices.reservations, reservation),
        savings_plans=(*prices.savings_plans, plan),
    )
    for book in (prices, more):
        whole = bill(usage, book, start)
        for figures in (whole.total, *(hour.figures for hour in whole.hours)):
            assert in_unit(figures.commitment_coverage)
            assert in_unit(figures.commitment_utilisation)


@given(fleets(), books(), starts())
def test_a_commitment_costs_the_same_used_or_not(usage: FleetUsage, prices: PriceBook, start: datetime) -> None:
    """Effective costs of the usage that it covers and of what is left are its amortised price."""
    lines = bill(usage, prices, start).lines
    for commitment in prices.commitments:
        usd = [line.effective_usd for line in lines if line.commitment == commitment]
        assert math.fsum(usd) == pytest.approx(commitment.committed_usd_per_h * HOURS, rel=1e-9)


@given(fleets(), books(), starts())
def test_effective_costs_are_the_billed_ones_and_amortised_upfront_sums(
    usage: FleetUsage, prices: PriceBook, start: datetime
) -> None:
    lines = bill(usage, prices, start).lines
    upfront_usd_per_h = sum(c.committed_usd_per_h - c.recurring_usd_per_h for c in prices.commitments)
    billed_usd = math.fsum(line.billed_usd for line in lines)
    effective_usd = math.fsum(line.effective_usd for line in lines)
    assert effective_usd == pytest.approx(billed_usd + upfront_usd_per_h * HOURS, rel=1e-9, abs=1e-9)


@given(fleets(), books(), starts())
def test_covers_and_list_price_are_all_on_demand_usage(usage: FleetUsage, prices: PriceBook, start: datetime) -> None:
    """Whoever pays, machine time in the lines is what the nodes were billed for."""
    lines = [line for line in bill(usage, prices, start).lines if line.kind in MACHINES and line.kind != "spot"]
    for node in usage.nodes:
        if node.buy != "on_demand":
            continue
        until_ns = usage.end_ns
        if node.released_ns is not None:
            until_ns = max(node.released_ns, node.handed_over_ns + prices.types[node.type].minimum_s * 10**9)
        hours = max(0, until_ns - max(0, node.handed_over_ns)) / 3.6e12
        assert math.fsum(line.quantity for line in lines if line.node_id == node.node_id) == pytest.approx(hours)


@given(fleets(), books(), starts())
def test_without_commitments_and_spot_the_bill_is_the_list(
    usage: FleetUsage, prices: PriceBook, start: datetime
) -> None:
    on_demand = tuple(replace(node, buy="on_demand", reclaimed=False) for node in usage.nodes)
    plain = PriceBook(prices.types)
    total = bill(replace(usage, nodes=on_demand), plain, start).total
    assert total.usd == pytest.approx(total.list_usd, rel=1e-12)
    assert math.isnan(total.commitment_utilisation)
    assert not total.commitment_coverage > 0
