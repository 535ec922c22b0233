"""`autoscaler: {from: FILE}`: a deployment whose autoscaler is another project's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forebay.inputs import load_deployment, load_scenario
from serve.autoscaler import Hpa, Keda, Kpa, Manifest, RayServe
from serve.deployment import Deployment
from serve.errors import SpecError
from serve.files import load, plain, save
from serve.manifests import with_manifests
from sim.simulate import simulate
from tests.profiles import Synthetic, write_profile
from tests.serve.manifests.test_read import HPA, KEDA, KNATIVE, RAY

DEPLOYMENT = """
schema_version: 1
models:
  m:
    backend: emulated
    profile: toy.yaml
    queue: {per: replica}
    replicas: {autoscaler: {from: scaling/theirs.yaml}, start_up: 2s}
pools: {here: {nodes: 20, cores: 1, price: 1 USD/h}}
router: {policy: p2c}
"""
SCENARIO = """
# Does their HPA follow a spike?
schema_version: 1
seed: 1
replications: 2
workload:
  duration: 60s
  classes: {a: {arrivals: {spike: {base: 30/s, peak: 900/s, at: 10s, for: 30s, up: 5s, down: 5s}}}}
deployment: fleet.yaml
"""


def written(folder: Path, manifest: str, deployment: str = DEPLOYMENT) -> Path:
    write_profile(folder, Synthetic(samples=0))
    (folder / "scaling").mkdir()
    (folder / "scaling" / "theirs.yaml").write_text(manifest)
    (folder / "s.yaml").write_text(SCENARIO)
    path = folder / "fleet.yaml"
    path.write_text(deployment)
    return path


@pytest.mark.parametrize(
    ("manifest", "kind", "bounds"),
    [(HPA, Hpa, (1, 1, 10)), (KEDA, Keda, (0, 1, 20)), (KNATIVE, Kpa, (0, 1, 3)), (RAY, RayServe, (0, 1, 200))],
)
def test_the_file_gives_autoscaler_and_bounds(
    tmp_path: Path, manifest: str, kind: type, bounds: tuple[int, int, int]
) -> None:
    path = written(tmp_path, manifest)
    replicas = with_manifests(load_deployment(path), path).models["m"].replicas
    assert isinstance(replicas.autoscaler, kind)
    assert (replicas.min, replicas.count, replicas.max) == bounds


def test_it_begins_at_the_least_or_where_the_file_says(tmp_path: Path) -> None:
    path = written(tmp_path, HPA.replace("minReplicas: 1", "minReplicas: 4"))
    assert with_manifests(load(path, Deployment), path).models["m"].replicas.count == 4
    (tmp_path / "scaling" / "theirs.yaml").write_text(RAY.replace("initial_replicas: 0", "initial_replicas: 6"))
    assert with_manifests(load(path, Deployment), path).models["m"].replicas.count == 6


def test_a_scenario_that_names_it_scales_as_one_that_says_it(tmp_path: Path) -> None:
    path = written(tmp_path, HPA)
    question = load_scenario(tmp_path / "s.yaml")
    found = simulate(question, base=tmp_path)
    assert (found.total.metrics["scale_ups"].value or 0) > 0
    said: dict[str, Any] = plain(with_manifests(load(path, Deployment), path))
    assert said["models"]["m"]["replicas"]["autoscaler"]["kind"] == "hpa"
    again = question.model_copy(update={"deployment": Deployment.model_validate(said)})
    assert simulate(again, base=tmp_path).total == found.total


def test_what_names_a_file_is_written_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, HPA)
    deployment = load(path, Deployment)
    save(tmp_path / "again.yaml", deployment)
    assert load(tmp_path / "again.yaml", Deployment) == deployment
    assert isinstance(deployment.models["m"].replicas.autoscaler, Manifest)


def test_faults_name_their_file_and_come_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, HPA.replace("maxReplicas: 10", "maxReplicas: ten").replace("name: cpu", "name: memory"))
    with pytest.raises(SpecError) as told:
        load_scenario(tmp_path / "s.yaml")
    assert [fault.file for fault in told.value.faults] == [str(tmp_path / "scaling" / "theirs.yaml")] * 2
    path.write_text(DEPLOYMENT.replace("theirs.yaml", "gone.yaml"))
    with pytest.raises(SpecError, match=r"gone\.yaml: cannot be read"):
        load_deployment(path)
    path.write_text(DEPLOYMENT.replace("start_up: 2s", "max: 7, min: 0"))
    with pytest.raises(SpecError, match=r"replicas\.max: is .*theirs\.yaml's to say; leave it out") as told:
        load_deployment(path)
    assert len(told.value.faults) == 2
    path.write_text(DEPLOYMENT.replace("{from: scaling/theirs.yaml}", "{from: scaling/theirs.yaml, kind: hpa}"))
    with pytest.raises(SpecError, match="from"):
        load_deployment(path)
