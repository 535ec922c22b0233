"""The Live panel: launch a deployment, watch measured beside predicted, stop it. Layout only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from planner.report import Comparison, Report
from planner.slo import show
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
    running = rehearsal is not None and rehearsal.alive
    with st.container(horizontal=True):
        launched = st.button("Launch", disabled=running or path is None, type="primary")
        stopped = st.button("Stop", disabled=not running)
    if launched and path is not None:
        st.session_state["rehearsal"] = Rehearsal(path, _watched())
        st.rerun()
    if stopped and rehearsal is not None:
        with st.spinner("draining the engine"):
            rehearsal.stop()
        st.rerun()
    if rehearsal is None:
        st.info(
            "Launch a deployment: the engine starts on this machine, and the load that it was planned for is replayed "
            "against it, again and again, until you stop it or close this page."
        )
    elif running:
        _watch()
    else:
        _shown(rehearsal)


def _watched() -> Callable[[], bool]:
    """Whether the browser page that draws this is still open."""
    context = get_script_run_ctx()
    assert context is not None, "only a page that is being drawn asks"
    session = context.session_id
    return lambda: runtime.get_instance().is_active_session(session)


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
    table, picture = st.columns(2, gap="medium")
    with table:
        st.markdown(f"**predicted beside measured** ({report.runs[-1].requests:,} requests)")
        st.table(pd.DataFrame([_row(c) for c in report.comparisons if c.measured is not None]).set_index("metric"))
    with picture:
        st.markdown("**share of requests that took longer**")
        st.altair_chart(
            charts.exceedance(report.predicted.latency_cdf_s, report.runs[-1].latency_cdf_s), width="stretch"
        )
        if report.warnings:
            with st.expander(f"warnings: {len(report.warnings)}"):
                st.markdown("\n".join(f"- {warning}" for warning in report.warnings))


def _row(c: Comparison) -> dict[str, str]:
    return {
        "metric": c.metric,
        "predicted": "" if c.predicted is None else show(c.metric, c.predicted),
        "95 % of runs": "" if c.interval is None else " to ".join(show(c.metric, end) for end in c.interval),
        "measured": "" if c.measured is None else show(c.metric, c.measured),
        "error": "" if c.error is None else f"{c.error:+.1%}",
        "judged": {True: "pass", False: "fail", None: ""}[c.ok],
    }
