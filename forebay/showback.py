"""The bill by who pays it, for people and for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta

from rich.table import Column, Table

from serve.errors import SpecError
from serve.files import plain
from sim.result import Charge, Result, Showback

BY = ("model", "class", "pool", "kind", "tag:NAME")
PARTS = ("useful_usd", "cold_usd", "wasted_usd", "idle_usd")
METRICS = (
    "cost_usd_per_h",
    "cost_usd_per_month",
    "cost_usd_per_1k",
    "cost_useful",
    "cost_cold",
    "cost_wasted",
    "cost_idle",
    "cost_unused",
    "cost_other",
    "cost_bound_usd_per_h",
    "cost_gap",
    "commitment_utilisation",
    "commitment_coverage",
    "effective_savings_rate",
    "idle_hours",
    "energy_kwh",
    "co2e_kg",
)
"""Metrics of the bill that a Result has if they are defined, in the order in which they are shown."""


def key_of(by: str) -> Callable[[Charge], str]:
    """What charges are put together by: `model`, `class`, `pool`, `kind` or `tag:team`; SpecError for anything else."""
    if by.startswith("tag:") and len(by) > len("tag:"):
        return lambda charge: charge.tags.get(by.removeprefix("tag:"), "")
    keys: dict[str, Callable[[Charge], str]] = {
        "model": lambda charge: charge.model or "",
        "class": lambda charge: charge.request_class or "",
        "pool": lambda charge: charge.pool or "",
        "kind": lambda charge: charge.kind,
    }
    if by not in keys:
        raise SpecError.of("--by", "", f"must be one of {', '.join(BY)}, got {by!r}")
    return keys[by]


def showback_table(showback: Showback, by: str) -> Table:
    """USD per hour by what charges are put together by: at list price, paid, and what for."""
    right = [Column(header, justify="right") for header in ("list", "paid", "useful", "cold", "wasted", "idle", "rest")]
    table = Table(by, *right, title="USD per hour")
    key = key_of(by)
    for name in sorted({key(charge) for charge in showback.charges}):
        table.add_row(name or "-", *_amounts(showback, [c for c in showback.charges if key(c) == name]))
    table.add_section()
    table.add_row("all", *_amounts(showback, showback.charges))
    return table


def _amounts(showback: Showback, charges: list[Charge]) -> list[str]:
    paid = sum(charge.effective_usd for charge in charges)
    listed = sum(charge.list_usd for charge in charges if charge.kind != "purchase")
    parts = [sum(getattr(charge, part) for charge in charges) for part in PARTS]
    return [f"{usd / showback.hours:.4g}" for usd in (listed, paid, *parts, _tidy(paid - sum(parts), paid))]


def _tidy(usd: float, of: float) -> float:
    """Without what adding up leaves behind."""
    return usd if abs(usd) > 1e-9 * max(abs(of), 1e-9) else 0.0


def bill_table(result: Result) -> Table:
    """Metrics of the bill, each with both intervals."""
    from forebay.tables import interval, value

    right = [Column(header, justify="right") for header in ("value", "95 % ci of the mean", "95 % of runs")]
    table = Table("metric", *right, title="The bill")
    for metric in METRICS:
        estimate = result.total.metrics.get(metric)
        if estimate is not None:
            row = value(metric, estimate.value), interval(metric, estimate.ci), interval(metric, estimate.pi)
            table.add_row(metric, *row)
    return table


def rows(showback: Showback) -> list[dict[str, object]]:
    """The charges in FOCUS columns, ready for a spreadsheet: every column in every row."""
    start = datetime.fromisoformat(showback.charge_period_start)
    end = (start + timedelta(hours=showback.hours)).isoformat().replace("+00:00", "Z")
    period = {"BillingCurrency": "USD", "ChargePeriodStart": showback.charge_period_start, "ChargePeriodEnd": end}
    names = [field.alias or name for name, field in Charge.model_fields.items()]
    return [period | {name: charge.get(name) for name in names} for charge in map(plain, showback.charges)]


def to_csv(showback: Showback) -> str:
    """The charges as CSV; tags as JSON, as FOCUS has them."""
    charges = rows(showback)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(charges[0]) if charges else [], lineterminator="\n")
    writer.writeheader()
    for charge in charges:
        writer.writerow(charge | {"Tags": json.dumps(charge["Tags"] or {}, sort_keys=True)})
    return text.getvalue()
