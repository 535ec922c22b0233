"""Run by test_mutants in a process with NUMBA_DISABLE_JIT=1: the kernel as plain Python, whole and mutated.

Prints one JSON object: cases that disagreed unmutated, and of each mutant the number of cases it
took to catch it (0: not caught).
"""

import importlib
import json
import random
import signal
import sys
from pathlib import Path
from types import ModuleType

import sim.dataplane
from tests.twin.cases import FEATURES, Case, both, difference, draw_case, draw_estate, stuck_head_case

CASES = 300
OF_NODES = ("queue", "tally", "leave", "batch", "engines", "rule_3", "fault", "front", "next", "")
OF_ESTATES = ("buffer", "eject", "send", "hedge", "router", "loss", "estate")
KERNEL = tuple(f"sim.kernel_{part}".rstrip("_") for part in (*OF_NODES, *OF_ESTATES))
SOURCES = {name: Path(str(importlib.import_module(name).__file__)) for name in KERNEL}
HANGS_AFTER_S = 5.0  # a mutant may loop for ever; a case takes some milliseconds

MUTANTS = {
    "rule 2: one row too many fits": (
        "fits = inlined(batching.fits)",
        "fits = lambda a, b, c: batching.fits(a, b, c + 1)",
    ),
    "rule 4: the highest id wins a tie": ("occupied < best_occupied and", "occupied <= best_occupied and"),
    "rule 5: the second slot takes any reason": (
        "slot_takes = inlined(batching.slot_takes)",
        "slot_takes = lambda occupied, slots, reason: 1",
    ),
    "rule 1: the newcomer's own level does not count": ("+ ly.PRIORITY] + 1):", "+ ly.PRIORITY]):"),
    "rule 6: a request leaves one instant too late": (
        "expired = inlined(admission.expired)",
        "expired = lambda deadline_ns, now_ns: admission.expired(deadline_ns + 1, now_ns)",
    ),
    "rule 7: an answer is cancelled at the instant it begins": (
        "pool[at + ly.CANCEL_NS] < at_ns:",
        "pool[at + ly.CANCEL_NS] <= at_ns:",
    ),
    "rule 8: a batch in the second slot dies too": (
        "undo(s, pool, q, t, x, out, second, 0)",
        "undo(s, pool, q, t, x, out, second, 1)",
    ),
    "rule 8: put back behind its level": ("+ NUMBER] > number:", "+ NUMBER] < 0:"),
    "rule 8: a finish frees the successor's slot": ("!= q[batch + ly.B_INCARNATION]:", "< 0:"),
    "rule 10: the budget's very end is too late": (
        "over_budget = inlined(front.over_budget)",
        "over_budget = lambda a, n, b: front.over_budget(a - 1, n, b)",
    ),
    "rule 10: a timer acts while the station is busy": ("if s[ly.FRONT_END_NS] == NEVER_NS:", "if True:"),
    "rule 11: the batch counts itself as its neighbour": ("busy = s[ly.RUNNING] if", "busy = s[ly.RUNNING] + 1 if"),
    "order: the highest replica ends first": (
        "if s[base + i] < end_ns:",
        "if s[base + i] <= end_ns and s[base + i] < NEVER_NS:",
    ),
    "order: control before a batch that ends": ("event >= EVENT_CONTROL):", "event >= 0):"),
    "the oldest is the first in order": ("+ NUMBER] < best_number:", "+ NUMBER] < best_number and best == NOWHERE:"),
    "a replica stays warm": ("span_ns += cold_ns(", "span_ns += 0 * cold_ns("),
    "draws are not keyed by deaths": ("death = min(", "death = 0 * min("),
    "a full pool's ring forgets its holes": (
        "q[ring_at(s, level, end)] = slot",
        "q[ring_at(s, level, position)] = slot",
    ),
    "a refused client does not wait": ("pause_ns = max(pause_ns, s[ly.RETRY_AFTER_NS])", "pass"),
    "rule 14: a lost node still sends its answers": (
        "unsent = pool[at + ly.PLACE] == ly.LEFT and",
        "unsent = False and",
    ),
    "rule 14: a replica that hangs ends its batch": ("OP_HANG:\n        hang(s, q, replica)", "OP_HANG:\n        pass"),
    "rule 14: a slow node is not slow": ("return slowed_ns(span_ns, s[ly.SLOW_PER_MILLE])", "return span_ns"),
    "rule 14: answers cross a cut network": ("rows[pool[at + ly.SENT_TO], ly.CUT] != 0", "False"),
    "rule 14: attempts cross a cut network": ("if rows[n, ly.CUT] != 0:", "if False:"),
    "rule 17: a turn is not passed on": ("h[ly.TURN] += 1", "pass"),
    "rule 17: what a node tells is not heard": (
        "known[ly.K_SCORE, pool[at + ly.SENT_TO]] = pool[at + ly.REPORT]",
        "pass",
    ),
    "rule 17: an answer takes no time": (
        "pool[at + ly.LEFT_NS] + g[ly.NETWORK_NS], pool",
        "pool[at + ly.LEFT_NS], pool",
    ),
    "rule 17: a retry draws as the attempt before it": (
        "pool[at + ly.ROUTE] = another_draw(pool[at + ly.ROUTE])",
        "pass",
    ),
    "rule 17: the budget counts no retries": ("within_budget(h[ly.EXTRA],", "within_budget(0 * h[ly.EXTRA],"),
    "rule 17: failures need not be in a row": (
        "known[ly.K_FAILURES, node] + 1 if verdict > 0 else 0",
        "known[ly.K_FAILURES, node] + (1 if verdict > 0 else 0)",
    ),
    "rule 17: a node may be ejected though too many are": ("if out >= ejections_max(", "if out > ejections_max("),
    "rule 17: an ejected node returns too late": (
        "if known[ly.K_UNTIL_NS, node] > g[ly.NOW_NS]:\n            h",
        "if known[ly.K_UNTIL_NS, node] >= g[ly.NOW_NS]:\n            h",
    ),
    "rule 16: a node's credit is not looked at": ("if known[ly.K_ROWS, node] < h[ly.CREDIT]:", "if True:"),
    "rule 16: what is answered gives no credit back": ("known[ly.K_ROWS, pool[row_of(slot) + ly.SENT_TO]] -=", "_ ="),
    "rule 16: what comes later goes first": (
        "if h[ly.CREDIT] != 0:\n        empty_buffer(g, h, rows, pool, q, t, x, known, recent)\n    send(",
        "send(",
    ),
    "rule 16: an answer makes no room": ("rows[group, ly.CREDIT] != 0:", "False:"),
    "rule 11: replicas of other nodes on the machine do not count": (
        "s[ly.RUNNING] if s[ly.SHARED] == 0 else q[s[ly.MACHINE_AT]]",
        "s[ly.RUNNING]",
    ),
    "rule 18: the first version serves everything": (
        "version = inlined(routing.version)",
        "version = lambda draw, upto, first, count: first",
    ),
    "triton: a batch passes its preferred size": ("best, blocked = triton_walk(", "_, blocked = triton_walk("),
    "tf_serving: nobody is refused": ("batches_overflow(batches,", "batches_overflow(0 * batches,"),
    "torchserve: a batch waits from its oldest request's enqueue": (
        "torchserve_step(params, s[ly.BATCHING_STATE :],",
        "torchserve_step(params, [oldest_view(s, pool, q)[1] if s[ly.WAITING] else 0],",
    ),
    "workers: the lowest id pulls": ("s[ly.TURNS] += 1", "pass"),
    "workers: what a dead one had pulled stays with it": (
        "let_all_go(s, pool, q, replica)\n    running",
        "pass\n    running",
    ),
    "ray: batches wait in no order": ("= behind(s, q, second)\n        start", "= ly.NOWHERE\n        start"),
    "rule 17: a hedge goes to the node that is late": (
        "node = pick_besides(g, h, rows, known, bits, pool[at + ly.SENT_TO])",
        "node = pick_besides(g, h, rows, known, bits, -5)",
    ),
    "rule 17: hedges count for no budget": ("h[ly.EXTRA] += 1\n    carry(", "carry("),
    "rule 17: the slower attempt is told at once": (
        "due_ns = row_of(slot), g[ly.NOW_NS] + g[ly.NETWORK_NS]",
        "due_ns = row_of(slot), g[ly.NOW_NS]",
    ),
    "rule 17: the slower attempt is not told in its queue": (
        "timer_push(s, pool, q, ly.CANCELS, slot)\n        node_ns",
        "node_ns",
    ),
    "rule 17: a failed attempt settles its request though another is under way": (
        "home = leave_pair(g, pool, q, slot)",
        "home = slot",
    ),
    "the p95 is of other answers": ("HEDGE_ANSWERS], took_ns)", "HEDGE_ANSWERS], 1 + took_ns)"),
    "the tally's parts are mixed up": ("x[sums + 3]", "x[sums + 4]"),
}
"""What is changed in the kernel's source: each must change a decision that some case shows."""


