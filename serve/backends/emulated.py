"""A replica that only takes the time a model would: it sleeps for service times drawn from a profile.

Its service time counts from the dispatch (or from the end of the batch before it in the replica)
to the completion seen by the front, as in the profile, so it wakes earlier by what is known to come
on top, its own late wake-up and the message to the front: measured when it starts, then followed by
what a front that was asleep says of each batch. It answers zeros and burns no CPU.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serve.backends.contract import Array, Facts, LoadError, Settings, check_fixed_batch
from serve.channel import RunHead, warm_head
from serve.clock import sleep_until_ns
from serve.datatypes import NUMPY_OF_DATATYPE
from serve.errors import SpecError
from serve.files import bound, sha256
from serve.files import load as load_file
from serve.profile import Profile, Tensor
from serve.profile_samples import ServiceTimes, load_samples

_STREAM = 0x656D756C  # "emul": the named stream of the draws
STEP_NS = 5_000
_SLEEPS = 40
_SLEEP_NS = 500_000


def draw(seed: int, request: int, deaths: int = 0) -> float:
    """Uniform in [0, 1), keyed by the batch's first request and its deaths: equal whenever they are.

    A simulator that knows the requests' ids can so give its replicas the very times that emulated ones will take.
    """
    key = (_STREAM, request & 0xFFFFFFFF, request >> 32, deaths)
    word = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0]
    return float(word >> np.uint64(11)) / 2**53


def due_ns(head: RunHead, previous_ns: int, service_ns: int, late_ns: int) -> tuple[int, int]:
    """When the front should see the batch ended, and when to wake for that.

    A batch dispatched behind another starts when that one ends (rule 5), which `previous_ns` says.
    """
    seen_ns = max(head.dispatch_ns, previous_ns) + service_ns
    return seen_ns, seen_ns - late_ns


def followed(late_ns: int, error_ns: int) -> int:
    """The known lateness, corrected by how much too late (or, negative, too early) a batch was seen.

    Each error counts by a quarter and by no more than STEP_NS, so that a preempted process now and
    then, which is the machine's noise, hardly moves it.
    """
    return max(0, late_ns + max(-STEP_NS, min(STEP_NS, error_ns // 4)))


class Emulated:
    """One emulated model. `late_ns` is what is known to come on top of a sleep until the front sees its end."""

    def __init__(self, facts: Facts, times: ServiceTimes, seed: int) -> None:
        self.facts = facts
        self.late_ns = 0
        self._times = times
        self._seed = seed
        self._due_ns = 0  # when the front should have seen the last batch end
        self._zeros: dict[int, list[Array]] = {}

    def run(self, feeds: Mapping[str, Array], head: RunHead) -> list[Array]:
        """Zeros of the profile's output shapes; sizes that vary are 1."""
        zeros = self._zeros.get(head.rows)
        if zeros is None:
            lead = [head.rows] if self.facts.max_batch else []
            zeros = self._zeros[head.rows] = [_zeros(t, lead) for t in self.facts.outputs]
        return zeros

    def settle(self, head: RunHead) -> None:
        """Sleep until the service time is over."""
        if head.heard_ns:
            self.late_ns = followed(self.late_ns, head.heard_ns - self._due_ns)
        share = draw(self._seed, head.first_request, head.first_deaths)
        service_ns = self._times.service_ns(head.rows, head.busy, share)
        self._due_ns, wake_ns = due_ns(head, self._due_ns, service_ns, self.late_ns)
        sleep_until_ns(wake_ns)

    def warm_up(self, rows: int) -> None:
        """Make the zeros of this size, and measure once how late a sleep ends."""
        self.run({}, warm_head(rows))
        if not self.late_ns:
            self.late_ns = sleep_lateness_ns()


def sleep_lateness_ns() -> int:
    """Median lateness of this process's wake-ups from sleep."""
    late = []
    for _ in range(_SLEEPS):
        at_ns = time.monotonic_ns() + _SLEEP_NS
        sleep_until_ns(at_ns)
        late.append(time.monotonic_ns() - at_ns)
    return int(np.median(late))


def _zeros(tensor: Tensor, lead: list[int]) -> npt.NDArray[np.generic]:
    shape = lead + [max(1, d) for d in tensor.shape]
    dtype = NUMPY_OF_DATATYPE[tensor.datatype]
    return np.full(shape, b"", dtype) if dtype.hasobject else np.zeros(shape, dtype)


def load(settings: Settings) -> Emulated:
    """Emulate the model that `settings.profile` was measured of."""
    path = Path(settings.profile)
    profile = load_file(path, Profile)
    model = profile.model
    if model.batch_axis is None:
        check_fixed_batch(str(path), "the measured model's batch is fixed", settings.max_batch)
    if settings.max_batch > model.max_batch:
        raise LoadError(
            f"{path}: batches were measured up to {model.max_batch} rows, max_batch is {settings.max_batch}; "
            f"lower batching.max_batch or calibrate larger batches"
        )
    if profile.samples.rows == 0:
        raise LoadError(f"{path}: has no samples to draw service times from; calibrate the model here")
    try:
        times = ServiceTimes(load_samples(bound(path, "samples", profile.samples)), settings.threads)
    except SpecError as error:
        raise LoadError(str(error)) from error
    except (OSError, ValueError) as error:
        raise LoadError(f"{path}: {error}") from error
    facts = Facts(
        platform="emulated",
        device="none",
        inputs=model.inputs,
        outputs=model.outputs,
        max_batch=0 if model.batch_axis is None else settings.max_batch,
        notes=_notes(path, settings),
    )
    return Emulated(facts, times, settings.seed)


def _notes(path: Path, settings: Settings) -> list[str]:
    if settings.profile_sha256 in (None, sha256(path)):
        return []
    return [f"{path}: is not the profile that the deployment was planned with (profile_sha256 differs)"]
