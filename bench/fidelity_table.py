"""From fidelity rows to what they amount to: medians against the aims, and the tables of docs/fidelity.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Row = Mapping[str, Any]

LATENCIES = ("mean_ms", "p50_ms", "p95_ms", "p99_ms")
AIMS = {"mean_ms": 0.03, "p50_ms": 0.03, "p95_ms": 0.05, "p99_ms": 0.05}
EMULATED_AIM = 0.01
CAPACITY_AIM = 0.03
BATCH_TV_AIM = 0.05
COVERAGE_AIM = (0.90, 0.99)
HALF_WIDTH_AIM = 3.0
"""Median half-width of `pi` in live-against-live differences."""


@dataclass(frozen=True, slots=True)
class Group:
    """Cells whose medians are stated together."""

    title: str
    rows: list[Row]


def groups(rows: Iterable[Row]) -> list[Group]:
    """Cells that fit the cores (real, emulated), and those that do not."""
    made = (
        ("real replicas, all fits the cores", lambda r: not r["oversubscribed"] and not r["emulated"]),
        ("emulated replicas, all fits the cores", lambda r: not r["oversubscribed"] and r["emulated"]),
        ("oversubscribed", lambda r: r["oversubscribed"]),
    )
    known = list(rows)
    return [Group(title, [r for r in known if belongs(r)]) for title, belongs in made]


def error(row: Row, metric: str) -> float | None:
    """|predicted - measured| / measured; None where one is missing."""
    return _relative(row["predicted"].get(metric), row["measured"].get(metric))


def noise(row: Row, metric: str) -> float | None:
    """|repeat - measured| / measured: what two live runs differ by."""
    return _relative(row["repeat"].get(metric), row["measured"].get(metric))


def capacity_error(row: Row) -> float | None:
    """|predicted - measured| / measured of the saturation throughput."""
    return _relative(row["capacity_rps"]["predicted"], row["capacity_rps"]["measured"])


def covered(row: Row, metric: str) -> bool | None:
    """Whether the prediction interval holds the measured value."""
    interval, value = row["interval"].get(metric), row["measured"].get(metric)
    return None if interval is None or value is None else bool(interval[0] <= value <= interval[1])


def half_width(row: Row, metric: str) -> float | None:
    """Half the width of the prediction interval, as a share of the measured value."""
    interval, value = row["interval"].get(metric), row["measured"].get(metric)
    return None if interval is None or not value else float((interval[1] - interval[0]) / 2 / value)


def _relative(value: float | None, of: float | None) -> float | None:
    return None if value is None or not of else abs(value - of) / of


def middle(rows: Sequence[Row], of: Callable[[Row], float | None]) -> float | None:
    """Median over the rows that have a value; None if none has."""
    values = [v for row in rows if (v := of(row)) is not None]
    return median(values) if values else None


def coverage(rows: Sequence[Row], metric: str) -> float | None:
    """Share of the cells whose interval covers."""
    values = [v for row in rows if (v := covered(row, metric)) is not None]
    return sum(values) / len(values) if values else None


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Per group and metric: median error, median noise, coverage, median half-width, the aim and whether it is met."""
    out: list[dict[str, Any]] = []
    for group in groups(rows):
        if not group.rows:
            continue
        out += [_latency_line(group, metric) for metric in LATENCIES]
        capacity = middle(group.rows, capacity_error)
        aim = EMULATED_AIM if group.title.startswith("emulated") else CAPACITY_AIM
        out.append(_line(group, "capacity", capacity, None, aim))
        tv = middle(group.rows, lambda r: r["batch_tv"])
        out.append(_line(group, "batch_tv", tv, None, BATCH_TV_AIM))
        out.append(_interval_line(group))
    return out


def _interval_line(group: Group) -> dict[str, Any]:
    """Coverage over all cells and latencies together, and half-widths in live-against-live differences."""
    inside = [hit for row in group.rows for m in LATENCIES if (hit := covered(row, m)) is not None]
    share = sum(inside) / len(inside) if inside else None
    ratios = [v for metric in LATENCIES if (v := width_in_noise(group.rows, metric)) is not None]
    ratio = median(ratios) if ratios else None
    met = None
    if share is not None and ratio is not None:
        met = COVERAGE_AIM[0] <= share <= COVERAGE_AIM[1] and ratio <= HALF_WIDTH_AIM
    return _line(group, "pi", None, None, HALF_WIDTH_AIM) | {"met": met, "coverage": share, "width_in_noise": ratio}


def width_in_noise(rows: Sequence[Row], metric: str) -> float | None:
    """Median half-width of the prediction intervals over the median noise; None where there is no noise."""
    width, floor = middle(rows, lambda r: half_width(r, metric)), middle(rows, lambda r: noise(r, metric))
    return None if width is None or not floor else width / floor


