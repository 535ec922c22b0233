"""Tables for people: a Result, an SLO, the claims of a scenario."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from rich.table import Column, Table
from rich.text import Text

from planner.report import BoundCheck, Report, Run
from planner.slo import Check
from planner.slo import show as show_value
from serve.profile import Profile
from serve.vocabulary import METRICS
from sim.expect import Judgement
from sim.measures import DELAYS
from sim.result import Estimate, Interval, Result

LATENCIES = ("mean", "p50", "p90", "p95", "p99", "p99.9")
RATES = ("arrival_rate", "throughput", "goodput", "refused", "expired", "cancelled", "failed")
SLO = ("slo_met", "slo_windows", "budget_left", "burn_1h", "burn_6h", "recovery")
NODE = ("batch_mean", "busy", "front_busy", "in_system", "cost_usd_per_h", "cost_usd_per_1k")

HAPPENED = (
    "replicas",
    "scale_ups",
    "scale_downs",
    "flaps",
    "under_target",
    "deaths",
    "node_losses",
    "reclaims",
    "rollouts",
    "rollbacks",
    "lost",
    "hedged",
    "wasted",
)
"""Metrics of what changes over time: those that are not 0 are shown."""

CLASSES_SHOWN = 8
"""Classes that a table has; --json and files have all."""
SHARES_SHOWN = 16
"""Shares in a line, the largest."""

_COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow", "error": "red", "valid": "green"}


def coloured(outcome: str) -> Text:
    """An outcome in its colour."""
    return Text(outcome, style=_COLOURS.get(outcome, ""))


def value(metric: str, number: float | None) -> str:
    """A metric's value with its unit; a dash where it does not exist."""
    if number is None:
        return "-"
    return show_value(metric, number) if number >= 0 else f"-{show_value(metric, -number)}"


def interval(metric: str, ends: Interval | None) -> str:
    """An interval with units; a dash where it does not exist."""
    return "-" if ends is None else f"{value(metric, ends[0])} .. {value(metric, ends[1])}"


def result_table(result: Result) -> Table:
    """Metrics of all requests, each with both intervals; the first classes and versions below if there are several."""
    table = Table("metric", _right("value"), _right("95 % ci of the mean"), _right("95 % of runs"), title="Simulated")
    table.caption = _left_out(len(result.classes))
    happened = [metric for metric in HAPPENED if (one := result.total.metrics.get(metric)) is not None and one.value]
    for metric in (*LATENCIES, *RATES, *SLO, *NODE, *happened):
        _add(table, metric, metric, result.total.metrics.get(metric))
    classes = result.classes if len(result.classes) > 1 else {}
    for name, part in islice({**classes, **result.versions}.items(), CLASSES_SHOWN):
        table.add_section()
        for metric in (*LATENCIES, "throughput", "refused"):
            _add(table, metric, f"{name}.{metric}", part.metrics.get(metric))
    return table


def breakdown_table(result: Result) -> Table:
    """Where the mean latency goes."""
    table = Table("part of the mean latency", _right("mean"), "meaning")
    for metric in DELAYS:
        estimate = result.total.metrics.get(metric)
        if estimate is not None:
            table.add_row(metric, value(metric, estimate.value), METRICS[metric].meaning)
    return table


def result_lines(result: Result) -> list[str]:
    """The verdict and what it rests on."""
    refused = [f"not answered ok, by reason: {_shares(result.refusals)}"] if result.refusals else []
    return [
        f"{result.verdict}: {result.verdict_reason}",
        *refused,
        f"{result.replications} replications, {result.requests:,} requests, seed {result.seed}; "
        f"the weakest number is {result.origin}",
        f"batches by reason: {_shares(result.reasons)}",
        f"batches by rows: {_shares(result.batch_rows)}",
    ]


def slo_table(checks: Iterable[Check]) -> Table:
    """Bounds of the SLO against the end of `pi` that counts."""
    table = Table("SLO", _right("simulated"), _right("worst of 95 % of runs"), "")
    for check in checks:
        metric = check.bound.metric
        bound = f"{check.bound} (implied)" if check.bound.implied else str(check.bound)
        table.add_row(bound, value(metric, check.value), value(metric, check.far), coloured(_outcome(check.held)))
    return table


def claims_table(judged: Sequence[tuple[str, Judgement]], title: str = "Expected") -> Table:
    """Claims beside what was simulated; the first column names the file of each."""
    table = Table("scenario", "expected", _right("simulated"), _right("95 % ci"), "", title=title)
    previous = None
    for file, judgement in judged:
        metric, estimate = judgement.expectation.of.metric, judgement.estimate
        table.add_row(
            file if file != previous else "",
            judgement.expectation.text,
            value(metric, estimate.value if estimate else None),
            interval(metric, estimate.ci if estimate else None),
            coloured(judgement.outcome),
        )
        previous = file
    return table


