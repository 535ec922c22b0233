"""The What-if page: move a slider, read the verdict. Layout only; the numbers come from `simulate`."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from serve.deployment import FRONT_SHARE, Deployment, with_profiles
from serve.errors import ForebayError, SpecError
from serve.files import load, resolve
from serve.profile import Profile
from serve.units import parse_duration_ns
from sim.paths import apply
from sim.result import Estimate, Result
from sim.scenario import Scenario
from sim.simulate import simulate
from ui import charts
from ui.course import Course, course, is_changing
from ui.question import Knobs, asked, batch_max, knobs_of, open_rate_rps

HAPPENED = ("scale_ups", "scale_downs", "flaps", "deaths", "node_losses", "reclaims", "rollouts", "rollbacks")
"""Metrics of what changes over time: those that are not 0 are shown."""

LOADS = (0.25, 0.5, 0.7, 0.85, 1.0, 1.15, 1.3, 1.5)
"""Multiples of the slider's rate at which the curve is drawn."""

EVENTS_SHOWN = 8
"""Lines of what befell replicas and machines."""

SHOWN = {"mean": "mean", "p50": "p50", "p95": "p95", "p99": "p99", "p99.9": "p99.9"}


def page(folders: tuple[Path, ...]) -> None:
    """Draw the page for the scenario files found in `folders`."""
    controls, answer = st.columns([1, 3], gap="large")
    with controls:
        path = _pick(folders)
    with answer:
        if path is None:
            st.info("No scenario files here yet: `make tour` writes one, `forebay new` another.")
            return
        try:
            scenario = _open(path, path.stat().st_mtime_ns)
        except SpecError as error:
            st.error(str(error))
            return
    with controls:
        st.caption(_first_comment(path))
        scenario = _varied(scenario, key=str(path))
        try:
            model, knobs = _asked(scenario, path.parent, key=str(path))
        except ForebayError as error:
            answer.error(str(error))
            return
    with answer:
        _answer(scenario, path.parent, model, knobs)


def _varied(scenario: Scenario, key: str) -> Scenario:
    """The scenario as one of its variants has it; the sliders go on from there."""
    if not scenario.variants:
        return scenario
    name = st.selectbox("variant", list(scenario.variants), key=f"{key} variant")
    return apply(scenario, scenario.variants[name])


def _pick(folders: tuple[Path, ...]) -> Path | None:
    found = sorted(p for folder in folders for p in folder.glob("*.yaml") if _is_scenario(p))
    if not found:
        return None
    return st.selectbox("scenario", found, format_func=lambda p: f"{p.parent.name}/{p.name}")


def _is_scenario(path: Path) -> bool:
    return any(line.startswith("workload:") for line in path.read_text(errors="replace").splitlines())


def _first_comment(path: Path) -> str:
    lines = (line for line in path.read_text(errors="replace").splitlines() if line.startswith("# "))
    return next((line[2:] for line in lines if "yaml-language-server" not in line), "")


@st.cache_data(show_spinner=False)
def _open(path: Path, changed_ns: int) -> Scenario:
    """The scenario with its deployment inside (read anew when the file changed)."""
    scenario = load(path, Scenario)
    if isinstance(scenario.deployment, Deployment):
        return scenario
    file = resolve(path.absolute(), scenario.deployment)
    deployment = load(file, Deployment)
    models = {
        name: with_profiles(model, lambda profile: str(resolve(file, profile)))
        for name, model in deployment.models.items()
    }
    return scenario.model_copy(update={"deployment": deployment.model_copy(update={"models": models})})


@st.cache_data(show_spinner=False, max_entries=500)
def _simulated(text: str, base: Path, _scenario: Scenario) -> Result:
    """Cached by the scenario's own text, so that going back to an old setting is free."""
    return simulate(_scenario, base=base)


def _result(scenario: Scenario, base: Path) -> Result:
    return _simulated(scenario.model_dump_json(), base, scenario)


