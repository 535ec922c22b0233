"""A Report's picture: the two latency distributions, and both histograms of batch sizes, as one PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from planner.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PREDICTED, MEASURED = "tab:blue", "tab:orange"
TAIL_MIN = 5e-3
"""Exceedance below which the distribution's plot ends: what is rarer is not in its 201 quantiles."""


def plot(report: Report, path: Path) -> None:
    """Write the picture of a report to `path` (PNG by its suffix)."""
    from matplotlib.figure import Figure  # slow to import, and only pictures need it

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _latency(left, report)
    _batches(right, report)
    figure.suptitle(f"{Path(report.deployment).name}: predicted and measured ({report.date}), {report.verdict}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _latency(axes: Axes, report: Report) -> None:
    """Share of requests slower than x, on a log scale, where a p99 can be read off."""
    for number, run in enumerate(report.runs):
        label = "measured" if number == 0 else None
        _exceedance(axes, run.latency_cdf_s, color=MEASURED, label=label, alpha=0.9 if number == 0 else 0.5)
    _exceedance(axes, report.predicted.latency_cdf_s, color=PREDICTED, label="predicted", alpha=1.0)
    for metric, level in (("p50", 0.5), ("p95", 0.05), ("p99", 0.01)):
        estimate = report.predicted.total.metrics.get(metric)
        if estimate is not None and estimate.pi is not None:
            axes.hlines(level, estimate.pi[0] * 1e3, estimate.pi[1] * 1e3, color=PREDICTED, linewidth=4, alpha=0.35)
    axes.set(yscale="log", ylim=(TAIL_MIN, 1), xlim=(0, None), xlabel="latency, ms", ylabel="share of requests slower")
    axes.set_title("Latency (bars: 95 % prediction intervals)", fontsize=10)
    axes.legend()


def _exceedance(axes: Axes, quantiles_s: list[float], color: str, label: str | None, alpha: float) -> None:
    if not quantiles_s:
        return
    shares = 1 - np.linspace(0, 1, len(quantiles_s))
    axes.plot(np.asarray(quantiles_s) * 1e3, np.maximum(shares, TAIL_MIN), color=color, label=label, alpha=alpha)


def _batches(axes: Axes, report: Report) -> None:
    """Share of batches by rows, side by side; the runs together."""
    measured = [run.batch_rows for run in report.runs if run.batch_rows]
    rows = sorted({r for shares in [report.predicted.batch_rows, *measured] for r in shares}) or [1]
    at = np.arange(len(rows))
    axes.bar(at - 0.2, [report.predicted.batch_rows.get(r, 0.0) for r in rows], 0.4, color=PREDICTED, label="predicted")
    if measured:
        means = [sum(shares.get(r, 0.0) for shares in measured) / len(measured) for r in rows]
        axes.bar(at + 0.2, means, 0.4, color=MEASURED, label="measured")
    axes.set(xticks=at, xticklabels=[str(r) for r in rows], xlabel="rows of a batch", ylabel="share of batches")
    distance = "unknown" if report.batch_tv is None else f"{report.batch_tv:.3f}"
    axes.set_title(f"Batch sizes (total variation {distance})", fontsize=10)
    axes.legend()
