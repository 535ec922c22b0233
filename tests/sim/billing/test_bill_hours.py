"""Hours of a bill worked by hand: who pays for what, in the order spot, reservations, savings plans, list price."""

import math
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from sim.billing.bill import bill
from sim.billing.commitments import Reservation, SavingsPlan
from sim.billing.prices import Extras, PriceBook, SpotPrice
from sim.billing.usage import CrossZone, FleetUsage, Owner
from tests.sim.billing.fleets import (
    BOOK,
    EIGHT,
    RESERVED,
    S,
    book,
    figures,
    fleet,
    machine_hours,
    node,
    nodes,
    of_c,
    plan,
    spot,
)

WITH_RESERVATION = book(reservations=(RESERVED,))
QUARTERS = [node(i, 900 * i, 900 * (i + 1)) for i in range(4)]
C_AND_G = fleet(node(0), node(1, type="g"))


def reserved(count: int = 1, **changes: Any) -> PriceBook:
    return book(reservations=(replace(RESERVED, count=count, **changes),))


NODE_CASES: dict[str, tuple[FleetUsage, PriceBook, float]] = {
    "an hour on demand": (fleet(node()), BOOK, 0.40),
    "half an hour by the second": (fleet(node(0, 0, 1800)), BOOK, 0.20),
    "no node": (fleet(), BOOK, 0.0),
    "boot and load are paid": (fleet(node(0, 0, 600, first_ready_ns=None)), BOOK, 0.40 / 6),
    "what lies before the run is not": (fleet(node(0, -7200, 1800)), BOOK, 0.20),
    "ten seconds are billed as a minute": (fleet(node(0, 0, 10)), BOOK, 0.40 / 60),
    "a minute as a minute": (fleet(node(0, 0, 60)), BOOK, 0.40 / 60),
    "a minimum of the type's own": (fleet(node(0, 0, 10)), of_c(minimum_s=0), 0.40 / 360),
    "the minimum of spot": (fleet(spot(10)), BOOK, 0.16 / 60),
    "the minimum goes on after the run": (fleet(node(0, 3590, 3595)), BOOK, 0.40 / 60),
    "held on after the run": (fleet(node(0, 3590, None)), BOOK, 0.40 / 360),
}

SPOT_CASES: dict[str, tuple[FleetUsage, PriceBook, float]] = {
    "an hour of spot": (fleet(spot()), BOOK, 0.16),
    "we release within the first hour": (fleet(spot(1800)), BOOK, 0.08),
    "reclaimed within the first hour": (fleet(spot(3599, reclaimed=True)), BOOK, 0.0),
    "reclaimed after just an hour": (fleet(spot(3600, reclaimed=True)), BOOK, 0.16),
    "reclaimed after 70 minutes": (fleet(spot(4800, 600, reclaimed=True), end_s=7200), BOOK, 0.16 * 7 / 6),
    "its first hour is not the clock's": (fleet(spot(4800, 3000, reclaimed=True), end_s=7200), BOOK, 0.0),
    "its first hour was before the run": (fleet(spot(1800, -7200, reclaimed=True)), BOOK, 0.08),
    "a provider that refunds nothing": (fleet(spot(1800, reclaimed=True)), of_c(refund_first_hour=False), 0.08),
    "the price changes": (fleet(spot()), of_c(spot=SpotPrice((0, 1800 * S), (0.1, 0.3))), 0.20),
    "it changes meanwhile": (fleet(spot(2700, 900)), of_c(spot=SpotPrice((0, 1800 * S), (0.1, 0.3))), 0.10),
}

RESERVATION_CASES: dict[str, tuple[FleetUsage, PriceBook, float]] = {
    "four quarters of an hour in turn": (fleet(*QUARTERS), WITH_RESERVATION, 0.25),
    "four quarters of an hour at once": (fleet(*nodes(4, 900)), WITH_RESERVATION, 0.25),
    "four whole hours": (fleet(*nodes(4)), WITH_RESERVATION, 0.25 + 3 * 0.40),
    "nothing ran": (fleet(), WITH_RESERVATION, 0.25),
    "half used": (fleet(node(0, 0, 1800)), WITH_RESERVATION, 0.25),
    "three of them, two nodes": (fleet(*nodes(2)), reserved(3), 0.75),
    "seconds do not carry over": (fleet(*nodes(8, 900), end_s=7200), WITH_RESERVATION, (0.25 + 0.40) + 0.25),
    "another type": (fleet(node(type="g")), WITH_RESERVATION, 2.00 + 0.25),
    "not spot": (fleet(spot()), WITH_RESERVATION, 0.16 + 0.25),
    "all upfront": (fleet(node()), reserved(upfront_usd=876, usd_per_h=0), 0.10),
    "partly upfront": (fleet(node()), reserved(upfront_usd=438, usd_per_h=0.05), 0.10),
    "three years": (fleet(node()), reserved(upfront_usd=2628, usd_per_h=0, term_h=3 * 8760), 0.10),
    "half an hour of run": (fleet(*nodes(2, 1800), end_s=1800), WITH_RESERVATION, 0.125 + 0.20),
    "the minimum after the run is not covered": (
        fleet(node(0, 3590, 3595)),
        WITH_RESERVATION,
        0.25 + 0.40 * 50 / 3600,
    ),
}

