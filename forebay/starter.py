"""The scenario that `forebay new` writes: a profile, a rate and an SLO made into a file to start from."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from planner.space import powers_to
from serve.batching import Batching
from serve.deployment import Deployment, Model, Pool, Queue, Replicas
from serve.errors import Fault, SpecError
from serve.files import resolve
from serve.profile import Profile
from serve.units import format_rate
from sim.claims import LOWER_BOUNDED, parse_bound
from sim.scenario import Arrivals, RequestClass, Scenario, Workload

PRICE = "0.35 USD/h"
"""Assumed until the user writes what the machine costs; marked so in the file."""
START_WINDOW = "2ms"
DURATION = "60s"

COMMENTS = {
    "": "What should run so that the SLO holds, and at what price?\n"
    "forebay simulate THIS: what this deployment would do.  forebay plan THIS -o DEPLOYMENT: the cheapest that holds.",
    "seed": "Same seed, same result; another seed, another day.",
    "replications": "Independent runs; the intervals come from them.",
    "workload": "What arrives: poisson, constant, gamma (bursts), trace (a file) or closed (clients that wait).",
    "deployment": "What runs. This is the starting point; `choices` below says what plan may change.",
    "deployment.pools": "What it runs on. The price is assumed: write yours.",
    "slo": "What must hold, in a run of this length, 19 times of 20.",
    "choices": "Only plan reads these: a path into the deployment, and the values to try (a list, or 1..4).",
}
"""Comment by path, in the file that is written."""

_BOUND = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*(<=|>=|<|>)\s*(\S.*?)\s*")


def starter(
    profile: Profile, profile_path: Path, scenario_path: Path, rate_rps: float, slo: dict[str, str]
) -> Scenario:
    """A scenario about the profile's model at a Poisson rate; paths in it are relative to `scenario_path`."""
    folder = scenario_path.parent
    model = profile.model
    threads = sorted({cell.threads for cell in profile.service})
    name = f"models.{profile.name}"
    return Scenario(
        workload=Workload(
            duration=DURATION,
            classes={"requests": RequestClass(arrivals=Arrivals(poisson=format_rate(rate_rps)))},
        ),
        deployment=Deployment(
            models={
                profile.name: Model(
                    file=_relative(resolve(profile_path, model.file), folder),
                    profile=_relative(profile_path, folder),
                    backend=profile.backend,
                    batching=Batching(max_batch=model.max_batch, window=START_WINDOW),
                    queue=Queue(),
                    replicas=Replicas(threads=threads[0]),
                )
            },
            pools={"here": Pool(nodes=1, cores=profile.machine.cores, price=PRICE)},
        ),
        slo=dict(slo),
        choices={
            f"{name}.batching.window": ["0ms", "1ms", "2ms", "5ms", "10ms"],
            f"{name}.batching.max_batch": powers_to(model.max_batch),
            f"{name}.replicas.count": f"1..{profile.machine.cores}",
            f"{name}.replicas.threads": list(threads),
            f"{name}.replicas.slots": [1, 2],
        },
    )


def slo_of(flags: Sequence[str]) -> dict[str, str]:
    """`--slo 'p99<100ms'` as the mapping that files hold; several may stand in one flag, parted by commas.

    Raises
    ------
    SpecError : every flag that cannot be read.
    """
    slo: dict[str, str] = {}
    faults: list[Fault] = []
    for text in (part for flag in flags for part in flag.split(",") if part.strip()):
        try:
            name, value = _bound(text)
            if name in slo:
                raise ValueError(f"bounds {name} twice, by {slo[name]} and {value}; keep one")
            slo[name] = value
        except ValueError as error:
            faults.append(Fault("--slo", "", str(error)))
    if not slo and not faults:
        faults.append(Fault("--slo", "", "must say what has to hold, such as 'p99<100ms', got nothing"))
    if faults:
        raise SpecError(faults)
    return slo


def _bound(text: str) -> tuple[str, str]:
    matched = _BOUND.fullmatch(text)
    if matched is None:
        raise ValueError(f"must read like 'p99<100ms' or 'throughput>300/s', got {text.strip()!r}")
    name, operator, value = matched.groups()
    bound = parse_bound(name, value, ())
    least = bound.of.metric in LOWER_BOUNDED
    if operator.startswith(">") is not least:
        raise ValueError(f"{name} is bounded from {'below (>)' if least else 'above (<)'}, got {text.strip()!r}")
    return name, value


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.resolve(), folder.resolve())
