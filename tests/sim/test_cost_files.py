"""Bills of scenarios as their files say it: what was bought, commitments, extras, energy, who pays; by hand."""

from pathlib import Path
from typing import Any

import pytest

from sim.cost import Cost, cost_of
from sim.measures import Window
from sim.prepare import prepare
from sim.replication import TIME_BINS, run
from sim.result import Charge, Result
from sim.scenario import Scenario
from sim.simulate import simulate
from tests.profiles import Synthetic, write_profile
from tests.sim.test_cost import BILLED, CONSTANT, costed, scenario, value

LIST = 0.1785
"""USD per hour of c7i.xlarge."""
BASE: dict[str, Any] = {"type": "c7i.xlarge", "zone": "a"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_profile(tmp_path, Synthetic())
    return tmp_path


def question(pools: dict[str, Any], classes: dict[str, Any] | None = None, **deployment: Any) -> Scenario:
    return scenario(classes, pools=pools, router={"zone": "a"}, **deployment)


def cost(folder: Path, pools: dict[str, Any], **deployment: Any) -> Cost:
    return costed(question(pools, **deployment), folder)


def test_a_reservation_pays_for_one_node_of_four(folder: Path) -> None:
    """Four nodes, one reserved at 0.10 USD/h: a quarter of on-demand time is covered, all that is reserved used."""
    reserved = {"one": {"reserved": "c7i.xlarge", "count": 1, "price": "0.1 USD/h"}}
    figures = cost(folder, {"base": BASE | {"nodes": 4}}, commitments=reserved).bill.total
    assert figures.usd_per_h == pytest.approx(3 * LIST + 0.1)
    assert (figures.commitment_coverage, figures.commitment_utilisation) == (pytest.approx(0.25), pytest.approx(1.0))
    assert figures.effective_savings_rate == pytest.approx(1 - (3 * LIST + 0.1) / (4 * LIST))


def test_a_reservation_does_not_cover_spot(folder: Path) -> None:
    reserved = {"one": {"reserved": "c7i.xlarge", "count": 1, "price": "0.1 USD/h"}}
    found = cost(folder, {"spot": BASE | {"buy": "spot"}}, commitments=reserved)
    assert found.bill.total.usd_per_h == pytest.approx(0.06961 + 0.1)
    assert found.bill.total.commitment_utilisation == 0
    assert found.attribution.total.unused_commitment_usd == pytest.approx(0.1 * 2 / 3600)


def test_a_plan_covers_what_is_left_at_its_discount(folder: Path) -> None:
    """0.1 USD/h at half price pays for 0.2 USD/h of two nodes' list price; the rest is on demand."""
    plan = {"plan": {"savings_plan": "0.1 USD/h", "discount": "50%"}}
    figures = cost(folder, {"base": BASE | {"nodes": 2}}, commitments=plan).bill.total
    assert figures.usd_per_h == pytest.approx(0.1 + 2 * LIST - 0.2)
    assert figures.commitment_coverage == pytest.approx(0.2 / (2 * LIST))


def test_commitments_count_by_the_clock(folder: Path) -> None:
    """From 8:59:59 on two seconds lie in two clock-hours, each with what is reserved of it."""
    reserved = {"one": {"reserved": "c7i.xlarge", "count": 1, "price": "0.1 USD/h"}}
    asked = question({"base": BASE}, commitments=reserved)
    late = Scenario.model_validate(asked.model_dump(mode="json") | {"world": {"starts": "2026-03-02T08:59:59"}})
    assert [hour.end_ns / 1e9 for hour in costed(late, folder).bill.hours] == [1.0, 2.0]
    assert len(costed(asked, folder).bill.hours) == 1


def test_what_is_paid_beside_nodes_is_other_but_disks(folder: Path) -> None:
    costs = {"load_balancer": "0.02 USD/h", "disk": "0.01 USD/h"}
    found = cost(folder, {"base": BASE | {"nodes": 2}}, costs=costs)
    assert found.bill.total.usd_per_h == pytest.approx(2 * LIST + 0.02 + 2 * 0.01)
    assert found.attribution.total.other_usd == pytest.approx(0.02 * 2 / 3600)


def test_traffic_to_another_zone_is_paid_by_the_gib(folder: Path) -> None:
    """Of two nodes one is elsewhere; all rows go round robin, and each carries so many bytes."""
    pools = {"base": BASE, "far": BASE | {"zone": "b"}}
    replicas = {"replicas": {"count": 8}}
    asked = scenario(None, pools=pools, model=replicas, router={"zone": "a"}, costs={"cross_zone": "1000 USD/GiB"})
    lines = [line for line in costed(asked, folder).bill.lines if line.kind == "cross_zone"]
    (line,) = lines
    assert line.quantity * 2**30 == pytest.approx(20 * (16 + 8) / 2, rel=0.1), "the profile's bytes of a row"


def test_energy_is_of_cores_that_work_and_of_those_that_wait(folder: Path) -> None:
    """20 batches of 2.5 ms on one core of four, in two seconds."""
    costs = {"power": {"busy": "9W", "idle": "1W"}, "emissions": "0.5 kg/kWh"}
    energy = cost(folder, {"base": BASE}, costs=costs).energy
    assert energy is not None and energy.co2e_kg is not None
    assert energy.kwh * 3.6e6 == pytest.approx(8.0 + 8 * 0.05, rel=0.01)
    assert energy.co2e_kg == pytest.approx(energy.kwh / 2)


# -- who pays -----------------------------------------------------------------------------------------------


def everything(folder: Path) -> Result:
    """Two classes with teams, reserved, planned and spot nodes, and all that is paid beside them."""
    classes = {
        "a": CONSTANT["a"] | {"tags": {"team": "search"}},
        "b": CONSTANT["a"] | {"rows": 3, "tags": {"team": "ads"}},
    }
    asked = scenario(
        classes,
        pools={"base": BASE | {"nodes": 2}, "spot": BASE | {"zone": "b", "buy": "spot", "tags": {"team": "platform"}}},
        model={"batching": {"max_batch": 3}, "replicas": {"count": 10}},
        router={"zone": "a"},
        commitments={
            "reserved": {"reserved": "c7i.xlarge", "count": 1, "payment": "all_upfront", "price": "0.1 USD/h"},
            "plan": {"savings_plan": "0.3 USD/h", "discount": "20%"},
        },
        costs={
            "load_balancer": "0.02 USD/h",
            "disk": "0.01 USD/h",
            "cross_zone": "0.01 USD/GiB",
            "power": {"busy": "9W", "idle": "1W"},
            "emissions": "0.5 kg/kWh",
        },
    )
    return simulate(asked, base=folder)


def charged(result: Result, **of: Any) -> list[Charge]:
    assert result.showback is not None
    return [charge for charge in result.showback.charges if all(getattr(charge, k) == v for k, v in of.items())]


def test_charges_are_the_bill(folder: Path) -> None:
    result = everything(folder)
    assert set(result.total.metrics) >= BILLED
    assert result.showback is not None
    paid = sum(charge.effective_usd for charge in result.showback.charges)
    assert paid / result.showback.hours == pytest.approx(value(result, "cost_usd_per_h"))
    for part, metric in (("useful_usd", "cost_useful"), ("idle_usd", "cost_idle"), ("cold_usd", "cost_cold")):
        total = sum(getattr(charge, part) for charge in result.showback.charges)
        assert total / paid == pytest.approx(value(result, metric)), part
    assert sum(c.effective_usd for c in charged(result, kind="unused")) / paid == pytest.approx(
        value(result, "cost_unused")
    )


def test_what_is_paid_upfront_is_not_invoiced_again(folder: Path) -> None:
    result = everything(folder)
    bought = {charge.commitment: charge.billed_usd for charge in charged(result, kind="purchase")}
    assert bought["reserved"] == 0
    assert result.showback is not None
    assert bought["plan"] / result.showback.hours == pytest.approx(0.3)
    assert {charge.billed_usd for charge in charged(result, commitment_status="Used")} == {0.0}
    assert {charge.commitment_category for charge in charged(result, commitment="plan")} == {"Spend"}


def test_teams_pay_for_their_rows_and_pools_for_what_is_nobodys(folder: Path) -> None:
    result = everything(folder)
    useful = {
        team: sum(charge.useful_usd for charge in charged(result) if charge.tags.get("team") == team)
        for team in ("search", "ads", "platform")
    }
    assert useful["ads"] == pytest.approx(3 * useful["search"])
    assert useful["platform"] == 0
    idle = [charge for charge in charged(result, pool="spot") if charge.request_class is None]
    assert {charge.tags["team"] for charge in idle} == {"platform"}


# -- spot that is taken back -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("refund", "billed_s"), [(None, 0.0), (False, 100.0)])
def test_spot_taken_back_in_its_first_hour_is_free_where_its_provider_says_so(
    folder: Path, refund: bool | None, billed_s: float
) -> None:
    """A machine that an autoscaler brought is taken back 100 s after it was handed over."""
    replicas = {
        "count": 1,
        "max": 2,
        "start_up": "1s",
        "on": ["base", "spot"],
        "autoscaler": {"kind": "hpa", "cpu": 20},
    }
    asked = scenario(
        {"a": {"arrivals": {"constant": "200/s"}}},
        "5min",
        {"queue": {"per": "replica"}, "replicas": replicas},
        {
            "base": BASE | {"cores": 1},
            "spot": BASE | {"cores": 1, "buy": "spot", "nodes": {"min": 0, "max": 1}, "refund_first_hour": refund},
        },
        router={},
    )
    given = asked.deployment, asked.workload, {}, asked.seed, folder, folder
    setup = prepare(*given)  # type: ignore[arg-type]
    done = run(setup, 0, "fast")
    assert done.history is not None
    lease = next(lease for lease in done.history.leases if lease.there_ns > 0)
    lease.gone_ns, lease.reclaimed = lease.there_ns + 100 * 10**9, True
    bill = cost_of(setup, done, Window(0, TIME_BINS, done.tally.bin_ns)).bill
    spot_usd = sum(line.effective_usd for line in bill.lines if line.kind == "spot")
    assert spot_usd == pytest.approx(billed_s / 3600 * 0.06961)
