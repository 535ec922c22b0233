"""What replications and whole simulations run on: threads and processes here, or a Ray cluster by joblib's Ray backend.

The compiled plane leaves the GIL, so threads share the cores; Ray's workers are processes, on whatever machines the
cluster has, into which a replication's set-up is sent. Numbers are the same everywhere.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

from serve.errors import SpecError

Jobs = int | Literal["ray"]
"""So many threads, or Ray."""
V = TypeVar("V")
W = TypeVar("W")

_threads: ContextVar[int | None] = ContextVar("threads", default=None)
_ray: ContextVar[Any] = ContextVar("ray", default=None)


@contextmanager
def on(jobs: Jobs | None) -> Iterator[None]:
    """Within it replications run on `jobs`; None: on as many threads as there are cores.

    With "ray" it joins the cluster at RAY_ADDRESS, or that `ray.init` joined, else it starts one here.

    Raises
    ------
    SpecError : Ray is asked for and not installed.
    """
    if jobs != "ray":
        token = _threads.set(jobs)
        try:
            yield
        finally:
            _threads.reset(token)
        return
    with _ray_pool() as pool:
        token = _ray.set(pool)
        try:
            yield
        finally:
            _ray.reset(token)


@contextmanager
def _ray_pool() -> Iterator[Any]:
    """A joblib pool whose workers are Ray's, kept for many calls: each worker takes seconds to start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's advice about its own future versions
        try:
            import joblib
            import ray
            from ray.util.joblib import register_ray
        except ImportError:
            what = "needs ray on this machine and on the cluster's: pip install ray"
            raise SpecError.of("--jobs", "ray", what) from None
        joined = ray.is_initialized()
        if not joined:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        register_ray()
        try:
            with joblib.parallel_config(backend="ray", n_jobs=-1), joblib.Parallel() as pool:
                yield pool
        finally:
            if not joined:
                ray.shutdown()


def each(task: Callable[[int], V], count: int, *, threads: bool = True) -> Iterator[V]:
    """task(0), ..., task(count - 1), in order, as they are done; `threads`: whether several of this process help.

    Who is interrupted does not wait for those that run: nothing can stop a thread that compiles or simulates.
    """
    ray_pool = _ray.get()
    if ray_pool is not None:
        import joblib

        yield from ray_pool(joblib.delayed(task)(number) for number in range(count))
        return
    most = _threads.get() or len(os.sched_getaffinity(0))
    pool, done = ThreadPoolExecutor(min(count, most) if threads else 1), 0
    try:
        for value in pool.map(task, range(count)):
            done += 1
            yield value
    finally:
        pool.shutdown(wait=done == count, cancel_futures=True)


TOGETHER = 6
"""So many simulations, or fewer, are done one after another in this process: starting others takes longer."""


def unordered(task: Callable[[W], V], jobs: Sequence[W]) -> Iterator[tuple[int, V]]:
    """task(job) of each, with its number, in whatever order they end; tasks are simulations of many replications.

    Many are spread over processes, in each of which replications follow one another. The first is done here, and so
    compiles the simulator if that is still to be done: the others read the machine code from the disk.
    """
    from sim.compiled import CACHED

    cores = _threads.get() or len(os.sched_getaffinity(0))
    if len(jobs) <= TOGETHER or cores == 1 or not CACHED or _ray.get() is not None:
        yield from ((number, task(job)) for number, job in enumerate(jobs))
        return
    import joblib

    yield 0, task(jobs[0])
    with warnings.catch_warnings():
        # A worker that has grown is replaced, as it should be. Raised as an error, where warnings are, that would end
        # the thread that hands over results, and with it all.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        pool = joblib.Parallel(n_jobs=min(cores, len(jobs) - 1), return_as="generator_unordered")
        yield from pool(joblib.delayed(_alone)(task, number, job) for number, job in enumerate(jobs) if number)


def _alone(task: Callable[[W], V], number: int, job: W) -> tuple[int, V]:
    """In a process that is one of as many as there are cores."""
    with on(1):
        return number, task(job)
