"""Which law of service times predicts samples that it has not seen: held-out errors of the ones that were tried.

    python -m bench.service_law PROFILE...

Twice over, a law is made of the samples of every second window of the calibration and held against
those of the other windows, cell by cell; and every batch size but the first and last is left out
once and predicted from its neighbours. Prints a table: medians over cells of the relative errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serve.files import load, resolve
from serve.profile import Profile
from sim.samples import levels_at, read_columns
from sim.service import BITS, TAIL_SHARE, PooledTail, strata

Floats = npt.NDArray[np.float64]
Cells = Mapping[int, Floats]
"""rows -> samples, ascending, at one (threads, busy)."""

Law = Callable[[Cells], Callable[[int], Floats]]
"""From cells to the equally likely times of any number of rows."""

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
CELL_MIN = 30
_ENTRIES = 2**BITS
_TAIL = round(TAIL_SHARE * _ENTRIES)


# -- the laws that were tried --------------------------------------------------------------------------------


def own(cells: Cells) -> Callable[[int], Floats]:
    """Each cell's own samples."""
    return interpolated({rows: strata(cell, _ENTRIES) for rows, cell in cells.items()})


def own_and_pooled_tail(cells: Cells) -> Callable[[int], Floats]:
    """As `sim.service`: own body; the tail's shape is pooled, its scale a straight line over the cells."""
    pooled = PooledTail.of(list(cells.values()))

    def tail(cell: Floats) -> Floats:
        body = _body_mean(cell)
        return body + pooled.above(body, float(cell[int(0.9 * len(cell)) :].mean()) - body)

    return interpolated({rows: _with_tail(cell, tail(cell)) for rows, cell in cells.items()})


def own_and_tail_lines(cells: Cells) -> Callable[[int], Floats]:
    """Own body; each quantile of the tail is a straight line over the cells."""
    weights = np.sqrt([len(cell) for cell in cells.values()])[:, np.newaxis]
    bodies = np.array([_body_mean(cell) for cell in cells.values()])
    tails = np.stack([strata(cell[int(0.9 * len(cell)) :], _TAIL) for cell in cells.values()])
    design = np.stack([np.ones(len(bodies)), bodies], axis=1) * weights
    lines = np.linalg.lstsq(design, tails * weights, rcond=None)[0]
    return interpolated({r: _with_tail(c, np.sort(lines[0] + lines[1] * _body_mean(c))) for r, c in cells.items()})


def own_and_pooled_excess(cells: Cells) -> Callable[[int], Floats]:
    """Own body; by how much the tail exceeds the body's mean is pooled."""
    tails = [cell[int(0.9 * len(cell)) :] - _body_mean(cell) for cell in cells.values()]
    pooled = strata(np.sort(np.concatenate(tails)), _TAIL)
    return interpolated({rows: _with_tail(cell, _body_mean(cell) + pooled) for rows, cell in cells.items()})


def own_and_pooled_ratio(cells: Cells) -> Callable[[int], Floats]:
    """Own body; the tail's ratio to the body's mean is pooled."""
    tails = [cell[int(0.9 * len(cell)) :] / _body_mean(cell) for cell in cells.values()]
    pooled = strata(np.sort(np.concatenate(tails)), _TAIL)
    return interpolated({rows: _with_tail(cell, _body_mean(cell) * pooled) for rows, cell in cells.items()})


def own_and_ratio_to_p90(cells: Cells) -> Callable[[int], Floats]:
    """Own body; the tail's ratio to the cell's 90th percentile is pooled."""
    tails = [cell[int(0.9 * len(cell)) :] / np.quantile(cell, 0.9) for cell in cells.values()]
    pooled = strata(np.sort(np.concatenate(tails)), _TAIL)
    return interpolated({rows: _with_tail(cell, np.quantile(cell, 0.9) * pooled) for rows, cell in cells.items()})


def _with_tail(cell: Floats, tail: Floats) -> Floats:
    body = strata(cell, _ENTRIES)[:-_TAIL]
    return np.concatenate([body, np.maximum(tail, body[-1])])


def _body_mean(cell: Floats) -> float:
    return float(cell[: int(0.9 * len(cell))].mean())


def pooled_shape(cells: Cells) -> Callable[[int], Floats]:
    """One shape for all batch sizes, times each cell's mean."""
    shape = strata(np.sort(np.concatenate([cell / cell.mean() for cell in cells.values()])), _ENTRIES)
    return interpolated({rows: shape * cell.mean() for rows, cell in cells.items()})


def line_and_shape(cells: Cells) -> Callable[[int], Floats]:
    """One shape, times a straight line through the means."""
    shape = strata(np.sort(np.concatenate([cell / cell.mean() for cell in cells.values()])), _ENTRIES)
    rows, means = np.array(sorted(cells), float), np.array([cells[r].mean() for r in sorted(cells)])
    slope, base = np.polyfit(rows, means, 1, w=1 / means)
    return lambda r: shape * (base + slope * r)


