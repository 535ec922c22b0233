"""The Report: what a deployment was predicted to do beside what it did, and the verdict."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serve.profile import Machine
from serve.spec import Name, SchemaVersion, Spec
from sim.result import Interval, Result

TOLERANCE = {"mean": 0.03, "p50": 0.03, "p95": 0.05, "p99": 0.05, "throughput": 0.03}
"""Relative error of each judged metric that is accepted even where the interval misses."""
BATCH_TV_TOLERANCE = 0.05
"""Total variation distance between predicted and measured batch sizes that is accepted."""

ReportVerdict = Literal["ok", "slo missed", "prediction off", "slo missed and prediction off"]


class Run(Spec):
    """One live replay, measured at the client and in the engine; latencies from the intended instant."""

    metrics: dict[str, float | None] = Field(description="by the names and units of the vocabulary; none: unknown")
    classes: dict[Name, dict[str, float | None]] = Field({}, description="the same of each request class")
    requests: int = Field(description="sent after the warm-up")
    answered: int = Field(description="of those, answered ok")
    batch_rows: dict[int, float] = Field(description="share of batches by their rows; empty if the log is not at hand")
    reasons: dict[str, float] = Field(description="share of batches by why they left")
    refusals: dict[str, float] = Field(description="share of requests by what became of those not answered ok")
    late_share: float = Field(description="share of requests that the generator sent late, or never")
    loadgen_cores: float = Field(description="cores that the load generator took")
    front_cores: float | None = Field(
        description="cores that the engine's front took, of a fleet's on average; none: not ours to look at"
    )
    router_cores: float | None = Field(None, description="cores that the router took; none: there is none of ours")
    strangers_cores: float | None = Field(
        None, description="cores that other processes, or the hypervisor, took meanwhile; none: not ours to tell"
    )
    latency_cdf_s: list[float] = Field(description="latency quantiles at 0, 0.5, ..., 100 %")


class Comparison(Spec):
    """One metric, predicted beside measured."""

    metric: str
    unit: str
    predicted: float | None
    interval: Interval | None = Field(description="95 % prediction interval of one run")
    measured: float | None = Field(description="median of the runs")
    runs: list[float | None]
    error: float | None = Field(description="(predicted - measured) / measured")
    noise: float | None = Field(
        description="largest difference between two runs / measured: no prediction can be better"
    )
    covered: bool | None = Field(description="whether the interval holds the measured value")
    tolerance: float | None = Field(description="relative error accepted beside the noise; none: shown, not judged")
    ok: bool | None = Field(description="covered, or the error is within tolerance or noise; none: not judged")


class BoundCheck(Spec):
    """One bound of the SLO against the live runs."""

    bound: str
    metric: str
    measured: float | None = Field(description="median of the runs")
    held: bool


class Report(Spec):
    """A deployment's prediction held against live runs of the same arrivals."""

    schema_version: SchemaVersion = 1
    deployment: str = Field(description="the deployment's file, as it was named")
    deployment_sha256: str
    date: str
    machine: Machine
    started: Literal["launched", "joined"] = Field(description="whether verify started the engine, or found it running")
    seed: int = Field(description="of the arrivals that were replayed")
    duration_s: float
    warmup_s: float = Field(description="cut from the start of both sides, the same instants")
    level: float | None = Field(
        None, description="service times just before the prediction, relative to the profile's; none: not looked at"
    )
    cold: float | None = Field(None, description="what idleness added then, relative to the profile's")
    late_us: float | None = Field(None, description="how late emulated replicas woke then, on average; none: real ones")
    front_level: float | None = Field(None, description="CPU time of the front's work then, relative to the profile's")
    predicted: Result = Field(description="simulated from the same arrival instants, before the first live run")
    rehearsed: Result | None = Field(
        None, description="as predicted, with the very service times that emulated replicas draw; none: they are real"
    )
    runs: list[Run] = Field(min_length=1)
    comparisons: list[Comparison]
    batch_tv: float | None = Field(description="total variation distance of batch sizes, predicted against measured")
    batch_tv_noise: float | None = Field(description="the same between two live runs")
    bounds: list[BoundCheck] = Field(description="the SLO, live")
    cores: int
    cores_needed: float = Field(description="replicas x threads + front + load generator, as measured")
    oversubscribed: bool = Field(description="whether that is more than there are: predictions then mean little")
    slo_met: bool
    prediction_ok: bool
    verdict: ReportVerdict
    verdict_reason: str
    warnings: list[str] = []

    @property
    def exit_code(self) -> int:
        """0 if the SLO was met and the prediction held, else 1."""
        return 0 if self.verdict == "ok" else 1


class Prediction(Spec):
    """What verify writes down before it starts the engine."""

    schema_version: SchemaVersion = 1
    deployment_sha256: str
    date: str
    seed: int
    arrivals_sha256: str = Field(description="hash of the instants and rows that both sides meet")
    level: float | None = Field(None, description="as in Report")
    cold: float | None = Field(None, description="as in Report")
    late_us: float | None = Field(None, description="as in Report")
    front_level: float | None = Field(None, description="as in Report")
    result: Result
    rehearsed: Result | None = Field(None, description="as in Report")


def facts(report: Report) -> list[str]:
    """Lines that stand beside the table of a report: batches, reasons, refusals, the generator, the cores."""
    runs = report.runs
    late = max(run.late_share for run in runs)
    generator = max(run.loadgen_cores for run in runs)
    over = ", oversubscribed" if report.oversubscribed else ""
    return [
        f"{len(runs)} live runs of {runs[0].requests:,} requests in {report.duration_s:g} s, the first "
        f"{report.warmup_s:g} s cut on both sides; seed {report.seed}",
        f"batch sizes: total variation {_number(report.batch_tv)}, between runs {_number(report.batch_tv_noise)}",
        f"batches left because: predicted {_shares(report.predicted.reasons)}; measured {_shares(runs[0].reasons)}",
        f"not answered: predicted {_shares(report.predicted.refusals)}; measured {_shares(runs[0].refusals)}",
        f"load generator: {generator:.2f} cores, {late:.2%} of the requests sent late",
        f"cores: {report.cores_needed:.2f} wanted of {report.cores}{over}",
        *_level(report),
    ]


def _level(report: Report) -> list[str]:
    if report.level is None or report.cold is None or report.front_level is None:
        return []
    replicas = f"service took {report.level:.3f} of the profile's times, idleness added {report.cold:.2f} of them"
    if report.late_us is not None:
        replicas = f"emulated replicas woke {report.late_us:.0f} us late"
    return [f"machine, just before: {replicas}, the front's work took {report.front_level:.2f}"]


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _shares(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items() if share > 0) or "none"
