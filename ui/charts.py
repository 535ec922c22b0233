"""The app's charts: each takes a Result (or several) and returns an Altair chart; no logic of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from sim.result import Result
from ui.course import Course

Chart = alt.Chart | alt.LayerChart | alt.FacetChart

BLUE = "#2b6cb0"
ORANGE = "#dd6b20"
RED = "#c53030"
PARTS = {
    "front_delay": "front",
    "queue_delay": "queue",
    "slot_delay": "second slot",
    "compute": "compute",
    "answer_delay": "answer",
    "client_delay": "client",
}
PART_COLOURS = ["#718096", "#dd6b20", "#f6ad55", "#2b6cb0", "#63b3ed", "#cbd5e0"]
"""Waiting in orange, the model's work and its answer in blue, what surrounds them in grey."""


READ_IN_S = 2.0
"""Charts and tiles whose largest time is this long are read in seconds, others in milliseconds."""


def unit(most_s: float) -> tuple[str, float]:
    """What times up to this one are read in, and how many of it a second has."""
    return ("s", 1.0) if most_s >= READ_IN_S else ("ms", 1e3)


def replicas_over_time(course: Course) -> Chart:
    """Replicas that are there, by version, and what befell them."""
    rows = [(second / 60, count, name) for name, steps in course.replicas.items() for second, count in steps]
    data = pd.DataFrame(rows, columns=["minute", "replicas", "version"])
    lines = (
        alt.Chart(data)
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("minute:Q", title="minutes"),
            y=alt.Y("replicas:Q", title="replicas", axis=alt.Axis(tickMinStep=1)),
            color=alt.Color("version:N", legend=alt.Legend(title=None, orient="top")),
        )
    )
    told = pd.DataFrame([(second / 60, text) for second, text in course.events], columns=["minute", "what"])
    rules = alt.Chart(told).mark_rule(color=RED, strokeDash=[4, 3]).encode(x="minute:Q", tooltip=["what:N"])
    chart: Chart = lines + rules if len(told) else lines
    return chart.properties(height=220)


def latency_against_load(points: Sequence[tuple[float, Result]], slo_ms: float, rate_rps: float) -> Chart:
    """p50 and p99 with their prediction intervals over the offered rate, the SLO and where the slider stands."""
    rows = [
        {"rate": rate, "percentile": name, "latency": e.value, "low": e.pi[0], "high": e.pi[1]}
        for rate, result in points
        for name in ("p50", "p99")
        if (e := result.total.metrics[name]).value is not None and e.pi is not None
    ]
    here_s = [float(row["latency"]) for row in rows if row["rate"] == rate_rps]
    ceiling_s = max([3e-3 * slo_ms, *(1.5 * value for value in here_s)])
    word, factor = unit(ceiling_s)
    columns = ["latency", "low", "high"]
    data = pd.DataFrame(rows, columns=["rate", "percentile", *columns])
    data[columns] = data[columns].astype(float) * factor
    scale = alt.Scale(domain=[0, ceiling_s * factor], clamp=True)
    colour = alt.Color(
        "percentile:N",
        scale=alt.Scale(domain=["p50", "p99"], range=[BLUE, ORANGE]),
        legend=alt.Legend(title=None, orient="top", symbolOpacity=1, symbolType="stroke"),
    )
    base = alt.Chart(data).encode(x=alt.X("rate:Q", title="offered rate, requests/s", scale=alt.Scale(zero=True)))
    band = base.mark_area(opacity=0.2).encode(
        y=alt.Y("low:Q", scale=scale, title=f"latency, {word}"), y2=alt.Y2("high:Q"), color=colour
    )
    line = base.mark_line(point=True).encode(
        y=alt.Y("latency:Q", scale=scale),
        color=colour,
        tooltip=[
            alt.Tooltip("rate:Q", title="requests/s", format=",.1f"),
            "percentile:N",
            *(
                alt.Tooltip(f"{c}:Q", title=t, format=",.2f")
                for c, t in (("latency", word), ("low", "from"), ("high", "to"))
            ),
        ],
    )
    slo = pd.DataFrame({"latency": [slo_ms * 1e-3 * factor], "text": [f"SLO {slo_ms:g} ms"]})
    bound = alt.Chart(slo).mark_rule(color=RED, strokeDash=[6, 4]).encode(y="latency:Q")
    label = (
        alt.Chart(slo).mark_text(color=RED, align="right", dx=-4, dy=-7, x="width").encode(y="latency:Q", text="text:N")
    )
    here = alt.Chart(pd.DataFrame({"rate": [rate_rps]})).mark_rule(color="#4a5568").encode(x="rate:Q")
    return alt.layer(band, line, bound, label, here).properties(height=320)


def batch_histogram(shares: Mapping[int, float]) -> Chart:
    """Share of batches by their rows."""
    data = pd.DataFrame({"rows": list(shares), "share": list(shares.values())})
    chart: Chart = (
        alt.Chart(data)
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("rows:O", title="rows in a batch", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("share:Q", title="share of batches", axis=alt.Axis(format="%")),
            tooltip=["rows", alt.Tooltip("share:Q", format=".2%")],
        )
        .properties(height=240)
    )
    return chart


def breakdown(result: Result) -> Chart:
    """Where the mean latency goes, part by part in the order in which a request meets them."""
    metrics = result.total.metrics
    parts = {label: metrics[name].value for name, label in PARTS.items() if name in metrics}
    values = {label: value for label, value in parts.items() if value is not None}
    word, factor = unit(sum(values.values()))
    data = pd.DataFrame(
        [
            {"row": "", "part": label, "time": value * factor, "order": i}
            for i, (label, value) in enumerate(values.items())
        ],
        columns=["row", "part", "time", "order"],
    )
    chart: Chart = (
        alt.Chart(data)
        .mark_bar(size=36)
        .encode(
            x=alt.X("time:Q", title=f"mean latency, {word}", stack="zero"),
            y=alt.Y("row:N", title=None, axis=None),
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=list(PARTS.values()), range=PART_COLOURS),
                legend=alt.Legend(title=None, orient="bottom", columns=3),
            ),
            order=alt.Order("order:Q"),
            tooltip=["part:N", alt.Tooltip("time:Q", title=word, format=".3f")],
        )
        .properties(height=170)
    )
    return chart


def exceedance(predicted_s: Sequence[float], measured_s: Sequence[float]) -> Chart:
    """Share of requests slower than x, predicted and measured, from quantiles at even steps."""
    word, factor = unit(max([*predicted_s, *measured_s], default=0.0))
    rows = [
        {"which": which, "latency": value * factor, "slower": max(1 - i / (len(quantiles) - 1), 1e-3)}
        for which, quantiles in (("predicted", predicted_s), ("measured", measured_s))
        for i, value in enumerate(quantiles)
    ]
    data = pd.DataFrame(rows, columns=["which", "latency", "slower"])
    chart: Chart = (
        alt.Chart(data)
        .mark_line()
        .encode(
            x=alt.X("latency:Q", title=f"latency, {word}"),
            y=alt.Y(
                "slower:Q",
                title="share of requests",
                scale=alt.Scale(type="log", domain=[1e-3, 1]),
                axis=alt.Axis(values=[1, 0.1, 0.01, 0.001], format="~%"),
            ),
            color=alt.Color(
                "which:N",
                scale=alt.Scale(domain=["predicted", "measured"], range=[BLUE, ORANGE]),
                legend=alt.Legend(title=None, orient="top"),
            ),
            order=alt.Order("slower:Q", sort="descending"),
        )
        .properties(height=320)
    )
    return chart