def _asked(scenario: Scenario, base: Path, key: str) -> tuple[str, Knobs]:
    """The model whose knobs are shown, and where they stand."""
    assert isinstance(scenario.deployment, Deployment)
    models = list(scenario.deployment.models)
    model = models[0] if len(models) == 1 else st.selectbox("model", models)
    spec = scenario.deployment.models[model]
    profile = load(resolve(base / "scenario.yaml", next(iter(spec.main.profiles.values()))), Profile)
    return model, _sliders(scenario, model, batch_max(profile, spec.replicas.threads), key)


def _answer(scenario: Scenario, base: Path, model: str, knobs: Knobs) -> None:
    try:
        result = _result(asked(scenario, model, knobs), base)
    except (ForebayError, ValueError) as error:
        st.error(str(error))
        return
    _headline(result, knobs)
    _refusals(result, knobs)
    _happened(result)
    left, right = st.columns(2)
    left.markdown("**batches**")
    left.altair_chart(charts.batch_histogram(result.batch_rows), width="stretch")
    right.markdown("**where the time goes**")
    right.altair_chart(charts.breakdown(result), width="stretch")
    with right:
        _notes(result)
    if is_changing(scenario):
        st.markdown("**replicas over time** (one run)")
        _course(asked(scenario, model, knobs), base)
        return
    st.markdown("**latency against load** (95 % prediction interval of one run)")
    _curve(scenario, base, model, knobs)


def _course(scenario: Scenario, base: Path) -> None:
    """When replicas came and went, and what befell them."""
    found = _run(scenario.model_dump_json(), base, scenario)
    st.altair_chart(charts.replicas_over_time(found), width="stretch")
    for second, text in found.events[:EVENTS_SHOWN]:
        st.caption(f"{second / 60:.1f} min: {text}")
    if len(found.events) > EVENTS_SHOWN:
        st.caption(f"and {len(found.events) - EVENTS_SHOWN} more")


@st.cache_data(show_spinner=False, max_entries=100)
def _run(text: str, base: Path, _scenario: Scenario) -> Course:
    return course(_scenario, base)


def _refusals(result: Result, knobs: Knobs) -> None:
    """Why requests were not answered, and what the front's patience has to do with the SLO."""
    if not result.refusals:
        return
    reasons = ", ".join(f"{reason} {share:.1%}" for reason, share in result.refusals.items())
    budget_ms = knobs.p99_ms / FRONT_SHARE
    front = (
        f" (front: waited over {budget_ms:g} ms to be read, a tenth of the SLO, unless `front.budget` says otherwise)"
    )
    st.caption(f"not answered, by reason: {reasons}{front if 'front' in result.refusals else ''}")


def _happened(result: Result) -> None:
    """What changed over time, on average over runs, and each version's latency."""
    values = {name: one.value for name in HAPPENED if (one := result.total.metrics.get(name)) is not None}
    told = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in values.items() if value]
    if told:
        st.caption(f"what happened: {', '.join(told)}")
    for name, part in result.versions.items():
        p50, p99 = (part.metrics[metric].value for metric in ("p50", "p99"))
        shown = "no answers" if p50 is None or p99 is None else f"p50 {p50 * 1e3:.3g} ms, p99 {p99 * 1e3:.3g} ms"
        st.caption(f"{name}: {_shown(part.metrics['throughput'], '{:,.0f}/s')}, {shown}")


