"""Whose cost a bill is: bins worked by hand on a node of four cores, mostly for one minute of 0.40 USD/h."""

from dataclasses import replace
from typing import Any

import pytest

from sim.billing.attribution import Attribution, Parts, Share, attribute, check
from sim.billing.bill import bill
from sim.billing.prices import Extras, PriceBook, SpotPrice
from sim.billing.usage import (
    NOBODY,
    CrossZone,
    FleetUsage,
    Owner,
    ReplicasUp,
    ReplicaUsage,
    up_of_replicas,
)
from tests.sim.billing.batches import BatchUsage, RequestRows, work_of_batches
from tests.sim.billing.fleets import BOOK, EIGHT, RESERVED, S, book, fleet, node, nodes, of_c, spot

MINUTE_USD = 0.40 / 60
DIGITS = Owner("digits", "interactive", (("team", "search"),))
NIGHTLY = Owner("digits", "nightly", (("team", "reports"),))


def about(usd: float) -> Any:
    """Stands for a part of a cost."""
    return pytest.approx(usd)


def batch(start_s: float, end_s: float, threads: int, *requests: RequestRows, node_id: int = 0) -> BatchUsage:
    return BatchUsage(node_id, threads, round(start_s * S), round(end_s * S), requests or (RequestRows(DIGITS, 1),))


def replica(model: str, threads: int, start_s: float, end_s: float, node_id: int = 0) -> ReplicaUsage:
    return ReplicaUsage(node_id, model, threads, round(start_s * S), round(end_s * S))


def minute(*batches: BatchUsage, until_s: float = 60, end_s: float = 60) -> FleetUsage:
    """One node for a minute, or as said."""
    return fleet(node(0, 0, until_s), end_s=end_s, work=work_of_batches(batches))


def split(usage: FleetUsage, prices: PriceBook = BOOK) -> Attribution:
    """The bill of the usage, attributed and checked."""
    whole = bill(usage, prices, EIGHT)
    attribution = attribute(whole, usage)
    check(attribution, whole)
    return attribution


def test_useful_is_time_times_threads_over_cores() -> None:
    """Half a minute on two of four cores is a quarter of the minute."""
    total = split(minute(batch(0, 30, 2))).total
    assert total == Parts(useful_usd=about(MINUTE_USD / 4), idle_usd=about(MINUTE_USD * 3 / 4))


def test_a_batch_is_split_over_its_requests_by_rows() -> None:
    attribution = split(minute(batch(0, 60, 4, RequestRows(DIGITS, 1), RequestRows(NIGHTLY, 3))))
    by_class, by_team = attribution.by_class(), attribution.by_tag("team")
    assert by_class["interactive"].useful_usd == pytest.approx(MINUTE_USD / 4)
    assert by_class["nightly"].useful_usd == pytest.approx(MINUTE_USD * 3 / 4)
    assert by_team["search"] == by_class["interactive"]
    assert by_team["reports"] == by_class["nightly"]
    assert attribution.by_model()["digits"].useful_usd == pytest.approx(MINUTE_USD)


def test_requests_that_nobody_waited_for_are_wasted() -> None:
    """The other request of the same batch is useful."""
    parts = split(minute(batch(0, 60, 4, RequestRows(DIGITS, 1), RequestRows(NIGHTLY, 1, used=False)))).by_class()
    assert parts["interactive"] == Parts(useful_usd=about(MINUTE_USD / 2))
    assert parts["nightly"] == Parts(wasted_usd=about(MINUTE_USD / 2))


def test_each_bin_has_its_own_price() -> None:
    """Half of a minute at 0.12 USD/h and half of one at 0.24."""
    prices = of_c(spot=SpotPrice((0, 60 * S), (0.12, 0.24)))
    usage = fleet(spot(120), end_s=120, work=work_of_batches([batch(30, 90, 4)]))
    assert split(usage, prices).total.useful_usd == pytest.approx((0.12 + 0.24) / 2 / 60)