PLAN_CASES: dict[str, tuple[FleetUsage, PriceBook, float]] = {
    "all covered": (fleet(node()), plan(0.30, c=0.25), 0.30),
    "what is not spent is lost": (fleet(node(0, 0, 1800)), plan(1.00, c=0.25), 1.00),
    "highest discount first": (C_AND_G, plan(1.00, c=0.25, g=0.50), 1.00 + 0.40),
    "spent on a part": (C_AND_G, plan(0.50, c=0.25, g=0.50), 0.50 + 0.5 * 2.00 + 0.40),
    "the rest goes to the next": (C_AND_G, plan(1.15, c=0.25, g=0.50), 1.15 + 0.5 * 0.40),
    "a type outside it": (fleet(node()), plan(1.00, g=0.50), 1.00 + 0.40),
    "not spot": (fleet(spot()), plan(0.30, c=0.25), 0.16 + 0.30),
    "upfront is a part of it": (fleet(node()), plan(0.30, upfront_usd=0.30 * 8760, c=0.25), 0.30),
    "half an hour of run": (fleet(*nodes(2, 1800), end_s=1800), plan(0.30, c=0.25), 0.15 + 0.20),
    "after reservations": (
        fleet(*nodes(2)),
        replace(plan(0.30, c=0.25), reservations=(RESERVED,)),
        0.25 + 0.30,
    ),
    "two plans": (
        fleet(*nodes(2)),
        book(savings_plans=(SavingsPlan("low", 0.30, {"c": 0.25}), SavingsPlan("high", 0.24, {"c": 0.40}))),
        0.24 + 0.30,
    ),
}

OTHER_CASES: dict[str, tuple[FleetUsage, PriceBook, float]] = {
    "load balancer": (fleet(end_s=7200), book(extras=Extras(load_balancer_usd_per_h=0.02)), 0.04),
    "disks": (fleet(*nodes(2)), book(extras=Extras(disk_usd_per_node_h=0.01)), 0.80 + 0.02),
    "the disk of a refunded node": (
        fleet(spot(1800, reclaimed=True)),
        book(extras=Extras(disk_usd_per_node_h=0.01)),
        0.005,
    ),
    "across zones": (
        fleet(cross_zone=(CrossZone(3, Owner("digits"), 100 * 2**30),)),
        book(extras=Extras(cross_zone_usd_per_gib=0.01)),
        1.00,
    ),
}

CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "node": NODE_CASES,
        "spot": SPOT_CASES,
        "reservation": RESERVATION_CASES,
        "plan": PLAN_CASES,
        "other": OTHER_CASES,
    }.items()
    for name, case in cases.items()
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_worked_hour(case: tuple[FleetUsage, PriceBook, float]) -> None:
    usage, prices, usd = case
    assert figures(usage, prices).usd == pytest.approx(usd, rel=1e-12, abs=1e-15)


def test_four_quarters_are_one_reserved_hour_and_none_on_demand() -> None:
    assert machine_hours(fleet(*nodes(4, 900)), WITH_RESERVATION) == {"committed": 1.0}


def test_the_part_of_a_clock_hour_before_the_first_full_one_is_an_hour_of_its_own() -> None:
    """From 8:20 to 9:00 a reservation covers 40 minutes, whatever comes after 9:00."""
    usage = fleet(*nodes(3, 1200))
    assert figures(usage, WITH_RESERVATION, EIGHT).usd == pytest.approx(0.25, rel=1e-12)
    at_8_20 = figures(usage, WITH_RESERVATION, datetime(2026, 3, 2, 8, 20))
    assert at_8_20.usd == pytest.approx(0.25 + 0.40 / 3, rel=1e-12)


def test_the_clock_counts_seconds_too() -> None:
    hours = bill(fleet(), BOOK, datetime(2026, 3, 2, 8, 59, 30)).hours
    assert [(hour.start_ns, hour.end_ns) for hour in hours] == [(0, 30 * S), (30 * S, 3600 * S)]


def test_midnight_is_a_full_hour_like_any_other() -> None:
    """Two nodes of half an hour each on both sides of it: half an hour is reserved on each side."""
    late, early = (node(i, 1800 * side, 1800 * (side + 1)) for i, side in enumerate((0, 1)))
    usage = fleet(late, replace(late, node_id=2), early, replace(early, node_id=3))
    hours = bill(usage, WITH_RESERVATION, datetime(2026, 3, 2, 23, 30)).hours
    assert [hour.figures.usd for hour in hours] == pytest.approx([0.125 + 0.20] * 2, rel=1e-12)


def test_a_minimum_reaches_into_the_next_clock_hour() -> None:
    hours = bill(fleet(node(0, 3590, 3595), end_s=7200), BOOK, EIGHT).hours
    assert [hour.figures.usd for hour in hours] == pytest.approx([0.40 / 360, 0.40 / 72], rel=1e-12)