LAWS: dict[str, Law] = {
    "own samples": own,
    "own body, pooled tail scaled by a line": own_and_pooled_tail,
    "own body, tail's quantiles on lines": own_and_tail_lines,
    "own body, pooled excess over the body": own_and_pooled_excess,
    "own body, pooled ratio to the body": own_and_pooled_ratio,
    "own body, pooled ratio to p90": own_and_ratio_to_p90,
    "own mean, pooled shape": pooled_shape,
    "straight line, pooled shape": line_and_shape,
}


def interpolated(laws: Mapping[int, Floats]) -> Callable[[int], Floats]:
    """Quantiles interpolated between the batch sizes that have a law."""
    known = np.array(sorted(laws), float)
    table = np.stack([laws[r] for r in sorted(laws)])

    def law(rows: int) -> Floats:
        return np.array([np.interp(rows, known, column) for column in table.T])

    return law


# -- held out ------------------------------------------------------------------------------------------------


def errors(law: Floats, held_out: Floats) -> dict[str, float]:
    """Relative errors of mean and quantiles against samples that the law has not seen."""
    found = {"mean": abs(law.mean() / held_out.mean() - 1)}
    for name, share in SHARES.items():
        found[name] = abs(np.quantile(law, share) / np.quantile(held_out, share) - 1)
    return found


def groups(path: Path, by_level: bool) -> list[tuple[Cells, Cells]]:
    """(samples of one half of the windows, of the other), both ways, at every (threads, busy)."""
    profile = load(path, Profile)
    columns = read_columns(resolve(path, profile.samples.file))
    times = columns["service_ns"] / (levels_at(columns["at_s"], profile.noise) if by_level else 1.0)
    half = (columns["at_s"] // profile.noise.level_bin_s).astype(int) % 2
    pairs: list[tuple[Cells, Cells]] = []
    for threads, busy in sorted({(c.threads, c.busy) for c in profile.service}):
        here = (columns["threads"] == threads) & (columns["busy"] == busy)
        parts = [_cells(columns["rows"][here & (half == h)], times[here & (half == h)]) for h in (0, 1)]
        common = parts[0].keys() & parts[1].keys()
        kept: list[Cells] = [{rows: part[rows] for rows in sorted(common)} for part in parts]
        if len(common) >= 3:
            pairs += [(kept[0], kept[1]), (kept[1], kept[0])]
    if not pairs:
        raise SystemExit(f"{path}: too few samples, or all of one window: nothing can be held out")
    return pairs


def _cells(rows: Floats, times: Floats) -> Cells:
    cells = {int(r): np.sort(times[rows == r]) for r in np.unique(rows)}
    return {r: cell for r, cell in cells.items() if len(cell) >= CELL_MIN}


def seen_sizes(law: Law, pairs: list[tuple[Cells, Cells]]) -> dict[str, float]:
    """Median errors at batch sizes that the law has samples of."""
    found = [errors(made(rows), theirs[rows]) for mine, theirs in pairs for made in [law(mine)] for rows in theirs]
    return {name: float(np.median([f[name] for f in found])) for name in found[0]}


def unseen_sizes(law: Law, pairs: list[tuple[Cells, Cells]]) -> dict[str, float]:
    """Median errors at batch sizes that were left out."""
    found = []
    for mine, theirs in pairs:
        for rows in sorted(mine)[1:-1]:
            made = law({r: cell for r, cell in mine.items() if r != rows})
            found.append(errors(made(rows), theirs[rows]))
    return {name: float(np.median([f[name] for f in found])) for name in found[0]}


def floor(pairs: list[tuple[Cells, Cells]]) -> dict[str, float]:
    """The error that two halves of the same cell have of each other."""
    found = [errors(mine[rows], theirs[rows]) for mine, theirs in pairs for rows in theirs]
    return {name: float(np.median([f[name] for f in found])) for name in found[0]}


def table(path: Path) -> str:
    """The Markdown table of one profile."""
    lines = ["| law | level removed | sizes | mean | p50 | p95 | p99 |", "|---|---|---|---|---|---|---|"]
    for by_level in (False, True):
        pairs = groups(path, by_level)
        shown = "yes" if by_level else "no"
        lines.append(_line("(the other half itself)", shown, "seen", floor(pairs)))
        for name, law in LAWS.items():
            lines.append(_line(name, shown, "seen", seen_sizes(law, pairs)))
        for name, law in LAWS.items():
            lines.append(_line(name, shown, "left out", unseen_sizes(law, pairs)))
    return "\n".join(lines)


def _line(name: str, by_level: str, sizes: str, found: Mapping[str, float]) -> str:
    shown = " | ".join(f"{found[column]:.1%}" for column in ("mean", "p50", "p95", "p99"))
    return f"| {name} | {by_level} | {sizes} | {shown} |"


def main() -> None:
    """Print a table for each profile named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", nargs="+", type=Path)
    for path in parser.parse_args().profiles:
        print(f"\n{path.name}\n\n{table(path)}")


if __name__ == "__main__":
    main()