def test_of_a_part_of_a_bin_only_the_billed_time_counts() -> None:
    """Released after 90 s: work throughout the last 30 s is worth these 30 s, not half of them."""
    usage = minute(batch(60, 90, 4), until_s=90, end_s=120)
    assert split(usage).total.useful_usd == pytest.approx(0.40 * 30 / 3600)


def test_the_billed_minimum_is_idle() -> None:
    total = split(minute(batch(0, 10, 4), until_s=10)).total
    assert total.useful_usd == pytest.approx(0.40 * 10 / 3600)
    assert total.idle_usd == pytest.approx(0.40 * 50 / 3600)


def test_boot_and_load_are_cold() -> None:
    usage = fleet(node(first_ready_ns=90 * S))
    assert split(usage).total == Parts(cold_usd=about(0.01), idle_usd=about(0.39))


def test_a_node_that_never_was_ready_is_all_cold() -> None:
    assert split(fleet(node(0, 0, 10, first_ready_ns=None))).total == Parts(cold_usd=about(MINUTE_USD))


def test_work_next_to_cold_time_in_one_bin() -> None:
    """Ready after 20 s, then 30 s of two cores, then idle."""
    usage = replace(minute(batch(20, 50, 2)), nodes=(node(0, 0, 60, first_ready_ns=20 * S),))
    total = split(usage).total
    assert total.cold_usd == pytest.approx(MINUTE_USD / 3)
    assert total.useful_usd == pytest.approx(MINUTE_USD / 4)
    assert total.idle_usd == pytest.approx(MINUTE_USD * 5 / 12)


def test_more_threads_than_cores_cannot_cost_more_than_the_node() -> None:
    batches = batch(0, 60, 4, RequestRows(DIGITS, 1)), batch(0, 60, 8, RequestRows(NIGHTLY, 1))
    parts = split(minute(*batches)).by_class()
    assert parts["interactive"].useful_usd == pytest.approx(MINUTE_USD / 3)
    assert parts["nightly"].useful_usd == pytest.approx(MINUTE_USD * 2 / 3)


def test_more_threads_than_cores_next_to_cold_time_cost_the_warm_time() -> None:
    usage = replace(minute(batch(30, 60, 8)), nodes=(node(0, 0, 60, first_ready_ns=30 * S),))
    assert split(usage).total == Parts(useful_usd=about(MINUTE_USD / 2), cold_usd=about(MINUTE_USD / 2))


def test_replicas_that_were_up_for_no_time_share_nothing() -> None:
    usage = fleet(node(0, 0, 60), end_s=60, up=(ReplicasUp(0, 0, "a", 0),))
    assert split(usage).by_model() == {"": Parts(idle_usd=about(MINUTE_USD))}


def test_idle_time_is_shared_by_time_up_and_threads() -> None:
    """Half a minute of two threads weighs as much as a minute of one; two of those weigh twice as much."""
    up = up_of_replicas([replica("a", 2, 0, 30), replica("b", 1, 0, 60), replica("b", 1, 0, 60)])
    parts = split(fleet(node(0, 0, 60), end_s=60, up=up)).by_model()
    assert parts == {
        "a": Parts(idle_usd=about(MINUTE_USD / 3)),
        "b": Parts(idle_usd=about(MINUTE_USD * 2 / 3)),
    }


def test_a_node_without_replicas_is_shared_by_those_of_its_pool() -> None:
    up = up_of_replicas([replica("a", 1, 0, 60, node_id=1)])
    parts = split(fleet(node(0, 0, 60, first_ready_ns=30 * S), node(1, 0, 60), end_s=60, up=up)).by_model()
    assert parts == {"a": Parts(cold_usd=about(MINUTE_USD / 2), idle_usd=about(MINUTE_USD * 3 / 2))}


def test_a_cold_node_is_shared_by_all_replicas_of_its_pool() -> None:
    """A thread of a on either warm node and two of b on one: half each."""
    up = up_of_replicas(
        [replica("a", 1, 0, 60, node_id=1), replica("a", 1, 0, 60, node_id=2), replica("b", 2, 0, 60, node_id=2)]
    )
    held = (node(0, 0, 60, first_ready_ns=None), node(1, 0, 60), node(2, 0, 60))
    parts = split(fleet(*held, end_s=60, up=up)).by_model()
    assert [parts[model].cold_usd for model in ("a", "b")] == pytest.approx([MINUTE_USD / 2] * 2)


