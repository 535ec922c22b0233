"""What holds on every run: the cheap invariants, checked each time. docs/invariants.md numbers them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from serve.policy.codes import OUTCOME_OK
from sim.history import History
from sim.plane import Estate
from sim.tally import SUM_ANSWER_S, SUM_FRONT_S, SUM_ROWS, Tally


def check(
    tally: Tally, estate: Estate, open_fed: int, *, open_only: bool, one_attempt: bool, history: History | None
) -> None:
    """Check a replication that has been simulated to its end.

    Parameters
    ----------
    open_fed : requests that arrived openly; with `open_only` there were no others.
    one_attempt : no request could have another.
    history : what control did; None: nothing was controlled.

    Raises
    ------
    AssertionError : names the invariant that the simulator broke.
    """
    _check_requests(tally, open_fed, open_only, one_attempt)
    _check_work(tally, estate)
    if history is not None:
        _check_history(history)


def _check_requests(tally: Tally, open_fed: int, open_only: bool, one_attempt: bool) -> None:
    """I1 to I3.

    The integral of the number present is the sum of the stays; what was answered stayed as long as its parts say, what
    was refused or dropped stayed at least not negatively. Of a request that has one attempt that is all; others that
    it had were present too.
    """
    counted, ok = int(tally.outcomes.sum()), tally.outcomes[:, :, OUTCOME_OK]
    kept = counted == open_fed if open_only else counted >= open_fed
    assert kept, f"I1, conservation: {open_fed} open requests arrived, {counted} left"
    stays_s = float(tally.sums[:, :, SUM_FRONT_S : SUM_ANSWER_S + 1].sum())
    present_s = float(tally.in_system_s.sum())
    slack_s = 1e-6 * (1.0 + stays_s)
    little = present_s >= stays_s - slack_s and (
        not one_attempt or counted > int(ok.sum()) or present_s <= stays_s + slack_s
    )
    assert little, f"I2, Little's law: {present_s} s present, {stays_s} s stayed"
    assert (tally.latency.sum(axis=2) == ok).all(), "I3: a latency is that of one request that was answered ok"
    assert (tally.good <= ok).all(), "I3: only what was answered ok is good"


def _check_work(tally: Tally, estate: Estate) -> None:
    """I4 and I5."""
    rows = np.arange(tally.batch_rows.shape[1])
    computed, used = int((tally.batch_rows * rows).sum()), float(tally.sums[:, :, SUM_ROWS].sum())
    assert not tally.batch_rows[:, 0].any(), "I4: a batch has rows"
    assert used <= computed, f"I4: {used:g} rows were answered, {computed} computed"
    replicas = np.array([node.replicas for node in estate.nodes])[:, np.newaxis]
    most_s = replicas * (tally.bin_ns * 1e-9) * (1 + 1e-9) + 1e-6
    busiest = tally.node_busy_s[:, :-1]  # the last bin has no end
    assert (busiest <= most_s).all() and (tally.node_busy_s >= -1e-6).all(), "I5: a replica works once at a time"


def _check_history(history: History) -> None:
    """I6 and I7."""
    spans = {lease.machine: [] for lease in history.leases}  # type: dict[int, list[tuple[int, float]]]
    for lease in history.leases:
        spans[lease.machine].append((lease.there_ns, np.inf if lease.gone_ns is None else lease.gone_ns))
    for machine, own in spans.items():
        after = [(begin, end) for begin, end in sorted(own) if end > begin]
        apart = all(end <= begin for (_, end), (begin, _) in pairwise(after))
        assert apart, f"I6: machine {machine} is handed over once at a time"
    for fleet in history.fleets:
        for up in (up for ups in fleet.ups.values() for up in ups):
            down_ns = np.inf if up.down_ns is None else up.down_ns
            within = any(begin <= up.ready_ns and down_ns <= end for begin, end in spans.get(up.machine, []))
            assert within, f"I6: {up} is up on a machine that is there"
    for model in history.models:
        assert all(step.wanted >= 0 for step in model.steps), "I7: no fewer replicas than none are wanted"
        at_ns = [step.at_ns for step in model.steps]
        assert at_ns == sorted(at_ns), "I7: steps are in order of time"