def _sliders(scenario: Scenario, model: str, batch_max: int, key: str) -> Knobs:
    start = knobs_of(scenario, model)
    rate = start.rate_rps
    if open_rate_rps(scenario):
        step = max(0.1, round(rate / 50, 1))
        rate = st.slider("rate, requests/s", step, round(3 * rate, 1), rate, step, "%.1f", key=f"{key} rate")
    cv = st.slider("burstiness (cv of gaps; 1 is Poisson)", 0.2, 5.0, float(start.cv), 0.1, "%.1f", key=f"{key} cv")
    longest = max(20.0, 2 * start.window_ms)
    window = st.slider("window, ms", 0.0, longest, start.window_ms, 0.5, "%.1f", key=f"{key} window")
    batch = 1
    if batch_max > 1:
        batch = st.slider("max batch, rows", 1, batch_max, min(start.max_batch, batch_max), key=f"{key} batch")
    replicas = st.slider("replicas", 1, max(8, start.replicas), start.replicas, key=f"{key} replicas")
    slo = st.slider("SLO on p99, ms", 1.0, 500.0, _slo_ms(scenario), 0.5, "%.1f", key=f"{key} slo")
    return Knobs(rate, cv, window, batch, replicas, slo)


def _slo_ms(scenario: Scenario) -> float:
    stated = scenario.slo.get("p99")
    return min(500.0, max(1.0, parse_duration_ns(stated) / 1e6)) if isinstance(stated, str) else 50.0


def _headline(result: Result, knobs: Knobs) -> None:
    p99 = result.total.metrics["p99"]
    if result.verdict == "unstable" or p99.value is None:
        st.error(f"**{result.verdict}**: {result.verdict_reason}")
    elif p99.pi is not None and p99.pi[1] * 1e3 <= knobs.p99_ms and result.verdict != "overloaded":
        st.success(f"**SLO held**: p99 stays under {knobs.p99_ms:g} ms in 95 % of runs ({result.verdict})")
    else:
        why = f"{result.verdict}: {result.verdict_reason}"
        st.warning(f"**SLO not held**: p99 under {knobs.p99_ms:g} ms is not certain ({why})")
    for column, (name, label) in zip(st.columns(len(SHOWN)), SHOWN.items(), strict=True):
        _metric_time(column, label, result.total.metrics[name])
    numbers = st.columns(5)
    metrics = result.total.metrics
    numbers[0].metric("throughput", _shown(metrics["throughput"], "{:,.0f}/s"))
    numbers[1].metric("busy", _shown(metrics["busy"], "{:.0%}"))
    numbers[2].metric("refused", _shown(metrics["refused"], "{:.2%}"))
    numbers[3].metric("USD per 1,000", _shown(metrics["cost_usd_per_1k"], "{:.3g}"))
    numbers[4].metric("capacity", "-" if result.capacity_rps is None else f"{result.capacity_rps:,.0f}/s")


def _metric_time(column: st.delta_generator.DeltaGenerator, label: str, estimate: Estimate) -> None:
    if estimate.value is None or estimate.pi is None:
        column.metric(label, "-")
        return
    word, factor = charts.unit(estimate.value)
    low, high = (bound * factor for bound in estimate.pi)
    shown = f"{estimate.value * factor:.2f} {word}"
    column.metric(label, shown, f"{low:.2f} to {high:.2f}", delta_color="off", delta_arrow="off")


def _shown(estimate: Estimate, form: str) -> str:
    return "-" if estimate.value is None else form.format(estimate.value)


def _notes(result: Result) -> None:
    for warning in result.warnings:
        st.caption(f"⚠ {warning}")
    st.caption(f"{result.requests:,} requests simulated in {result.replications} replications; numbers {result.origin}")


def _curve(scenario: Scenario, base: Path, model: str, knobs: Knobs) -> None:
    """Fill the curve in point by point, so that the headline does not wait for it."""
    if not open_rate_rps(scenario):
        st.caption("A trace or a closed loop has no rate to vary.")
        return
    place = st.empty()
    points: list[tuple[float, Result]] = []
    for load_factor in LOADS:
        rate = knobs.rate_rps * load_factor
        moved = Knobs(rate, knobs.cv, knobs.window_ms, knobs.max_batch, knobs.replicas, knobs.p99_ms)
        points.append((rate, _result(asked(scenario, model, moved), base)))
        place.altair_chart(charts.latency_against_load(points, knobs.p99_ms, knobs.rate_rps), width="stretch")
