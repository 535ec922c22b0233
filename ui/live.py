"""The Live panel: launch a deployment, watch measured beside predicted, stop it. Layout only."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from planner.report import Comparison, Report
from serve.errors import ForebayError
from serve.files import load
from sim.scenario import PlannedDeployment
from ui import charts
from ui.rehearsal import Rehearsal

REFRESH_S = 1.0


def panel(folders: tuple[Path, ...]) -> None:
    """Draw the panel for the deployment files found in `folders`."""
    rehearsal: Rehearsal | None = st.session_state.get("rehearsal")
    path = _pick(folders)
    launch, stop, _ = st.columns([1, 1, 6])
    running = rehearsal is not None and rehearsal.alive
    if launch.button("Launch", disabled=running or path is None, type="primary") and path is not None:
        st.session_state["rehearsal"] = Rehearsal(path)
        st.rerun()
    if stop.button("Stop", disabled=not running) and rehearsal is not None:
        with st.spinner("draining the engine"):
            rehearsal.stop()
        st.rerun()
    if rehearsal is None:
        st.info("Launch a deployment: the engine starts here, its planned load is replayed against it.")
    elif running:
        _watch()
    else:
        _shown(rehearsal)


def _pick(folders: tuple[Path, ...]) -> Path | None:
    found = sorted({p for folder in folders for p in folder.glob("*.yaml") if _is_planned(p)})
    if not found:
        st.info("No planned deployment here yet: `make tour` or `forebay plan` writes one.")
        return None
    return st.selectbox("deployment", found, format_func=str)


def _is_planned(path: Path) -> bool:
    if not any(line.startswith("planned_for:") for line in path.read_text(errors="replace").splitlines()):
        return False
    try:
        load(path, PlannedDeployment)
    except ForebayError:
        return False
    return True


@st.fragment(run_every=REFRESH_S)
def _watch() -> None:
    """Redraw alone every second, so that the rest of the page is left in peace."""
    rehearsal: Rehearsal = st.session_state["rehearsal"]
    _shown(rehearsal)
    if not rehearsal.alive:
        st.rerun()


def _shown(rehearsal: Rehearsal) -> None:
    if rehearsal.error:
        st.error(rehearsal.error)
    if rehearsal.alive:
        st.progress(min(1.0, rehearsal.share), f"{rehearsal.deployment} at {rehearsal.url or '...'}: {rehearsal.doing}")
    else:
        st.caption(f"{rehearsal.deployment}: stopped, nothing left running")
    if rehearsal.report is not None:
        _report(rehearsal.report)


def _report(report: Report) -> None:
    (st.success if report.verdict == "ok" else st.warning)(f"**{report.verdict}**: {report.verdict_reason}")
    table, picture = st.columns(2)
    rows = [_row(c) for c in report.comparisons if c.measured is not None]
    table.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")
    picture.altair_chart(
        charts.exceedance(report.predicted.latency_cdf_s, report.runs[-1].latency_cdf_s), width="stretch"
    )
    for warning in report.warnings:
        st.caption(f"⚠ {warning}")


def _row(c: Comparison) -> dict[str, str]:
    scale, unit = (1e3, " ms") if c.unit == "s" else (1.0, "")
    return {
        "metric": c.metric,
        "predicted": "-" if c.predicted is None else f"{c.predicted * scale:,.3f}{unit}",
        "95 % interval": "-" if c.interval is None else f"{c.interval[0] * scale:,.3f} to {c.interval[1] * scale:,.3f}",
        "measured": "-" if c.measured is None else f"{c.measured * scale:,.3f}{unit}",
        "error": "-" if c.error is None else f"{c.error:+.1%}",
    }
