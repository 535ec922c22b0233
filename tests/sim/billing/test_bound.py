"""The perfect-system bound: by hand, reached by a perfect fleet, and never above a bill."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.billing.bill import bill
from sim.billing.bound import Choice, cheapest_usd_per_h, perfect_usd
from sim.billing.commitments import Reservation, SavingsPlan
from sim.billing.prices import PriceBook, SpotPrice
from sim.billing.usage import FleetUsage
from tests.sim.billing.fleets import BOOK, EIGHT, S, book, books, figures, fleet, node, of_c

MS = 10**6
HOUR = 3600 * S
SERVICE_NS = {1: 10 * MS, 4: 16 * MS, 8: 40 * MS}
"""By rows; 4 ms a row at 4 rows, the fastest of them."""


def test_rows_at_the_cheapest_batch_size() -> None:
    """1,000 rows x 4 ms x 2 of 4 cores are 2 s of a node."""
    bound = perfect_usd({"digits": 1000}, {"digits": [Choice(0.40, 4, 2, SERVICE_NS)]})
    assert bound == pytest.approx(2 * 0.40 / 3600)


def test_each_model_on_the_pool_that_is_cheapest_for_it() -> None:
    """A node of five times the price pays if it is ten times as fast."""
    slow, fast = Choice(0.40, 4, 2, SERVICE_NS), Choice(2.00, 4, 2, {4: 1.6 * MS})
    alike = Choice(2.00, 4, 2, {4: 16 * MS})
    bound = perfect_usd({"digits": 1000, "faces": 1000}, {"digits": [slow, fast], "faces": [slow, alike]})
    assert bound == pytest.approx(0.2 * 2.00 / 3600 + 2 * 0.40 / 3600)


@pytest.mark.parametrize(
    ("prices", "usd_per_h"),
    [
        (BOOK, 0.16),
        (of_c(spot=None), 0.40),
        (of_c(spot=SpotPrice((0, 1800 * S, HOUR), (0.3, 0.1, 0.01))), 0.1),
        (book(reservations=(Reservation("r", "c", 1, upfront_usd=876),)), 0.10),
        (book(reservations=(Reservation("r", "g", 1, upfront_usd=876),)), 0.16),
        (book(savings_plans=(SavingsPlan("p", 1.0, {"c": 0.75, "g": 0.9}),)), 0.10),
        (book(savings_plans=(SavingsPlan("p", 1.0, {"g": 0.99}),)), 0.16),
    ],
    ids=["spot", "on demand", "spot meanwhile", "reserved", "reserved, other type", "plan", "plan, other type"],
)
def test_the_cheapest_listed_purchase(prices: PriceBook, usd_per_h: float) -> None:
    assert cheapest_usd_per_h("c", prices, 0, HOUR) == pytest.approx(usd_per_h)


def test_a_fleet_without_loss_reaches_it() -> None:
    """One node on demand, all its cores busy for the hour with batches of the best size."""
    rows = 4 * HOUR // (16 * MS)
    bound = perfect_usd({"digits": rows}, {"digits": [Choice(0.40, 4, 4, SERVICE_NS)]})
    assert bound == pytest.approx(figures(fleet(node())).usd)


@given(
    batches=st.lists(st.tuples(st.sampled_from(sorted(SERVICE_NS)), st.integers(0, 10**10)), min_size=1, max_size=20),
    threads=st.integers(1, 4),
    buy=st.sampled_from(("on_demand", "spot")),
    prices=books(),
)
def test_no_bill_is_below_it(
    batches: list[tuple[int, int]], threads: int, buy: Literal["on_demand", "spot"], prices: PriceBook
) -> None:
    """One replica, one batch after another with idle time between them."""
    end_ns = sum(SERVICE_NS[rows] + idle_ns for rows, idle_ns in batches)
    usage = FleetUsage(end_ns, (node(0, 0, None, buy=buy),))
    choice = Choice(cheapest_usd_per_h("c", prices, 0, end_ns), 4, threads, SERVICE_NS)
    bound = perfect_usd({"digits": sum(rows for rows, _ in batches)}, {"digits": [choice]})
    assert bound <= bill(usage, prices, EIGHT).total.usd * (1 + 1e-9)


def test_a_model_without_a_pool_is_named() -> None:
    with pytest.raises(ValueError, match="no pool to run 'faces' on"):
        perfect_usd({"faces": 1}, {"digits": [Choice(0.40, 4, 2, SERVICE_NS)]})


@pytest.mark.parametrize("service_ns", [{}, {0: 1.0}])
def test_batches_have_rows(service_ns: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="must have batches of >= 1 row"):
        Choice(0.40, 4, 2, service_ns)
