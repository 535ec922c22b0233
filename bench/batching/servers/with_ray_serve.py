"""Ray Serve: a deployment whose @serve.batch function sleeps without blocking its event loop."""

import asyncio
import os
import time

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from _work import MAX_BATCH, PORT, SETTINGS, TIMES_S, WINDOW_S, WORKERS, note
from ray import serve
from starlette.requests import Request

QUIET = {"enable_access_log": False, "log_level": "WARNING"}


@serve.deployment(
    num_replicas=WORKERS, max_ongoing_requests=SETTINGS["max_ongoing"], ray_actor_options={"num_cpus": 0.1}
)
class Sleeps:
    """Holds its semaphore for a batch."""

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WINDOW_S)
    async def predict(self, rows):
        """A batch."""
        began_ns = time.time_ns()
        await asyncio.sleep(TIMES_S[len(rows)])
        note(began_ns, len(rows))
        return rows

    async def __call__(self, request: Request):
        """One request."""
        return (await self.predict(await request.body())).decode()


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    env = {"BENCH_BATCHING": os.environ["BENCH_BATCHING"], "PYTHONPATH": here}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=200 << 20,
        log_to_driver=False,
        runtime_env={"env_vars": env},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config=QUIET)
    serve.run(Sleeps.options(logging_config=QUIET).bind(), route_prefix="/predict")
    while True:
        time.sleep(1)
