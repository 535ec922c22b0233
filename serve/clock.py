"""Nanosecond wake-ups and process ties that Python does not offer: timerfd, timer slack, death with the parent.

libuv's timers have a resolution of a millisecond, so both the engine's front and the load generator
wait on a timerfd instead. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import signal
import struct
import time

now_ns = time.monotonic_ns
"""CLOCK_MONOTONIC, the one clock of engine, replicas and load generator: comparable between processes."""

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
_TIMER_ABSTIME = 1
_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29

_SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_SCHED_FLAG_RESET_ON_FORK = 1
_SCHED_ATTR = struct.Struct("=IIQiIQQQII")  # linux/sched/types.h; its seventh field is the slice in ns
FRONT_SLICE_NS = 100_000

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("it_interval", _Timespec), ("it_value", _Timespec)]


class TimerFd:
    """A file descriptor that becomes readable at an instant of CLOCK_MONOTONIC: for `add_reader` or epoll."""

    def __init__(self) -> None:
        self.fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._spec = _Itimerspec()
        self._value = self._spec.it_value
        self._pointer = ctypes.byref(self._spec)

    def arm(self, at_ns: int) -> None:
        """Become readable at `at_ns` (at once if that has passed); replaces an earlier instant."""
        self._value.tv_sec, self._value.tv_nsec = divmod(max(at_ns, 1), 1_000_000_000)
        if _libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, self._pointer, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def disarm(self) -> None:
        """Stay silent until armed again."""
        self._value.tv_sec = self._value.tv_nsec = 0
        _libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, self._pointer, None)

    def clear(self) -> None:
        """Take note of an expiry, so that the descriptor is no longer readable."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def sleep_until_ns(at_ns: int) -> None:
    """Block this thread until `at_ns` without using the processor; returns at once if that has passed."""
    if at_ns <= 0:
        return
    target = _Timespec(*divmod(at_ns, 1_000_000_000))
    while _libc.clock_nanosleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, ctypes.byref(target), None) == errno.EINTR:
        pass


def set_timer_slack(slack_ns: int = 1) -> None:
    """Let this thread's timeouts fire on time: the kernel's default lets them be 50 us late."""
    _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(slack_ns), 0, 0, 0)


def wake_promptly(slice_ns: int = FRONT_SLICE_NS) -> None:
    """Ask the kernel for short slices for this thread: of two that want a core, the shorter slice goes first.

    Linux 6.12 and later on x86-64 and arm64; elsewhere nothing happens. Not inherited by children.
    """
    number = _SYS_SCHED_SETATTR.get(platform.machine())
    if number is not None:
        flags = _SCHED_FLAG_RESET_ON_FORK
        attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, flags, os.nice(0), 0, slice_ns, 0, 0, 0, 0)
        _libc.syscall(number, 0, attributes, 0)


def yield_to_others() -> None:
    """Let this process's waking up interrupt no other: SCHED_BATCH, for a load generator that shares a core."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; exit now if it already has."""
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)
