"""The price book: steps of spot prices, amortised commitments, and what is refused."""

import math
from collections.abc import Callable

import pytest

from sim.billing.commitments import Reservation, SavingsPlan
from sim.billing.prices import EnergyRates, Extras, PriceBook, SpotPrice, TypePrice
from tests.sim.billing.fleets import RESERVED, book

STEPS = SpotPrice((0, 10, 20), (0.1, 0.3, 0.2))


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "pieces"),
    [
        (0, 30, [(0, 10, 0.1), (10, 20, 0.3), (20, 30, 0.2)]),
        (5, 15, [(5, 10, 0.1), (10, 15, 0.3)]),
        (10, 20, [(10, 20, 0.3)]),
        (25, 90, [(25, 90, 0.2)]),
        (7, 7, []),
    ],
)
def test_stretches_of_one_spot_price(start_ns: int, end_ns: int, pieces: list[tuple[int, int, float]]) -> None:
    assert list(STEPS.pieces(start_ns, end_ns)) == pieces


def test_a_reservation_amortises_its_upfront_sum() -> None:
    """AWS: 60 USD upfront and 0.007 USD/h make 121.32 USD in a year."""
    reservation = Reservation("r", "t2.small", 2, upfront_usd=60, usd_per_h=0.007)
    assert reservation.node_usd_per_h * 8760 == pytest.approx(121.32)
    assert reservation.committed_usd_per_h * 8760 == pytest.approx(2 * 121.32)
    assert reservation.recurring_usd_per_h == pytest.approx(0.014)


def test_a_plan_paid_upfront_is_not_paid_again() -> None:
    all_upfront = SavingsPlan("p", 0.3, {}, upfront_usd=0.3 * 8760)
    assert all_upfront.recurring_usd_per_h == pytest.approx(0.0, abs=1e-15)
    assert all_upfront.committed_usd_per_h == 0.3


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: SpotPrice((), ()), "from_ns must ascend from 0"),
        (lambda: SpotPrice((1,), (0.1,)), "from_ns must ascend from 0"),
        (lambda: SpotPrice((0, 5, 5), (0.1, 0.1, 0.1)), "from_ns must ascend from 0"),
        (lambda: SpotPrice((0, 5), (0.1,)), "must have 2 prices, got 1"),
        (lambda: SpotPrice.constant(-0.1), "spot price: usd_per_h must be finite and >= 0, got -0.1"),
        (lambda: TypePrice(math.nan), "type: on_demand_usd_per_h must be finite and >= 0, got nan"),
        (lambda: TypePrice(0.4, minimum_s=-1), "type: minimum_s must be finite and >= 0, got -1"),
        (lambda: Reservation("r", "c", 0), "reservation r: count must be >= 1"),
        (lambda: Reservation("r", "c", 1, term_h=0), "reservation r: count must be >= 1 and term_h > 0"),
        (lambda: Reservation("r", "c", 1, upfront_usd=-1), "reservation r: upfront_usd must be finite and >= 0"),
        (lambda: SavingsPlan("p", -1, {}), "savings plan p: usd_per_h must be finite and >= 0"),
        (lambda: SavingsPlan("p", 1, {"c": 1.0}), r"discount of c must be in \[0, 1\), got 1.0"),
        (lambda: SavingsPlan("p", 1, {"c": -0.1}), r"discount of c must be in \[0, 1\), got -0.1"),
        (lambda: SavingsPlan("p", 1, {}, term_h=0), "term_h must be > 0"),
        (lambda: SavingsPlan("p", 1, {}, upfront_usd=8761), "upfront_usd within usd_per_h x term_h"),
        (lambda: Extras(disk_usd_per_node_h=math.inf), "extras: disk_usd_per_node_h must be finite and >= 0"),
        (lambda: EnergyRates(10, -1), "energy: idle_w_per_core must be finite and >= 0"),
        (lambda: EnergyRates(10, 1, -0.1), "energy: co2e_kg_per_kwh must be finite and >= 0"),
        (lambda: book(reservations=(RESERVED, RESERVED)), "names of commitments must differ"),
        (
            lambda: book(reservations=(RESERVED,), savings_plans=(SavingsPlan("reserved", 1, {}),)),
            "names of commitments must differ",
        ),
        (lambda: PriceBook({}, (RESERVED,)), "no price of type 'c'; there are none"),
    ],
)
def test_what_cannot_be_is_refused(made: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made()
