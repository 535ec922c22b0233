"""This machine: what it is, how busy strangers keep it, and what our own processes take of it."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from serve.profile import Machine

LIBRARIES = ("httptools", "numpy", "onnxruntime-gpu", "uvloop")
"""Libraries whose version changes what is measured."""

STRANGERS_MAX = 0.15
"""Cores that others may take before a measurement counts as disturbed."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def describe() -> Machine:
    """CPU, cores that this process may use, memory, kernel and versions, as a profile records them."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return Machine(
        cpu=cpu_name(Path("/proc/cpuinfo").read_text()),
        cores=cores(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        kernel=platform.release(),
        versions=versions,
    )


def cores() -> int:
    """Cores that this process may run on, which a container may have limited."""
    return len(os.sched_getaffinity(0))


def cpu_name(cpuinfo: str) -> str:
    """The processor's name in the text of /proc/cpuinfo; the architecture where it gives none (some ARM)."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.machine()


def differences(measured: Machine, here: Machine) -> list[str]:
    """Why what was measured there need not hold here, one sentence each; empty if the machines agree.

    The kernel's patch level and the memory's size are not compared: neither moves a service time.
    """
    found = []
    if measured.cpu != here.cpu:
        found.append(f"cpu: measured on {measured.cpu!r}, here {here.cpu!r}")
    if measured.cores != here.cores:
        found.append(f"cores: measured with {measured.cores}, here {here.cores}")
    for name in sorted(measured.versions.keys() | here.versions.keys()):
        old, new = measured.versions.get(name, "absent"), here.versions.get(name, "absent")
        if old != new:
            found.append(f"{name}: measured with {old}, here {new}")
    return found


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU seconds since boot: of everybody, stolen by the hypervisor, and of some processes of ours."""

    at_s: float
    busy_s: float
    steal_s: float
    ours_s: float

    def strangers_share(self, later: CpuTimes) -> float:
        """Cores that neither we nor idleness took between the two readings; stolen time included."""
        span_s = max(later.at_s - self.at_s, 1e-9)
        all_s = (later.busy_s - self.busy_s) + (later.steal_s - self.steal_s)
        return max(0.0, all_s - (later.ours_s - self.ours_s)) / span_s


def cpu_times(at_s: float, pids: list[int], stat: str | None = None) -> CpuTimes:
    """A reading now; `pids` (ours) count with their children, each once. `stat` is the text of /proc/stat."""
    fields = [int(f) for f in (stat or Path("/proc/stat").read_text()).splitlines()[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    ours = tree_cpu_s(pids)
    return CpuTimes(at_s, (user + nice + system + irq + softirq) / _TICKS_PER_S, steal / _TICKS_PER_S, ours)


def tree_cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of some processes and of the children that they have now, each counted once; those gone are left
    out."""
    family: set[int] = set()
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            family |= {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    return sum(process_cpu_s(pid) for pid in family)


def process_cpu_s(pid: int) -> float:
    """CPU seconds of all threads of one process, with the nanoseconds that /proc/PID/schedstat keeps; 0 if gone."""
    total_ns = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total_ns += int((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return total_ns / 1e9
    return total_ns / 1e9


def memory_mib(pid: int) -> float:
    """Proportional set size of one process: its own memory, and its share of what it shares; 0 if gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0.0
    return 0.0
