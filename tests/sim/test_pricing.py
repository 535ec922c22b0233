"""Prices that a deployment's file leaves out: looked up, told where they are no list prices, refused where unknown."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serve.deployment import Deployment
from serve.errors import SpecError
from sim.billing.commitments import Reservation, SavingsPlan
from sim.pricing import Priced, priced

BASE = {"type": "c7i.xlarge", "nodes": 2}


def deployment(pools: dict[str, Any] | None = None, **more: Any) -> Deployment:
    data = {
        "models": {"m": {"profile": "toy.yaml", "backend": "emulated"}},
        "pools": pools or {"base": BASE},
        "router": {},
    }
    return Deployment.model_validate(data | more)


def of(pools: dict[str, Any] | None = None, **more: Any) -> Priced:
    return priced(deployment(pools, **more), Path())


def faults(pools: dict[str, Any] | None = None, **more: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        of(pools, **more)
    return {fault.field: fault.message for fault in caught.value.faults}


def test_a_type_has_cores_and_a_price() -> None:
    found = of()
    pool = found.deployment.pools["base"]
    assert (pool.cores, pool.price, pool.price_origin) == (4, 0.1785, "imported")
    assert found.types == {"base": "c7i.xlarge@us-east-1"}
    assert found.book.price("c7i.xlarge@us-east-1").on_demand_usd_per_h == 0.1785
    assert found.warnings == ()


def test_what_the_file_says_goes_before_the_list() -> None:
    pool = of({"base": BASE | {"cores": 3, "price": "0.1 USD/h"}}).deployment.pools["base"]
    assert (pool.cores, pool.price, pool.price_origin) == (3, 0.1, "assumed")


def test_spot_has_its_own_price_beside_the_list_price() -> None:
    found = of({"spot": BASE | {"buy": "spot"}})
    price = found.book.price(found.types["spot"])
    assert found.deployment.pools["spot"].price == 0.06961
    assert price.on_demand_usd_per_h == 0.1785
    assert price.spot is not None and price.spot.usd_per_h == (0.06961,)
    assert price.refund_first_hour, "AWS does"
    assert [w.split(" (")[0] for w in found.warnings] == ["pools.spot.price: 0.06961 USD/h is projected, not listed"]


def test_a_refund_can_be_switched_off() -> None:
    found = of({"spot": BASE | {"buy": "spot", "refund_first_hour": False}})
    assert not found.book.price("spot").refund_first_hour


def test_pricing_what_is_priced_changes_nothing() -> None:
    once = of({"base": BASE, "spot": BASE | {"buy": "spot"}})
    again = priced(once.deployment, Path())
    assert again.deployment == once.deployment
    assert again.book == once.book


def test_pools_without_a_type_are_types_of_their_own() -> None:
    found = of({"a": {"cores": 2, "price": "1 USD/h"}, "b": {"cores": 2, "price": "2 USD/h"}})
    assert {name: found.book.price(type_).on_demand_usd_per_h for name, type_ in found.types.items()} == {
        "a": 1.0,
        "b": 2.0,
    }


# -- commitments ------------------------------------------------------------------------------------------


def test_a_reservation_covers_the_pools_of_its_type() -> None:
    found = of(commitments={"base": {"reserved": "c7i.xlarge", "count": 3, "price": "0.12 USD/h"}})
    assert found.book.reservations == (Reservation("base", "c7i.xlarge@us-east-1", 3, 8760.0, 0.0, 0.12),)


def test_an_averaged_rate_says_so() -> None:
    found = of(commitments={"base": {"reserved": "c7i.xlarge", "count": 1}})
    (warning,) = found.warnings
    assert warning.startswith("commitments.base.price: ") and "is assumed, not listed" in warning


@pytest.mark.parametrize(("payment", "upfront", "per_h"), [("all_upfront", 0.12, 0.0), ("partial_upfront", 0.06, 0.06)])
def test_upfront_sums_are_spread_over_the_term(payment: str, upfront: float, per_h: float) -> None:
    asked = {"reserved": "c7i.xlarge", "count": 1, "term": "3y", "payment": payment, "price": "0.12 USD/h"}
    (found,) = of(commitments={"base": asked}).book.reservations
    assert found.upfront_usd == pytest.approx(upfront * 3 * 8760)
    assert found.usd_per_h == pytest.approx(per_h)
    assert found.node_usd_per_h == pytest.approx(0.12)


def test_a_plan_covers_all_on_demand_pools_at_its_discount() -> None:
    pools = {"base": BASE, "spot": BASE | {"buy": "spot"}, "own": {"cores": 4, "price": "0.2 USD/h"}}
    (found,) = of(pools, commitments={"plan": {"savings_plan": "0.3 USD/h", "discount": "28%"}}).book.savings_plans
    assert found == SavingsPlan("plan", 0.3, {"c7i.xlarge@us-east-1": 0.28, "own": 0.28})


def test_a_plan_of_the_list_has_its_own_discounts() -> None:
    pools = {"base": {"type": "n2-standard-4", "region": "us-central1"}}
    (found,) = of(pools, commitments={"plan": {"savings_plan": "0.1 USD/h"}}).book.savings_plans
    assert found.discounts == {"n2-standard-4@us-central1": pytest.approx(0.28)}


def test_what_nobody_uses_is_paid_and_told() -> None:
    found = of(commitments={"base": {"reserved": "c7i.large", "count": 1, "price": "0.05 USD/h"}})
    assert found.book.reservations[0].type == "c7i.large@us-east-1"
    assert found.warnings == ("commitments.base.reserved: no on-demand pool buys c7i.large: it is paid and never used",)


# -- what is not known ------------------------------------------------------------------------------------


def test_every_unknown_type_is_named_at_once() -> None:
    found = faults({"a": {"type": "c7i.xlage"}, "b": {"type": "c7i.xlarge", "region": "eu-west-1"}})
    assert found == {
        "pools.a.type": "has no known price, got 'c7i.xlage'; did you mean 'c7i.xlarge'?; or write cores and price",
        "pools.b.type": "has no known price of region 'eu-west-1', got 'c7i.xlarge'; did you mean 'us-east-1'?; "
        "or write cores and price",
    }


def test_a_type_that_its_file_says_all_of_need_not_be_known() -> None:
    pool = of({"own": {"type": "rack7", "cores": 8, "price": "0.3 USD/h"}}).deployment.pools["own"]
    assert (pool.cores, pool.price) == (8, 0.3)


def test_commitments_without_a_known_price_are_named() -> None:
    commitments = {
        "a": {"savings_plan": "1 USD/h"},
        "b": {"reserved": "rack7", "count": 1},
    }
    found = faults(commitments=commitments)
    assert found["commitments.a.discount"].startswith("is missing: no discount for 1y with no_upfront is known")
    assert found["commitments.b.reserved"].startswith("is the type of no on-demand pool, and has no known price")


def test_one_machine_has_one_list_price() -> None:
    found = faults({"a": BASE, "b": BASE | {"price": "0.1 USD/h"}})
    assert found == {"pools.b.price": "must be that of pools.a, which buys the same machines"}


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"pools": {"a": {"nodes": 2}}}, "cores, price: is missing"),
        ({"commitments": {"c": {"term": "1y"}}}, "takes either reserved, with a count, or savings_plan"),
        ({"commitments": {"c": {"reserved": "c7i.xlarge"}}}, "count: is missing"),
        ({"commitments": {"c": {"savings_plan": "1 USD/h", "count": 2}}}, "count: is not a setting of a savings plan"),
        ({"costs": {"emissions": "0.3 kg/kWh"}}, "power: is missing"),
        ({"costs": {"power": {"busy": "1W", "idle": "2W"}}}, "idle must not be above busy"),
        ({"costs": {"cross_zone": "0.01 USD/GiB"}}, "router.zone: is missing"),
        ({"costs": {"load_balancer": "0.02"}}, "must be a price per hour"),
    ],
)
def test_what_a_file_may_not_say(more: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        deployment(**more)


# -- an own price file ----------------------------------------------------------------------------------------


def test_an_own_price_file_lies_over_the_list(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(
        "schema_version: 1\n"
        "sources: {ours: {document: frame contract, date: 2026-01-31, licence: private}}\n"
        "machines: {aws: {us-east-1: {c7i.xlarge: "
        "{vcpus: 4, memory: 8GiB, on_demand: {price: 0.1 USD/h, source: ours}}}}}\n"
    )
    pool = priced(deployment(prices="prices.yaml"), tmp_path).deployment.pools["base"]
    assert pool.price == 0.1
