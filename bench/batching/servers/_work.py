"""What every server here does with a batch: hold its worker for the time of so many rows, and write that down.

Run in the engine's own environment, so it imports nothing of ours; BENCH_BATCHING holds the settings, one JSON object.
"""

import json
import os
import time

SETTINGS = json.loads(os.environ["BENCH_BATCHING"])
PORT = SETTINGS["port"]
WORKERS = SETTINGS["workers"]
MAX_BATCH = SETTINGS["max_batch"]
WINDOW_S = SETTINGS["window_ns"] / 1e9
TIMES_S = [0.0] + [ns / 1e9 for ns in SETTINGS["times_ns"]]


def note(began_ns: int, rows: int) -> None:
    """One line of the batch log: when it began and ended, its rows, its process."""
    line = f"{began_ns} {time.time_ns()} {rows} {os.getpid()}\n"
    descriptor = os.open(SETTINGS["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def work(rows: int) -> None:
    """A batch of so many rows."""
    began_ns = time.time_ns()
    time.sleep(TIMES_S[rows])
    note(began_ns, rows)