def test_reservations_of_one_type_are_used_alike() -> None:
    two = book(reservations=(RESERVED, Reservation("cheap", "c", 1, usd_per_h=0.15)))
    lines = bill(fleet(node()), two, EIGHT).lines
    found = {(line.kind, line.commitment.name): line.effective_usd for line in lines if line.commitment is not None}
    assert found == pytest.approx(
        {
            ("committed", "reserved"): 0.125,
            ("committed", "cheap"): 0.075,
            ("purchase", "reserved"): 0.0,
            ("purchase", "cheap"): 0.0,
            ("unused", "reserved"): 0.125,
            ("unused", "cheap"): 0.075,
        }
    )


def test_among_equal_discounts_the_lowest_rate_comes_first() -> None:
    lines = bill(C_AND_G, plan(0.20, c=0.50, g=0.50), EIGHT).lines
    assert [line.type for line in lines if line.kind == "committed"] == ["c"]


def test_of_two_plans_the_higher_discount_is_used_up_first() -> None:
    both = book(savings_plans=(SavingsPlan("low", 0.30, {"c": 0.25}), SavingsPlan("high", 0.24, {"c": 0.40})))
    found = figures(fleet(node()), both)
    assert found.usd == pytest.approx(0.54, rel=1e-12)
    assert found.commitment_utilisation == pytest.approx(0.24 / 0.54, rel=1e-12)


def test_figures_of_commitments() -> None:
    """A reserved hour, a plan that covers half of a g node, one more c node and spot."""
    prices = replace(plan(0.50, g=0.50), reservations=(RESERVED,))
    found = figures(fleet(*nodes(2), node(2, type="g"), replace(spot(), node_id=3)), prices)
    assert found.usd == pytest.approx(0.25 + 0.50 + 0.5 * 2.00 + 0.40 + 0.16, rel=1e-12)
    assert found.usd_per_h == pytest.approx(found.usd, rel=1e-12)
    assert found.list_usd == pytest.approx(3 * 0.40 + 2.00, rel=1e-12)
    assert found.commitment_utilisation == 1.0
    assert found.commitment_coverage == pytest.approx((0.40 + 1.00) / (0.80 + 2.00), rel=1e-12)
    assert found.effective_savings_rate == pytest.approx(1 - 2.31 / 3.20, rel=1e-12)


def test_a_reservation_hardly_used_saves_less_than_nothing() -> None:
    found = figures(fleet(node(0, 0, 900)), WITH_RESERVATION)
    assert found.commitment_utilisation == pytest.approx(0.25, rel=1e-12)
    assert found.commitment_coverage == 1.0
    assert found.effective_savings_rate == pytest.approx(1 - 0.25 / 0.10, rel=1e-12)


def test_extras_are_no_savings() -> None:
    found = figures(fleet(node()), book(extras=Extras(load_balancer_usd_per_h=1.0, disk_usd_per_node_h=1.0)))
    assert (found.usd, found.list_usd) == pytest.approx((2.40, 0.40), rel=1e-12)
    assert found.effective_savings_rate == 0.0


def test_what_is_undefined_is_nan() -> None:
    found = figures(fleet())
    assert math.isnan(found.commitment_utilisation)
    assert math.isnan(found.commitment_coverage)
    assert math.isnan(found.effective_savings_rate)


def test_usd_per_h_is_of_the_run_not_of_a_minimum_after_it() -> None:
    whole = bill(fleet(node(0, 0, 10), end_s=30), BOOK, EIGHT)
    assert whole.end_ns == 60 * S
    assert whole.total.usd_per_h == pytest.approx(0.40 / 60 * 120, rel=1e-12)


def test_usd_per_h_of_an_hour_and_of_a_part_of_the_bill() -> None:
    """From 8:30: half an hour, a whole one, a quarter of one, and the rest of a minimum after the run."""
    usage = fleet(node(0, 0, 6300), node(1, 6290, 6295), end_s=6300)
    whole = bill(usage, BOOK, datetime(2026, 3, 2, 8, 30))
    assert [hour.figures.usd_per_h for hour in whole.hours] == pytest.approx([0.40, 0.40, (0.10 + 0.40 / 60) * 4])
    late = bill(usage, BOOK, datetime(2026, 3, 2, 8, 30), from_ns=1800 * S, until_ns=5400 * S)
    assert late.total.usd_per_h == pytest.approx(0.40)


def test_a_bill_ends_where_there_is_nothing_left_to_bill() -> None:
    assert bill(fleet(node()), BOOK, EIGHT, until_ns=9 * 3600 * S) == bill(fleet(node()), BOOK, EIGHT)


def test_a_type_without_a_price_is_named() -> None:
    with pytest.raises(ValueError, match="no price of type 'x'; there are c, g"):
        bill(fleet(node(type="x")), BOOK, EIGHT)
    with pytest.raises(ValueError, match="no spot price of type 'c'"):
        bill(fleet(spot()), of_c(spot=None), EIGHT)


def test_an_empty_stretch_is_refused() -> None:
    with pytest.raises(ValueError, match="must cover time between 0 and 3600000000000 ns"):
        bill(fleet(), BOOK, EIGHT, 3600 * S)
