"""Scenarios and deployments read with everything that can be checked before a run, all faults at once.

`serve.files` checks a file against its format; here its parts are checked against each other and
against the files that it names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serve.deployment import Deployment
from serve.errors import Fault, ProfileError, SpecError
from serve.faults import near_miss
from serve.files import bound, load, read, resolve
from serve.manifests import with_manifests
from serve.profile import Profile
from sim.claims import OF_THE_SLO, bounds_of, claims_of
from sim.law_moments import expected_requests
from sim.law_parts import files as files_named
from sim.paths import SOURCE, apply
from sim.pricing import priced
from sim.samples import read_columns
from sim.scenario import RequestClass, Scenario, Workload, claimable
from sim.slo import bounds, objective_of_all, objectives

REQUESTS_MAX = 1e10
"""Requests of one question, replications included: about an hour of simulation."""


def load_scenario(path: Path, seed: int | None = None) -> Scenario:
    """The scenario at `path` (with this seed, if one is given), its workload, claims and SLO checked against its
    deployment."""
    try:
        scenario = load(path, Scenario)
    except SpecError as error:
        raise SpecError([*error.faults, *_claim_faults_of_broken(path)]) from None
    deployment, folder, faults = _deployment(path, scenario)
    names = claimable(scenario.workload, deployment)
    faults += claims_of(scenario.expect, names, path, scenario.variants)[1]
    faults += bounds_of(scenario.slo, list(scenario.workload.classes), path)[1]
    faults += trace_faults(path, scenario.workload) + size_faults(path, scenario)
    if not faults:
        faults += objective_faults(path, scenario, names)
    if deployment is not None:
        prefix = "" if isinstance(scenario.deployment, str) else "deployment."
        faults += workload_faults(path, scenario.workload, deployment)
        if not any(choice.endswith(".max_batch") for choice in scenario.choices):
            faults += row_faults(path, scenario.workload, deployment)
        faults += profile_faults(folder, deployment, prefix) + manifest_faults(folder, deployment, prefix)
        faults += price_faults(folder, deployment, prefix)
        faults += variant_faults(path, scenario.model_copy(update={"deployment": deployment}))
    if faults:
        raise SpecError(faults)
    return scenario if seed is None else scenario.model_copy(update={"seed": seed})


def objective_faults(path: Path, scenario: Scenario, names: Collection[str]) -> list[Fault]:
    """Claims on how the SLO fares, where it names no percentile of their requests; `names`: what claims may name."""
    classes = list(scenario.workload.classes)
    claims, limits = claims_of(scenario.expect, names, path, scenario.variants)[0], bounds(scenario.slo, classes)
    wanted = dict(zip((*classes, None), (*objectives(limits, classes), objective_of_all(limits, classes)), strict=True))
    return [
        Fault(str(path), f"expect.{index}", f"{of.metric} needs a percentile of these requests in slo:, such as p99")
        for index, claim in enumerate(claims)
        for of in (claim.of, claim.than)
        if of is not None and of.metric in OF_THE_SLO and wanted.get(of.class_) is None
    ]


def variant_faults(path: Path, scenario: Scenario) -> list[Fault]:
    """Paths of `variants` and `contrast` that lead nowhere, and values that will not do; the deployment is inside."""
    changes = {f"variants.{name}": change for name, change in scenario.variants.items()}
    if scenario.contrast is not None:
        changes["contrast.set"] = scenario.contrast.set
    faults = []
    for field, change in changes.items():
        try:
            apply(scenario, change, path)
        except SpecError as error:
            faults += [Fault(str(path), f"{field}.{fault.field}", fault.message) for fault in error.faults]
    return faults


def as_set(path: Path, scenario: Scenario, overrides: Mapping[str, Any]) -> Scenario:
    """The scenario with its deployment inside and the values of `--set`; SpecError if claims or SLO are wrong then."""
    deployment, _ = deployment_of(path, scenario)
    changed = apply(scenario.model_copy(update={"deployment": deployment}), overrides)
    assert isinstance(changed.deployment, Deployment)
    names = claimable(changed.workload, changed.deployment)
    faults = claims_of(changed.expect, names, SOURCE, changed.variants)[1]
    if faults := faults + bounds_of(changed.slo, list(changed.workload.classes), SOURCE)[1]:
        raise SpecError(faults)
    return changed


def _claim_faults_of_broken(path: Path) -> list[Fault]:
    """Faults of the claims in a file whose other parts are broken: they too are told at once."""
    try:
        data = read(path)
    except SpecError:
        return []
    workload, expect, slo = (data.get(key) for key in ("workload", "expect", "slo"))
    classes = workload.get("classes") if isinstance(workload, dict) else None
    if not isinstance(classes, dict):
        return []
    # Claims that are no text have a fault already.
    texts = expect if isinstance(expect, list) else []
    bounds = (
        slo if isinstance(slo, dict) and all(isinstance(value, (str, int, float)) for value in slo.values()) else {}
    )
    names = [str(name) for name in classes]
    variants = data.get("variants")
    known = [str(name) for name in variants] if isinstance(variants, dict) else []
    texts_at = {index: text for index, text in enumerate(texts) if isinstance(text, str)}
    claims = [fault for index, text in texts_at.items() for fault in _claim_faults(index, text, names, path, known)]
    return claims + bounds_of({str(k): v for k, v in bounds.items()}, names, path)[1]


def _claim_faults(index: int, text: str, classes: list[str], path: Path, variants: list[str]) -> list[Fault]:
    return [Fault(f.file, f"expect.{index}", f.message) for f in claims_of([text], classes, path, variants)[1]]


def load_deployment(path: Path) -> Deployment:
    """The deployment at `path`; the profiles and model files that it names must be there."""
    deployment = load(path, Deployment)
    faults = profile_faults(path, deployment) + manifest_faults(path, deployment) + file_faults(path, deployment)
    faults += price_faults(path, deployment)
    if faults:
        raise SpecError(faults)
    return deployment


def deployment_of(path: Path, scenario: Scenario) -> tuple[Deployment, Path]:
    """The deployment that a scenario holds or names, and the file that its paths are relative to."""
    if isinstance(scenario.deployment, Deployment):
        return scenario.deployment, path
    named = resolve(path, scenario.deployment)
    return load(named, Deployment), named


def _deployment(path: Path, scenario: Scenario) -> tuple[Deployment | None, Path, list[Fault]]:
    """As `deployment_of`, faults collected."""
    try:
        return *deployment_of(path, scenario), []
    except SpecError as error:
        if not isinstance(scenario.deployment, str):
            return None, path, error.faults
        # A file that cannot be read at all is the fault of the line that names it.
        faults = [f if f.field else Fault(str(path), "deployment", f"{f.file}: {f.message}") for f in error.faults]
        return None, path, faults


def workload_faults(path: Path, workload: Workload, deployment: Deployment) -> list[Fault]:
    """What the classes of a workload ask for and the deployment does not have."""
    return [
        Fault(str(path), f"workload.classes.{name}.{field}", message)
        for name, class_ in workload.classes.items()
        for field, message in _class_faults(class_, deployment)
    ]


def _class_faults(class_: RequestClass, deployment: Deployment) -> Iterator[tuple[str, str]]:
    models = deployment.models
    if class_.model is None and len(models) > 1:
        yield "model", f"is missing; the deployment has {', '.join(models)}"
        return
    if class_.model is not None and class_.model not in models:
        yield "model", f"is not in the deployment, got {class_.model!r}; {near_miss(class_.model, models)}"
        return
    queue = models[class_.model or next(iter(models))].queue
    if class_.priority >= queue.priority_levels:
        yield "priority", f"must be below the model's priority_levels ({queue.priority_levels}), got {class_.priority}"


def row_faults(path: Path, workload: Workload, deployment: Deployment) -> list[Fault]:
    """Classes none of whose requests fits a batch: each of them would be answered invalid (rule 1)."""
    faults = []
    for name, class_ in workload.classes.items():
        model = deployment.models.get(class_.model or next(iter(deployment.models)))
        least = class_.rows if isinstance(class_.rows, int) else min(r for r, weight in class_.rows.items() if weight)
        if model is not None and least > model.batching.max_batch:
            message = f"must fit the model's max_batch ({model.batching.max_batch}), got {least}"
            faults.append(Fault(str(path), f"workload.classes.{name}.rows", message))
    return faults


def trace_faults(path: Path, workload: Workload) -> list[Fault]:
    """Traces and files of counts that are not there."""
    named = [field_and_file for where, law in workload.laws for field_and_file in files_named(law, f"workload.{where}")]
    return _missing(path, named)


def size_faults(path: Path, scenario: Scenario) -> list[Fault]:
    """A workload that would take hours to simulate, whatever it says."""
    workload = scenario.workload
    expected = [expected_requests(law, workload.duration) for _, law in workload.laws]
    requests = sum(expected) * scenario.replications
    if requests <= REQUESTS_MAX:
        return []
    message = f"at these rates and {scenario.replications} replications makes {requests:.2g} requests"
    return [Fault(str(path), "workload.duration", f"{message}; at most {REQUESTS_MAX:.0e} are simulated")]


def profile_faults(path: Path, deployment: Deployment, prefix: str = "") -> list[Fault]:
    """Profiles that are not there; `path` is the file that holds the deployment, under `prefix`."""
    named = [
        (f"{prefix}models.{name}.{model.path_to(version_name)}{where}", profile)
        for name, model in deployment.models.items()
        for version_name, version in model.all_versions.items()
        for where, profile in version.profiles.items()
    ]
    return _missing(path, named)


def price_faults(path: Path, deployment: Deployment, prefix: str = "") -> list[Fault]:
    """Types and prices that are not known, and a price file that is not there or cannot be used."""
    if deployment.prices is not None and (missing := _missing(path, [(f"{prefix}prices", deployment.prices)])):
        return missing
    try:
        priced(deployment, path.parent)
    except SpecError as error:
        own = [fault.file == "deployment" for fault in error.faults]
        return [
            Fault(str(path), f"{prefix}{fault.field}", fault.message) if mine else fault
            for fault, mine in zip(error.faults, own, strict=True)
        ]
    return []


def manifest_faults(path: Path, deployment: Deployment, prefix: str = "") -> list[Fault]:
    """Autoscalers' own files that are not there, or ask for what is not simulated."""
    try:
        with_manifests(deployment, path)
    except SpecError as error:
        return [f if f.file != str(path) else Fault(f.file, f"{prefix}{f.field}", f.message) for f in error.faults]
    return []