def _latency_line(group: Group, metric: str) -> dict[str, Any]:
    floor = middle(group.rows, lambda r: noise(r, metric))
    aim = EMULATED_AIM if group.title.startswith("emulated") else AIMS[metric]
    if metric in ("p95_ms", "p99_ms"):
        aim = max(aim, floor or 0.0)
    line = _line(group, metric, middle(group.rows, lambda r: error(r, metric)), floor, aim)
    return line | {
        "coverage": coverage(group.rows, metric),
        "half_width": middle(group.rows, lambda r: half_width(r, metric)),
    }


def _line(group: Group, metric: str, found: float | None, floor: float | None, aim: float) -> dict[str, Any]:
    return {
        "group": group.title,
        "cells": len(group.rows),
        "metric": metric,
        "error": found,
        "noise": floor,
        "aim": aim,
        "met": None if found is None else found <= aim,
        "coverage": None,
        "half_width": None,
    }


# -- markdown ------------------------------------------------------------------------------------


def markdown(rows: Sequence[Row], head: Mapping[str, Any]) -> str:
    """The generated part of docs/fidelity.md: the runs, medians against the aims, every cell."""
    parts = [_head(rows, head), _summary_table(rows), _cells_table(rows)]
    return "\n\n".join(parts) + "\n"


def _head(rows: Sequence[Row], head: Mapping[str, Any]) -> str:
    late = max((r["late_share"] for r in rows), default=0.0)
    generator = middle(rows, lambda r: r["loadgen_cpu_share"])
    day = head["last_run"][:10]
    disturbed = ", ".join(head["disturbed"])
    warning = f" **Calibrated on a disturbed machine, by their profiles: {disturbed}.**" if disturbed else ""
    return (
        f"Cells: {len(rows)}, the last of them run {day}. Each live run lasts {head['duration_s']:g} s "
        f"and is replayed once more; what the two differ by is the noise. The load generator took {_share(generator)} "
        f"of a core (median), and sent at most {late:.2%} of a cell's requests late.{warning}"
    )


def _summary_table(rows: Sequence[Row]) -> str:
    lines = [
        "| cells | metric | median error | live against live | aim | met | `pi` covers | median half-width |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    found = summary(rows)
    for line in found:
        if line["metric"] == "pi":
            continue
        distance = line["metric"] == "batch_tv"
        shown = _number if distance else _share
        lines.append(
            f"| {line['group']} ({line['cells']}) | {line['metric'].removesuffix('_ms')} | {shown(line['error'])} "
            f"| {_share(line['noise'])} | {shown(line['aim'])} | {_met(line)} | {_share(line['coverage'])} "
            f"| {_share(line['half_width'])} |"
        )
    return "\n".join(lines) + "\n\n" + "\n".join(_interval_text(line) for line in found if line["metric"] == "pi")


def _met(line: Mapping[str, Any]) -> str:
    return "-" if line["met"] is None else "yes" if line["met"] else "**no**"


def _interval_text(line: Mapping[str, Any]) -> str:
    ratio = "-" if line["width_in_noise"] is None else f"{line['width_in_noise']:.1f}"
    return (
        f"- `pi`, {line['group']}: covers {_share(line['coverage'])} of the latencies of {line['cells']} cells "
        f"(aim 90-99 %), half-width {ratio} times live against live (aim {HALF_WIDTH_AIM:g}): {_met(line)}."
    )


def _cells_table(rows: Sequence[Row]) -> str:
    lines = [
        "| model | window | replicas | arrivals | load | rate | mean: measured, error | p50 | p95 | p99 "
        "| p99 live against live | batch tv | capacity error | cores |",
        "| --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        replicas = f"{row['replicas']} {'emulated' if row['emulated'] else 'real'}"
        if row.get("router"):
            replicas += f", a node each, {row['router']}"
        latencies = " | ".join(_measured_and_error(row, metric) for metric in LATENCIES)
        lines.append(
            f"| {row['model']} | {row['window_ms']:g} ms | {replicas} | {row['arrivals']} | {row['load']:.0%} "
            f"| {row['rate_rps']:.0f}/s | {latencies} | {_share(noise(row, 'p99_ms'))} | {_number(row['batch_tv'])} "
            f"| {_share(capacity_error(row))} | {'over' if row['oversubscribed'] else 'fit'} |"
        )
    return "\n".join(lines)


def _measured_and_error(row: Row, metric: str) -> str:
    value, predicted = row["measured"].get(metric), row["predicted"].get(metric)
    if value is None:
        return "-"
    return f"{value:.2f} ms" + ("" if predicted is None else f", {(predicted - value) / value:+.1%}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