def report_table(report: Report, metrics: Sequence[str] | None = None) -> Table:
    """Predicted beside measured; `metrics` picks rows by name."""
    table = Table("metric", title="Predicted beside measured")
    for header in ("predicted", "95 % of runs", "measured", "error", "between runs", "judged"):
        table.add_column(header, justify="right")
    for row in report.comparisons:
        if metrics is None or row.metric in metrics:
            table.add_row(
                row.metric,
                value(row.metric, row.predicted),
                interval(row.metric, row.interval),
                value(row.metric, row.measured),
                _percent(row.error, signed=True),
                _percent(row.noise),
                "" if row.ok is None else coloured(_outcome(row.ok)),
            )
    return table


def service_table(profile: Profile) -> Table:
    """Measured service times by batch, and the throughput that each batch size gives one replica."""
    table = Table("threads", "busy neighbours", title=f"Service times of {profile.name}")
    for header in ("rows", "samples", "mean", "p50", "p99", "rows/s"):
        table.add_column(header, justify="right")
    for cell in profile.service:
        times = [f"{time_ms:.3g}ms" for time_ms in (cell.mean_ms, cell.p50_ms, cell.p99_ms)]
        pooled = "*" if cell.p99_pooled else ""
        rate = f"{cell.rows / cell.busy_ms * 1e3:.0f}"
        counts = (str(cell.threads), str(cell.busy), str(cell.rows), str(cell.samples))
        table.add_row(*counts, *times[:2], times[2] + pooled, rate)
    table.caption = "* tail pooled over batch sizes: fewer than 500 samples of its own"
    return table


def cost_line(result: Result) -> str:
    """What it costs, in a line."""
    per_h, per_1k = (result.total.metrics.get(metric) for metric in ("cost_usd_per_h", "cost_usd_per_1k"))
    return (
        f"cost: {value('cost_usd_per_h', per_h.value if per_h else None)} USD/h, "
        f"{value('cost_usd_per_1k', per_1k.value if per_1k else None)} USD per 1,000 requests"
    )


def run_table(run: Run) -> Table:
    """What one live run showed, the first classes below if there are several."""
    table = Table("metric", _right("measured"), caption=_left_out(len(run.classes)))
    classes = dict(islice(run.classes.items(), CLASSES_SHOWN)) if len(run.classes) > 1 else {}
    parts = {"": run.metrics, **{f"{name}.": part for name, part in classes.items()}}
    for prefix, part in parts.items():
        for metric in (*LATENCIES, *RATES):
            if part.get(metric) is not None:
                table.add_row(f"{prefix}{metric}", value(metric, part[metric]))
    return table


def bounds_table(bounds: Sequence[BoundCheck]) -> Table:
    """Bounds of the SLO against what was measured."""
    table = Table("SLO", _right("measured"), "")
    for bound in bounds:
        table.add_row(bound.bound, value(bound.metric, bound.measured), coloured(_outcome(bound.held)))
    return table


def _percent(share: float | None, signed: bool = False) -> str:
    return "-" if share is None else f"{share:+.1%}" if signed else f"{share:.1%}"


def _left_out(classes: int) -> str | None:
    """Said below a table that does not have all classes."""
    return f"and {classes - CLASSES_SHOWN} more classes: --json has all" if classes > CLASSES_SHOWN else None


def _shares(shares: Mapping[str, float] | Mapping[int, float]) -> str:
    """The largest shares, in their own order."""
    held = [(key, share) for key, share in shares.items() if share > 0]
    least = sorted((share for _, share in held), reverse=True)[:SHARES_SHOWN][-1:]
    shown = [f"{key} {share:.1%}" for key, share in held if share >= least[0]][:SHARES_SHOWN]
    more = [f"and {len(held) - len(shown)} more: --json has all"] if len(held) > len(shown) else []
    return ", ".join([*shown, *more]) or "none"


def _outcome(held: bool) -> str:
    return "pass" if held else "fail"


def _add(table: Table, metric: str, label: str, estimate: Estimate | None) -> None:
    if estimate is not None:
        row = (value(metric, estimate.value), interval(metric, estimate.ci), interval(metric, estimate.pi))
        table.add_row(label, *row)


def _right(header: str) -> Column:
    return Column(header, justify="right")