def sample_faults(path: Path, profile: Profile) -> list[Fault]:
    """Raw samples that are not there, are not those that the profile was made from, or cannot be read."""
    if profile.samples.rows == 0:
        return []
    try:
        read_columns(bound(path, "samples", profile.samples))
    except SpecError as error:
        return error.faults
    except ProfileError as error:
        return [Fault(str(path), "samples.file", str(error))]
    return []


def file_faults(path: Path, deployment: Deployment) -> list[Fault]:
    """Model files that are not there, of the models that need one."""
    needed = [
        (f"models.{name}.{model.path_to(version_name)}file", version.file)
        for name, model in deployment.models.items()
        if model.backend != "emulated"
        for version_name, version in model.all_versions.items()
    ]
    return _missing(path, [(field, file) for field, file in needed if file is not None])


def _missing(path: Path, named: Collection[tuple[str, str]] | Iterator[tuple[str, str]]) -> list[Fault]:
    return [
        Fault(str(path), field, f"{_what_is_there(resolve(path, name))}: {resolve(path, name)}")
        for field, name in named
        if not resolve(path, name).is_file()
    ]


def _what_is_there(path: Path) -> str:
    if path.is_dir():
        return "is a folder, not a file"
    return "is a device or a pipe, not a file" if path.exists() else "there is no such file"


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Faults of a scenario that was handed on without its file's name get that name."""
    try:
        yield
    except SpecError as error:
        raise SpecError(
            [Fault(str(path), f.field, f.message) if f.file == "scenario" else f for f in error.faults]
        ) from None
