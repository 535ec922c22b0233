"""Tables for people: how bursty arrivals are, and which laws were fitted to them."""

from __future__ import annotations

from rich.table import Column, Table

from forebay.fitting import Fitted
from sim.law_parts import kind


def scales_table(fitted: Fitted) -> Table:
    """The index of dispersion and the peak by time scale, beside one run of the best law."""
    headers = ("IDC", "+-", "IDC of the best law", "peak/mean", "bins")
    table = Table("time scale", *(Column(header, justify="right") for header in headers))
    table.caption = "IDC: variance over mean of the counts; 1 is Poisson. The law's is that of one run."
    drawn = fitted.drawn_idc
    for scale in fitted.measured.scales:
        idc = drawn.get(scale.scale_s)
        table.add_row(
            f"{scale.scale_s:g}s",
            f"{scale.idc:.3g}",
            f"{scale.se:.2g}",
            "-" if idc is None else f"{idc:.3g}",
            f"{scale.peak_to_mean:.3g}",
            f"{scale.bins:,}",
        )
    return table


def laws_table(fitted: Fitted) -> Table:
    """The fitted laws, the best first."""
    table = Table("law", Column("parameters", justify="right"), Column("better than Poisson", justify="right"))
    table.caption = f"nats per {fitted.unit}, on the later half of the file, by a fit to the earlier one"
    for fit in fitted.fits:
        table.add_row(kind(fit.law)[0], str(fit.parameters), f"{fitted.gain(fit):+.4f}")
    return table


def rate_line(fitted: Fitted) -> str:
    """Rate and gaps, in a line."""
    measured = fitted.measured
    parts = [f"{measured.requests:,} requests in {measured.span_s:.6g} s: {measured.rate_rps:.4g}/s"]
    if measured.gap_cv is not None:
        parts.append(f"cv of the gaps {measured.gap_cv:.3g}")
    if measured.gap_lag1 is not None:
        parts.append(f"correlation with the next {measured.gap_lag1:+.2f}")
    return ", ".join(parts)
