"""What is handed over to be billed: work by bin and owner, and what is refused."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.billing.usage import (
    BIN_NS,
    CrossZone,
    Owner,
    ReplicasUp,
    ReplicaUsage,
    Work,
    bins_of,
    up_of_replicas,
)
from tests.sim.billing.batches import BatchUsage, RequestRows, work_of_batches
from tests.sim.billing.fleets import S, fleet, node

A, B = Owner("digits", "a"), Owner("digits", "b")


def test_work_by_node_bin_and_owner() -> None:
    """Two threads from 50 s to 70 s: rows 1 and 3 of a, one of them unused, and 4 of b."""
    requests = (RequestRows(A, 1), RequestRows(B, 4), RequestRows(A, 3, used=False))
    assert work_of_batches([BatchUsage(5, 2, 50 * S, 70 * S, requests)]) == (
        Work(5, 0, A, 2.5 * S, 7.5 * S),
        Work(5, 0, B, 10 * S, 0.0),
        Work(5, 1, A, 2.5 * S, 7.5 * S),
        Work(5, 1, B, 10 * S, 0.0),
    )


def test_work_of_several_batches_is_added_up() -> None:
    batches = [BatchUsage(n, 1, 0, 10 * S, (RequestRows(A, 2),)) for n in (1, 0, 1)]
    assert work_of_batches(batches) == (Work(0, 0, A, 10 * S, 0.0), Work(1, 0, A, 20 * S, 0.0))


def test_replicas_up_by_node_bin_and_model() -> None:
    replicas = [
        ReplicaUsage(0, "b", 1, 0, 60 * S),
        ReplicaUsage(0, "a", 2, 50 * S, 70 * S),
        ReplicaUsage(0, "a", 3, 0, 10 * S),
    ]
    assert up_of_replicas(replicas) == (
        ReplicasUp(0, 0, "a", 50 * S),
        ReplicasUp(0, 0, "b", 60 * S),
        ReplicasUp(0, 1, "a", 20 * S),
    )


@given(st.integers(0, 10**13), st.integers(1, 10**12))
def test_bins_are_the_interval_cut_at_minutes(start_ns: int, length_ns: int) -> None:
    pieces = list(bins_of(start_ns, start_ns + length_ns))
    assert sum(inside_ns for _, inside_ns in pieces) == length_ns
    assert all(0 < inside_ns <= BIN_NS for _, inside_ns in pieces)
    assert [bin_ for bin_, _ in pieces] == list(range(start_ns // BIN_NS, start_ns // BIN_NS + len(pieces)))


def test_a_tag_by_its_name() -> None:
    owner = Owner("digits", "a", (("team", "search"), ("tier", "free")))
    assert (owner.tag("tier"), owner.tag("team"), owner.tag("other")) == ("free", "search", "")


def test_what_was_not_released_is_held_to_the_end() -> None:
    assert node(0, 0, None).held_until_ns(5) == 5
    assert node(0, 0, 1).held_until_ns(5 * S) == S


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: node(3, 0, 10, first_ready_ns=20 * S), "node 3: must be handed over, ready, released in this order"),
        (lambda: node(3, 10, 5, first_ready_ns=None), "node 3: must be handed over, ready, released in this order"),
        (lambda: node(3, cores=0), "node 3: cores must be >= 1, got 0"),
        (lambda: node(3, reclaimed=True), "node 3: reclaimed must be spot and released"),
        (lambda: node(3, 0, None, buy="spot", reclaimed=True), "node 3: reclaimed must be spot and released"),
        (lambda: fleet(end_s=0), "end_ns must be > 0, got 0"),
        (lambda: fleet(node(3), node(3)), "node ids must differ"),
        (lambda: fleet(node(3, 0, 3601)), "node 3: must be handed over, ready, released by 3600000000000 ns"),
        (lambda: fleet(node(3, 3601, None)), "node 3: must be handed over, ready, released by"),
        (lambda: fleet(node(3, 0, None, first_ready_ns=3601 * S)), "node 3: must be handed over, ready, released by"),
        (lambda: fleet(work=(Work(3, 0, A, 1.0, 0.0),)), "node 3: worked in bin 0, in which it was not ready"),
        (
            lambda: fleet(node(3, first_ready_ns=60 * S), work=(Work(3, 0, A, 1.0, 0.0),)),
            "node 3: worked in bin 0, in which it was not ready",
        ),
        (
            lambda: fleet(node(3, first_ready_ns=None), work=(Work(3, 0, A, 1.0, 0.0),)),
            "node 3: worked in bin 0, in which it was not ready",
        ),
        (
            lambda: fleet(node(3, 0, 60), work=(Work(3, 1, A, 1.0, 0.0),)),
            "node 3: worked in bin 1, in which it was not ready",
        ),
        (
            lambda: fleet(node(3, -120, 60), work=(Work(3, -1, A, 1.0, 0.0),)),
            "node 3: worked in bin -1, in which it was not ready",
        ),
        (lambda: fleet(up=(ReplicasUp(3, 0, "a", 1),)), "node 3: had replicas up in bin 0, in which it was not ready"),
        (
            lambda: fleet(node(3, 0, 60), up=(ReplicasUp(3, 1, "a", 1),)),
            "node 3: had replicas up in bin 1, in which it was not ready",
        ),
        (lambda: fleet(cross_zone=(CrossZone(60, A, 1),)), "must lie within the run, got bin 60"),
        (lambda: fleet(cross_zone=(CrossZone(-1, A, 1),)), "must lie within the run, got bin -1"),
    ],
)
def test_what_cannot_be_is_refused(made: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made()
