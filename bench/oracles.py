"""The oracle table: exact queueing theory beside both simulators, in standard errors; `python -m bench.oracles`.

It runs the cases of `tests/sim/oracle_cases.py` with more requests than the tests do, prints the table,
writes bench/results/oracles.json and regenerates the marked block of docs/oracles.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import asdict

import numpy as np

from bench import report
from tests.sim.oracle_cases import Engine, cases
from tests.sim.oracle_stats import SIZES, Z_BOUND, Size, Verdict, judge

FULL: dict[Engine, Size] = {"fast": Size(20, 250_000, 10_000), "reference": Size(20, 5_000, 500)}
ENGINES: tuple[Engine, ...] = ("fast", "reference")
COLUMNS = {
    "case": "queue",
    "claim": "result",
    "exact": "exact",
    "fast": "fast",
    "z_fast": "z",
    "reference": "reference",
    "z_reference": "z",
}


def main(argv: list[str] | None = None) -> int:
    """Run, print, save; 1 if a claim fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="as many requests as the tests, and nothing is written")
    quick = parser.parse_args(argv).quick
    sizes = SIZES if quick else FULL
    verdicts = list(_judged(sizes))
    text = f"{_head(sizes, verdicts)}\n\n{report.table(_rows(verdicts), COLUMNS)}"
    print(text)
    if not quick:
        settings = {engine: asdict(size) for engine, size in sizes.items()}
        report.save("oracles", report.provenance(sizes=settings, z_bound=Z_BOUND), [asdict(v) for v in verdicts])
        report.splice(report.DOCS / "oracles.md", "oracles", text)
    return 0 if all(v.holds for v in verdicts) else 1


def _judged(sizes: dict[Engine, Size]) -> Iterable[Verdict]:
    for case in cases():
        for engine in ENGINES:
            print(f"{case.name} on {engine}", file=sys.stderr)
            yield from judge(case, engine, sizes[engine])


def _head(sizes: dict[Engine, Size], verdicts: list[Verdict]) -> str:
    """What was run, and how the z values lie as a whole: right ones have a mean square of about 1."""
    runs = "; ".join(
        f"{engine}: {size.replications} replications of {size.count:,} requests, {size.warmup:,} of each as warm-up"
        for engine, size in sizes.items()
    )
    z = np.array([v.z for v in verdicts])
    outside = sum(not v.holds for v in verdicts)
    return (
        f"{runs}. {len(z)} results; {outside} outside |z| = {Z_BOUND:.2f}; largest |z| {np.abs(z).max():.2f}; "
        f"root mean square of z {np.sqrt(np.square(z).mean()):.2f}."
    )


def _rows(verdicts: list[Verdict]) -> Iterable[report.Row]:
    """One row a claim, both engines side by side; a claim that too few requests reach is left blank."""
    by_engine = {(v.case, v.claim, v.engine): v for v in verdicts}
    for case, claim in dict.fromkeys((v.case, v.claim) for v in verdicts):
        row = {"case": case, "claim": claim}
        for engine in ENGINES:
            verdict = by_engine.get((case, claim, engine))
            row[engine] = "" if verdict is None else f"{verdict.simulated:.6g}"
            row[f"z_{engine}"] = "" if verdict is None else f"{verdict.z:+.2f}"
            if verdict is not None:
                row["exact"] = f"{verdict.exact:.6g}"
        yield row


if __name__ == "__main__":
    sys.exit(main())
