"""MOSEC: one worker class whose batch function sleeps."""

import sys

from _work import MAX_BATCH, PORT, WINDOW_S, WORKERS, work
from mosec import Server, Worker


class Sleeps(Worker):
    """Holds its process for a batch."""

    def deserialize(self, data):
        """The body as it is."""
        return data

    def serialize(self, data):
        """The body as it is."""
        return data

    def forward(self, data):
        """A batch; a bare body where batching is off."""
        work(len(data) if MAX_BATCH > 1 else 1)
        return data


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "--address", "127.0.0.1", "--port", str(PORT), "--timeout", "60000"]
    server = Server()
    server.append_worker(
        Sleeps, num=WORKERS, max_batch_size=MAX_BATCH, max_wait_time=max(1, round(1000 * WINDOW_S)), route="/predict"
    )
    server.run()
