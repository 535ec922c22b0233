"""The engine's log: one row a request (`serve.records`), one a batch, as parquet files.

Rows are kept as int64 in memory and written off the hot path: when a chunk is full, by a thread, so
that memory stays bounded; the rest at the end. A file gets its name when it is whole.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from serve import records
from serve.errors import EngineError
from serve.fleet import log_folder

BATCH_COLUMNS = (
    "batch",
    "queue",
    "replica",
    "threads",
    "rows",
    "busy",
    "reason",
    "dispatch_ns",
    "start_ns",
    "begin_ns",
    "end_ns",
    "seen_ns",
    "finished_ns",
)
"""Instants: the dispatch decision; when the replica was free for it; the replica's own begin and end; the front
seeing it; its slot being free."""

REQUESTS_FILE = "requests.parquet"
BATCHES_FILE = "batches.parquet"

BATCH_BITS = 40
"""Batches of one engine, for their numbers among those of a fleet."""

CHUNK_ROWS = 2**18
"""Rows kept in memory of each file: 40 MiB of requests, half a minute at 10,000 a second."""


class TableLog:
    """Rows of one file, all columns int64."""

    def __init__(self, path: Path, columns: Sequence[str], chunk_rows: int = CHUNK_ROWS) -> None:
        self._path = path
        self._columns = tuple(columns)
        self._words = array.array("q")
        self._chunk_words = chunk_rows * len(self._columns)
        self._writer: pyarrow.parquet.ParquetWriter | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log")
        self._pending: list[Future[None]] = []

    def append(self, row: Sequence[int]) -> None:
        """Add a row, its fields in the order of the columns."""
        self._words.extend(row)
        if len(self._words) >= self._chunk_words:
            full, self._words = self._words, array.array("q")
            self._pending = [f for f in self._pending if not f.done()]
            self._pending.append(self._thread.submit(self._write, full))

    def close(self) -> None:
        """Write what is left and give the file its name. Raises what a write before raised (a full disk)."""
        self._pending.append(self._thread.submit(self._write, self._words))
        self._words = array.array("q")
        self._thread.shutdown(wait=True)
        for write in self._pending:
            write.result()
        assert self._writer is not None
        self._writer.close()
        self._partial.replace(self._path)

    @property
    def _partial(self) -> Path:
        return self._path.with_name(self._path.name + ".part")

    def _write(self, words: array.array[int]) -> None:
        rows = np.frombuffer(words, np.int64).reshape(-1, len(self._columns))
        table = pyarrow.table({name: rows[:, i] for i, name in enumerate(self._columns)})
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._partial, table.schema)
        self._writer.write_table(table)


class RequestLog:
    """Both files of a folder, which is made if need be; EngineError if it cannot be."""

    def __init__(self, folder: Path, chunk_rows: int = CHUNK_ROWS) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"{folder}: logs cannot be written there: {error.strerror or error}") from error
        self._requests = TableLog(folder / REQUESTS_FILE, records.COLUMNS, chunk_rows)
        self._batches = TableLog(folder / BATCHES_FILE, BATCH_COLUMNS, chunk_rows)
        self.request = self._requests.append
        self.batch = self._batches.append

    def close(self) -> None:
        """Write what is left."""
        self._requests.close()
        self._batches.close()


def read_requests(folder: Path) -> records.Rows:
    """The rows of a log folder's requests, in the order in which they left; of a fleet's engine by engine, with the
    engine as node and batches numbered apart."""
    if not (engines := _engines(folder)):
        return _read(folder / REQUESTS_FILE, records.COLUMNS)
    parts = [_read(own / REQUESTS_FILE, records.COLUMNS) for own in engines]
    for number, rows in enumerate(parts):
        rows[:, records.NODE] = number
        rows[rows[:, records.BATCH] >= 0, records.BATCH] += number << BATCH_BITS
    return np.concatenate(parts)


def read_batches(folder: Path) -> records.Rows:
    """The rows of a log folder's batches (BATCH_COLUMNS), in the order in which they ended; of a fleet as
    `read_requests`."""
    if not (engines := _engines(folder)):
        return _read(folder / BATCHES_FILE, BATCH_COLUMNS)
    parts = [_read(own / BATCHES_FILE, BATCH_COLUMNS) for own in engines]
    for number, rows in enumerate(parts):
        rows[:, BATCH_COLUMNS.index("batch")] += number << BATCH_BITS
    return np.concatenate(parts)


def _engines(folder: Path) -> list[Path]:
    """The log folders of a fleet's engines, in their order; none: it is a single engine's."""
    count = len(list(folder.glob(log_folder(Path(), "*").name)))
    return [log_folder(folder, number) for number in range(count)]


def _read(path: Path, columns: Sequence[str]) -> records.Rows:
    table = pyarrow.parquet.read_table(path, columns=list(columns))
    return np.stack([table.column(name).to_numpy() for name in columns], axis=1)