def test_a_pool_without_replicas_keeps_its_cost() -> None:
    up = up_of_replicas([replica("a", 1, 0, 60, node_id=1)])
    attribution = split(fleet(node(0, 0, 60, pool="spill"), node(1, 0, 60), end_s=60, up=up))
    idle = Parts(idle_usd=about(MINUTE_USD))
    assert [(share.pool, share.owner.model) for share in attribution.shares] == [("base", "a"), ("spill", "")]
    assert attribution.by_pool() == {"base": idle, "spill": idle}


def test_a_reserved_node_costs_what_the_reservation_does() -> None:
    usage = fleet(node(), work=work_of_batches([batch(0, 3600, 4)]))
    assert split(usage, book(reservations=(RESERVED,))).total.useful_usd == pytest.approx(0.25)


def test_nodes_of_one_type_share_a_reservation() -> None:
    usage = fleet(*nodes(2), work=work_of_batches([batch(0, 3600, 4)]))
    assert split(usage, book(reservations=(RESERVED,))).total.useful_usd == pytest.approx((0.25 + 0.40) / 2)


def test_what_is_unused_of_a_commitment_is_nobodys() -> None:
    attribution = split(fleet(node(0, 0, 900)), book(reservations=(RESERVED,)))
    shares = {(share.pool, share.owner): share.parts for share in attribution.shares}
    assert shares == {
        ("", NOBODY): Parts(unused_commitment_usd=about(0.25 * 3 / 4)),
        ("base", NOBODY): Parts(idle_usd=about(0.25 / 4)),
    }


def test_extras_go_with_the_node_with_the_owner_or_with_nobody() -> None:
    extras = Extras(load_balancer_usd_per_h=0.02, disk_usd_per_node_h=0.10, cross_zone_usd_per_gib=0.01)
    usage = replace(minute(batch(0, 60, 4)), cross_zone=(CrossZone(0, NIGHTLY, 2**30),))
    parts = split(usage, book(extras=extras)).by_class()
    assert parts["interactive"] == Parts(useful_usd=about(0.50 / 60))
    assert parts["nightly"] == Parts(other_usd=about(0.01))
    assert parts[""].other_usd == pytest.approx(0.02 / 60)


def test_a_refunded_node_has_no_cost_to_share() -> None:
    usage = fleet(spot(1800, reclaimed=True), work=work_of_batches([batch(0, 60, 4)]))
    assert split(usage).shares == ()


def test_parts_that_do_not_add_up_are_caught() -> None:
    usage = minute(batch(0, 30, 2))
    whole = bill(usage, BOOK, EIGHT)
    shares = attribute(whole, usage).shares
    with pytest.raises(AssertionError, match=r"USD of 0\.0066"):
        check(Attribution(shares[1:]), whole)
    off = Share("base", NOBODY, Parts(idle_usd=-0.1)), Share("base", DIGITS, Parts(useful_usd=0.1))
    with pytest.raises(AssertionError, match=r"a part of the bill is negative: -0\.1 USD"):
        check(Attribution((*shares, *off)), whole)


def test_a_thousandth_of_a_millionth_is_not_rounding() -> None:
    whole = bill(minute(), BOOK, EIGHT)
    check(Attribution((Share("", NOBODY, Parts(idle_usd=whole.total.usd * (1 + 5e-10))),)), whole)
    with pytest.raises(AssertionError):
        check(Attribution((Share("", NOBODY, Parts(idle_usd=whole.total.usd * (1 + 5e-9))),)), whole)


def test_only_the_bill_of_a_whole_run_is_split() -> None:
    usage = fleet(node(0, 0, 7200), end_s=7200)
    for from_ns, until_ns in ((3600 * S, None), (0, 3600 * S)):
        with pytest.raises(ValueError, match="must be the bill of the whole run"):
            attribute(bill(usage, BOOK, EIGHT, from_ns, until_ns), usage)
