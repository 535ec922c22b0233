"""What a profile says of its machine, and how strangers' work on it is told from ours."""

import os

import pytest

from serve import machine
from serve.machine import CpuTimes

STAT = "cpu  1000 200 300 9000 50 10 20 70 0 0\ncpu0 500 100\n"


def test_this_machine_is_described_with_the_versions_that_matter():
    here = machine.describe()
    assert here.cores >= 1 and here.memory_gib > 0 and here.cpu
    assert set(machine.LIBRARIES) | {"python"} == set(here.versions)
    assert machine.differences(here, here) == []


def test_a_processor_without_a_name_is_called_by_its_architecture():
    assert machine.cpu_name("processor : 0\nmodel name\t: Fast (R) 9\n") == "Fast (R) 9"
    assert machine.cpu_name("CPU architecture: 8\n") == os.uname().machine


def test_every_difference_that_moves_a_service_time_is_named():
    here = machine.describe()
    versions = {**here.versions, "numpy": "0.1"}
    other = here.model_copy(update={"cpu": "abacus", "cores": 99, "versions": versions, "kernel": "other"})
    found = "\n".join(machine.differences(other, here))
    assert found.count("\n") == 2
    for part in ("abacus", "99", "numpy: measured with 0.1"):
        assert part in found


def test_cpu_time_of_everybody_leaves_out_idleness_and_counts_what_is_stolen_apart():
    read = machine.cpu_times(0.0, [], STAT)
    ticks = os.sysconf("SC_CLK_TCK")
    assert (read.busy_s, read.steal_s, read.ours_s) == pytest.approx((1530 / ticks, 70 / ticks, 0.0))


def test_strangers_are_what_was_busy_or_stolen_and_not_ours():
    earlier, later = CpuTimes(10.0, 100.0, 1.0, 50.0), CpuTimes(14.0, 106.0, 2.0, 55.0)
    assert earlier.strangers_share(later) == pytest.approx((6 + 1 - 5) / 4)


def test_our_own_cpu_time_and_memory_are_seen_and_a_process_that_is_gone_has_none():
    assert machine.tree_cpu_s([os.getpid()]) >= machine.process_cpu_s(os.getpid()) * 0.5 > 0
    assert machine.memory_mib(os.getpid()) > 1
    assert machine.tree_cpu_s([os.getpid(), os.getpid()]) < 1.5 * machine.tree_cpu_s([os.getpid()]), "counted once"
    assert machine.tree_cpu_s([2**22 + 1]) == machine.memory_mib(2**22 + 1) == machine.process_cpu_s(2**22 + 1) == 0.0
