"""Energy: cores that work, cores that are held idle, and what that emits."""

import pytest

from sim.billing.energy import energy
from sim.billing.prices import EnergyRates
from sim.billing.usage import Owner, Work
from tests.sim.billing.fleets import S, fleet, node

RATES = EnergyRates(10.0, 2.0, 0.4)
A = Owner("digits")


def test_busy_and_idle_cores() -> None:
    """Four cores for an hour, one core-hour of it busy, a quarter of that wasted: 10 Wh and 3 x 2 Wh."""
    usage = fleet(node(), work=(Work(0, 0, A, 2700.0 * S, 900.0 * S),))
    found = energy(usage, RATES)
    assert found.kwh == pytest.approx(0.016)
    assert found.co2e_kg == pytest.approx(0.0064)


def test_only_time_held_in_the_run_counts() -> None:
    """Half an hour after the start of the run, and ten seconds whose billed minimum draws no power."""
    usage = fleet(node(0, -1800, 1800), node(1, 0, 10))
    assert energy(usage, RATES).kwh == pytest.approx(4 * 2.0 * (1800 + 10) / 3600 / 1000)


def test_a_node_gone_before_the_run_takes_none() -> None:
    assert energy(fleet(node(0, -100, -50)), RATES).kwh == 0.0


def test_more_threads_than_cores_take_the_power_of_the_cores() -> None:
    usage = fleet(node(), work=(Work(0, 0, A, 8 * 3600.0 * S, 0.0),))
    assert energy(usage, RATES).kwh == pytest.approx(0.04)


def test_emissions_that_are_not_known_are_not_zero() -> None:
    assert energy(fleet(node()), EnergyRates(10.0, 2.0)).co2e_kg is None