def load(old: str, new: str) -> bool:
    """Load the kernel afresh with one change to its source; whether the change was found."""
    found = 0
    for name, path in SOURCES.items():
        source = path.read_text()
        found += source.count(old) if old else 0
        sys.modules[name] = module = ModuleType(name)
        module.__file__ = str(path)
        exec(compile(source.replace(old, new) if old else source, str(path), "exec"), module.__dict__)
    sim.dataplane.advance = sys.modules["sim.kernel"].advance  # type: ignore[attr-defined]
    sim.dataplane.advance_estate = sys.modules["sim.kernel_estate"].advance_estate  # type: ignore[attr-defined]
    return found > 0


def cases() -> list[Case]:
    """The same cases for every mutant, most of them with most features."""
    bits = random.Random(4)
    full = (1 << len(FEATURES)) - 1
    masks = [full & (bits.getrandbits(len(FEATURES)) | bits.getrandbits(len(FEATURES))) for _ in range(CASES)]
    nodes = [draw_case(50, i, 5 + i % 40, mask) for i, mask in enumerate(masks)]
    estates = [draw_estate(51, i, 5 + i % 40, mask) for i, mask in enumerate(masks)]
    return [case for pair in zip(nodes, estates, strict=True) for case in pair] + [stuck_head_case()]


def disagrees(case: Case) -> bool:
    """Whether the two planes differ; a mutant may also run into an error, or hang."""
    signal.setitimer(signal.ITIMER_REAL, HANGS_AFTER_S)
    try:
        return difference(*both(case)) != ""
    except (AssertionError, IndexError, ValueError, OverflowError, TimeoutError):
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def hang(number: int, frame: object) -> None:
    """What the alarm does."""
    raise TimeoutError


def main() -> None:
    """Print what was found."""
    signal.signal(signal.SIGALRM, hang)
    drawn = cases()
    load("", "")
    report = {"disagreed": sum(disagrees(case) for case in drawn), "missing": [], "caught_after": {}}
    for name, (old, new) in MUTANTS.items():
        if not load(old, new):
            report["missing"].append(name)  # type: ignore[attr-defined]
        caught = next((i for i, case in enumerate(drawn, 1) if disagrees(case)), 0)
        report["caught_after"][name] = caught  # type: ignore[index]
    print(json.dumps(report))


if __name__ == "__main__":
    main()
