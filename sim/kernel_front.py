"""The kernel's front station (rule 10): jobs begin and end, and rule 3 runs where their end says so."""

from serve.policy import front
from serve.policy.codes import (
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_FULL,
    OUTCOME_INVALID,
    OUTCOME_OK,
    POLICY_WORKERS,
    REASON_CLIENT,
    REASON_FRONT,
    REASON_ROWS,
)
from serve.policy.front import FRONT_BUDGET_NS
from sim import layout as ly
from sim.compiled import inlined
from sim.kernel_batch import batch_of, free_batch, front_of, note_drained, replica_at
from sim.kernel_engines import freed
from sim.kernel_leave import leave, leave_unserved, refuse, report_of
from sim.kernel_queue import (
    end_ongoing,
    enqueue,
    row_of,
)
from sim.kernel_rule_3 import rule_3
from sim.kernel_tally import spread

parse_ns = inlined(front.parse_ns)
finish_batch_ns = inlined(front.finish_batch_ns)
answer_ns = inlined(front.answer_ns)
refuse_ns = inlined(front.refuse_ns)
over_budget = inlined(front.over_budget)


@inlined
def settle(s, pool, q, t, x, out, table, levels, ended):
    """End of every event: the free station takes its next jobs; if it stays free, rule 3 runs. Batches that leave hold
    it, as the answers of a finish job do.

    `ended` is 1 when the event is the end of the job in progress.
    """
    ran = 0
    while True:
        if ended == 0:
            if s[ly.FRONT_END_NS] != NEVER_NS:
                break
            if s[ly.JOBS_HEAD] < s[ly.JOBS_TAIL]:
                cost_ns = begin(s, pool, q)
                if cost_ns > 0:
                    hold(s, x, s[ly.NOW_NS] + cost_ns)
                    break
                ended = 1
            elif ran != 0:
                break
        kind = s[ly.JOB_KIND]
        if ended != 0:
            end_job(s, pool, q, t, x, out, kind)
        s[ly.HANDING_OVER_NS] = 0
        rule_3(s, pool, q, t, table, levels)
        end_ns = s[ly.NOW_NS] + s[ly.HANDING_OVER_NS]
        ran = 1
        if ended != 0:
            ended = 0
            s[ly.FRONT_END_NS] = NEVER_NS
            if kind == ly.JOB_FINISH:
                end_ns = answer(s, pool, q, t, x, out, s[ly.JOB_OF], end_ns)
        if end_ns > s[ly.NOW_NS]:
            s[ly.JOB_KIND] = ly.JOB_REST
            hold(s, x, end_ns)


@inlined
def hold(s, x, end_ns):
    """The station works until `end_ns`."""
    s[ly.FRONT_END_NS] = end_ns
    spread(s, x, s[ly.X_FRONT], s[ly.NOW_NS], end_ns)


@inlined
def begin(s, pool, q):
    """The free station takes its next job: its cost in ns. A parse over the front's budget becomes a refusal."""
    head = s[ly.JOBS_HEAD]
    code = q[(s[ly.AT_JOBS] + (head & s[ly.JOBS_MASK])) & ly.INDEX_MASK]
    s[ly.JOBS_HEAD] = head + 1
    kind, of, costs = code & 3, code >> 2, front_of(s)
    at = row_of(of)
    late = over_budget(pool[at + ly.ARRIVAL_NS], s[ly.NOW_NS], costs[FRONT_BUDGET_NS])
    if kind == ly.JOB_PARSE and late != 0:
        pool[at + ly.LEFT_BY] = OUTCOME_FULL * 16 + REASON_FRONT
        kind = ly.JOB_REFUSE
    s[ly.JOB_KIND], s[ly.JOB_OF] = kind, of
    if kind == ly.JOB_PARSE:
        return parse_ns(costs, pool[at + ly.ROWS])
    if kind == ly.JOB_REFUSE:
        return refuse_ns(costs)
    return finish_batch_ns(costs)


@inlined
def end_job(s, pool, q, t, x, out, kind):
    """What the end of a job (of a finish job: of its first part) does, before rule 3 runs."""
    if kind == ly.JOB_PARSE:
        parsed(s, pool, q, t, x, out, s[ly.JOB_OF])
    elif kind == ly.JOB_FINISH:
        finished(s, q, s[ly.JOB_OF])
    elif kind == ly.JOB_REFUSE:
        verdict = pool[row_of(s[ly.JOB_OF]) + ly.LEFT_BY]
        leave_unserved(s, pool, q, t, x, out, s[ly.JOB_OF], verdict >> 4, verdict & 15)


@inlined
def parsed(s, pool, q, t, x, out, slot):
    """A parsed request is enqueued, unless it was cancelled meanwhile or is invalid."""
    at = row_of(slot)
    rows = pool[at + ly.ROWS]
    if pool[at + ly.CANCEL_NS] < s[ly.NOW_NS]:
        leave_unserved(s, pool, q, t, x, out, slot, OUTCOME_CANCELLED, REASON_CLIENT)
    elif rows > s[ly.MAX_BATCH] or rows < 1:
        refuse(s, pool, q, slot, OUTCOME_INVALID, REASON_ROWS)
    else:
        enqueue(s, pool, q, slot)
        s[ly.NEWCOMER] = slot


@inlined
def finished(s, q, b):
    """First part of a finish job: the slot is free, unless its replica died meanwhile."""
    batch = batch_of(s, b)
    replica = q[batch + ly.B_REPLICA]
    s[ly.ANSWERS_OUT] += q[batch + ly.B_REQUESTS]
    end_ongoing(s, q[batch + ly.B_REQUESTS], q[batch + ly.B_ROWS])
    if s[ly.ROUTED] != 0:
        q[batch + ly.B_REPORT] = report_of(s)
    if s[replica_at(s, ly.R_INCARNATION, replica)] != q[batch + ly.B_INCARNATION]:
        return
    s[replica_at(s, ly.R_OCCUPIED, replica)] -= 1
    if s[ly.POLICY] >= POLICY_WORKERS:
        s[replica_at(s, ly.R_HELD, replica)] -= q[batch + ly.B_ROWS]
        freed(s, replica)
    if s[replica_at(s, ly.R_DRAINING, replica)] == 0:
        s[ly.FREE_SLOTS] += 1
    else:
        note_drained(s, replica)


@inlined
def answer(s, pool, q, t, x, out, b, at_ns):
    """Second part of a finish job, from `at_ns` on, all at once, since nothing can change it: when its last answer has
    left."""
    batch, costs = batch_of(s, b), front_of(s)
    slot = q[batch + ly.B_FIRST]
    while slot != ly.NOWHERE:
        at = row_of(slot)
        outcome, reason = OUTCOME_OK, q[batch + ly.B_REASON]
        if pool[at + ly.CANCEL_NS] < at_ns:
            outcome, reason = OUTCOME_CANCELLED, REASON_CLIENT
        else:
            at_ns += answer_ns(costs, pool[at + ly.ROWS])
        following = pool[at + ly.NEXT]
        leave(s, pool, q, t, x, out, slot, batch, outcome, reason, at_ns)
        slot = following
    free_batch(s, q, b)
    return at_ns
