"""The closed forms themselves: their worked numbers, their limits, and each against another route to it."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable

import pytest
from scipy import integrate

from tests.sim import oracles
from tests.sim.oracles import (
    GIM1,
    MG1,
    BulkService,
    CappedBatching,
    GreedyBatching,
    Impatient,
    MachineRepair,
    MDc,
    MMc,
    MMcK,
    WindowAlone,
    cobham,
    erlang_b,
    quantile,
)


def test_worked_numbers() -> None:
    """The numbers in the docstrings, from the tables of the sources."""
    found = doctest.testmod(oracles)
    assert found.attempted > 30
    assert found.failed == 0


@pytest.mark.parametrize(
    ("c", "rho", "wait_mean", "wait_p99", "p50", "p99"),
    [
        (1, 0.8, 4.0, 21.910133, 3.465736, 23.025851),
        (2, 0.8, 1.777778, 10.660609, 2.040031, 11.937370),
        (8, 0.8, 0.286028, 2.389693, 0.986334, 5.152182),
        (8, 0.9, 0.876916, 5.313354, 1.489355, 7.087347),
    ],
)
def test_erlang_c_table(c: int, rho: float, wait_mean: float, wait_p99: float, p50: float, p99: float) -> None:
    queue = MMc(c, c * rho)
    found = (
        queue.wait_mean,
        quantile(queue.wait_sf, 0.99),
        quantile(queue.sojourn_sf, 0.5),
        quantile(queue.sojourn_sf, 0.99),
    )
    assert found == pytest.approx((wait_mean, wait_p99, p50, p99), abs=1e-5)


@pytest.mark.parametrize(
    ("tail", "mean"),
    [
        (MMc(8, 6.4).wait_sf, MMc(8, 6.4).wait_mean),
        (MMc(8, 6.4).sojourn_sf, MMc(8, 6.4).sojourn_mean),
        (MMc(2, 1.0).sojourn_sf, MMc(2, 1.0).sojourn_mean),
        (MMcK(8, 16, 7.6).wait_sf, MMcK(8, 16, 7.6).wait_mean),
        (MDc(4, 3.2).wait_sf, MDc(4, 3.2).wait_mean),
        (GIM1.gamma(0.6, 3.0).sojourn_sf, GIM1.gamma(0.6, 3.0).sojourn_mean),
        (BulkService(8, 6.4).sojourn_sf, BulkService(8, 6.4).wait_mean + 1),
        (GreedyBatching(0.8, 0.5, 2.0).sojourn_sf, GreedyBatching(0.8, 0.5, 2.0).sojourn_mean),
        (Impatient.exponential(8, 8.0, 0.5).wait_sf, Impatient.exponential(8, 8.0, 0.5).wait_mean),
        (Impatient.fixed(2, 2.2, 1.5).wait_sf, Impatient.fixed(2, 2.2, 1.5).wait_mean),
        (WindowAlone(1.0, 5.0, 8).wait_sf, WindowAlone(1.0, 5.0, 8).wait_mean),
    ],
    ids=[
        "mmc",
        "mmc-sojourn",
        "mmc-theta-is-mu",
        "mmck",
        "mdc",
        "gim1",
        "bulk",
        "greedy",
        "erlang-a",
        "mmcd",
        "window",
    ],
)
def test_the_integral_of_the_tail_is_the_mean(tail: Callable[[float], float], mean: float) -> None:
    """Piece by piece, since some of these laws have kinks at multiples of a half."""
    total, start = 0.0, 0.0
    while tail(start) > 1e-9:
        total += integrate.quad(tail, start, start + 0.5, epsabs=1e-9)[0]
        start += 0.5
    assert total == pytest.approx(mean, rel=1e-6)


def test_one_server_forms_agree() -> None:
    """M/M/1 by six roads: c servers, a long buffer, GI gaps, P-K moments, batches of one, endless patience."""
    wait = MMc(1, 0.8).wait_mean
    roads = [
        MMcK(1, 400, 0.8).wait_mean,
        GIM1.gamma(0.8, 1.0).wait_mean,
        MG1(0.8, 1.0, 2.0, 6.0).wait_mean,
        BulkService(1, 0.8).wait_mean,
        Impatient.exponential(1, 0.8, theta=1e-9).wait_mean,
        cobham((0.8,))[0],
    ]
    assert roads == pytest.approx([wait] * len(roads), rel=1e-6)


def test_impatience_obeys_its_identities() -> None:
    """Exponential patience: abandonment = theta x mean wait; and nobody waits longer than a fixed patience."""
    palm = Impatient.exponential(8, 8.0, theta=0.5)
    assert palm.p_abandon == pytest.approx(0.5 * palm.wait_mean, rel=1e-9)
    fixed = Impatient.fixed(2, 2.2, 1.5)
    assert fixed.wait_sf(1.5) == 0
    assert fixed.wait_sf(1.5 - 1e-12) == pytest.approx(fixed.p_abandon, rel=1e-6), "those who last to the end leave"


def test_waits_by_priority_obey_the_conservation_law() -> None:
    lams = (0.3, 0.4)
    waits = cobham(lams)
    rho = sum(lams)
    assert sum(lam * w for lam, w in zip(lams, waits, strict=True)) == pytest.approx(rho * MMc(1, rho).wait_mean)


def test_a_closed_loop_of_one_never_waits_and_of_many_saturates() -> None:
    assert MachineRepair(1, 1, 4.0).response_mean == pytest.approx(1.0)
    assert MachineRepair(60, 2, 1.0).throughput == pytest.approx(2.0, rel=1e-9)


def test_a_cap_that_never_binds_changes_nothing() -> None:
    free, capped = GreedyBatching(0.4, 0.5, 2.0), CappedBatching(0.4, 0.5, 2.0, b=60)
    assert (capped.sojourn_mean, capped.batch_mean, capped.busy) == pytest.approx(
        (free.sojourn_mean, free.batch_mean, free.busy), rel=1e-9
    )


@pytest.mark.parametrize("lam", [0.4, 0.8, 1.4])
def test_inoues_bound_holds_and_is_tight(lam: float) -> None:
    """The mean is below phi1 = 3/2 tau0/(1 - lam alpha) + alpha/2 (lam alpha + 2)/(1 - (lam alpha)^2)."""
    alpha, tau0 = 0.5, 2.0
    load = lam * alpha
    bound = 1.5 * tau0 / (1 - load) + alpha / 2 * (load + 2) / (1 - load**2)
    assert 0.9 * bound < GreedyBatching(lam, alpha, tau0).sojourn_mean < bound


def test_a_window_without_a_cap_has_its_simple_form() -> None:
    lam, t = 0.2, 5.0
    window = WindowAlone(lam, t, 60)
    assert window.wait_mean == pytest.approx((t + lam * t**2 / 2) / (1 + lam * t))
    assert window.batch_mean == pytest.approx(1 + lam * t)


def test_the_tail_at_a_quantile_is_what_was_asked() -> None:
    assert math.isclose(MDc(4, 3.2).wait_sf(quantile(MDc(4, 3.2).wait_sf, 0.99)), 0.01, rel_tol=1e-6)
    assert quantile(MMcK(4, 4, 3.2).wait_sf, 0.99) == 0, "nobody waits in a loss system"
    assert erlang_b(0, 3.0) == 1
