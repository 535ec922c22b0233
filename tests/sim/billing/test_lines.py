"""The lines of a bill as FOCUS has them."""

from datetime import datetime, timedelta, timezone

import pytest

from sim.billing.bill import bill
from sim.billing.commitments import Reservation
from sim.billing.lines import focus_columns
from sim.billing.prices import Extras, PriceBook
from sim.billing.usage import CrossZone, FleetUsage, Owner
from tests.sim.billing.fleets import BOOK, EIGHT, RESERVED, book, fleet, node, plan, spot

HALF_USED = fleet(node(0, 0, 1800))


def columns(usage: FleetUsage, prices: PriceBook, *names: str, starts: datetime = EIGHT) -> list[tuple[object, ...]]:
    """These columns of each line."""
    found = [focus_columns(line, starts) for line in bill(usage, prices, starts).lines]
    return [tuple(one[name] for name in names) for one in found]


def test_a_reservation_is_purchased_then_used_and_unused() -> None:
    """876 USD upfront are 0.10 USD/h, of which nothing is invoiced in the run."""
    prices = book(reservations=(Reservation("r", "c", 1, upfront_usd=876, usd_per_h=0.15),))
    names = ("ChargeCategory", "CommitmentDiscountStatus", "BilledCost", "EffectiveCost", "ListCost")
    assert columns(HALF_USED, prices, *names) == [
        ("Usage", "Used", 0.0, pytest.approx(0.125), pytest.approx(0.20)),
        ("Purchase", None, pytest.approx(0.15), 0.0, pytest.approx(0.15)),
        ("Usage", "Unused", 0.0, pytest.approx(0.125), 0.0),
    ]


def test_a_reservation_commits_usage_a_savings_plan_spending() -> None:
    names = ("CommitmentDiscountId", "CommitmentDiscountCategory", "PricingCategory", "PricingQuantity", "PricingUnit")
    assert columns(HALF_USED, book(reservations=(RESERVED,)), *names) == [
        ("reserved", "Usage", "Committed", 0.5, "Hours"),
        ("reserved", "Usage", "Standard", 1.0, "Hours"),
        ("reserved", "Usage", "Committed", pytest.approx(0.5), "Hours"),
    ]
    assert columns(HALF_USED, plan(0.30, c=0.25), *names) == [
        ("plan", "Spend", "Committed", 0.5, "Hours"),
        ("plan", "Spend", "Standard", 0.30, "USD"),
        ("plan", "Spend", "Committed", pytest.approx(0.15), "USD"),
    ]


def test_an_upfront_sum_is_not_invoiced_hour_by_hour() -> None:
    half_upfront = plan(0.30, upfront_usd=0.15 * 8760, c=0.25)
    costs = columns(fleet(node()), half_upfront, "ChargeCategory", "BilledCost", "EffectiveCost")
    assert costs == [
        ("Usage", 0.0, pytest.approx(0.30)),
        ("Purchase", pytest.approx(0.15), 0.0),
    ]


def test_machines_without_commitment() -> None:
    names = ("PricingCategory", "BilledCost", "EffectiveCost", "ListCost", "CommitmentDiscountStatus", "ResourceId")
    assert columns(fleet(node(7)), BOOK, *names) == [("Standard", 0.40, 0.40, 0.40, None, "7")]
    assert columns(fleet(spot()), BOOK, *names) == [("Dynamic", 0.16, 0.16, 0.40, None, "0")]


def test_extras_are_usage_at_list_price() -> None:
    extras = Extras(load_balancer_usd_per_h=0.02, disk_usd_per_node_h=0.10, cross_zone_usd_per_gib=0.01)
    usage = fleet(node(7), cross_zone=(CrossZone(0, Owner("digits"), 2**31),))
    names = ("PricingUnit", "PricingQuantity", "BilledCost", "ListCost", "ResourceId")
    assert columns(usage, book(extras=extras), *names)[1:] == [
        ("Hours", 1.0, 0.10, 0.10, "7"),
        ("Hours", 1.0, 0.02, 0.02, None),
        ("GiB", 2.0, 0.02, 0.02, None),
    ]


def test_traffic_of_a_bin_that_a_full_hour_cuts_counts_in_both() -> None:
    """Of the minute from 8:59:45 on, a quarter lies before nine."""
    usage = fleet(cross_zone=(CrossZone(0, Owner("digits"), 2**32),))
    at = datetime(2026, 3, 2, 8, 59, 45)
    prices = book(extras=Extras(cross_zone_usd_per_gib=0.01))
    assert columns(usage, prices, "PricingQuantity", starts=at) == [(1.0,), (3.0,)]


@pytest.mark.parametrize(
    "starts",
    [
        datetime(2026, 3, 2, 23, 30),
        datetime(2026, 3, 3, 0, 30, tzinfo=timezone(timedelta(hours=1))),
    ],
    ids=["no zone is UTC", "another zone"],
)
def test_charge_periods_are_utc(starts: datetime) -> None:
    periods = columns(fleet(node()), BOOK, "ChargePeriodStart", "ChargePeriodEnd", starts=starts)
    assert periods == [
        ("2026-03-02T23:30:00Z", "2026-03-03T00:00:00Z"),
        ("2026-03-03T00:00:00Z", "2026-03-03T00:30:00Z"),
    ]


def test_a_line_says_where_its_node_was() -> None:
    assert columns(fleet(node(zone="b")), BOOK, "AvailabilityZone") == [("b",)]
