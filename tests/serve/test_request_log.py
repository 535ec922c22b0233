"""The engine's log files: what goes in comes out, in bounded memory, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serve import records
from serve.errors import EngineError
from serve.fleet import log_folder
from serve.request_log import BATCH_BITS, BATCH_COLUMNS, RequestLog, read_batches, read_requests


@pytest.mark.parametrize("count", [0, 1, 4, 5, 23])
def test_rows_come_out_as_they_went_in_across_chunks(tmp_path: Path, count: int) -> None:
    random = np.random.default_rng(np.random.SeedSequence(count))
    requests = random.integers(-1, 2**62, (count, records.ROW_WIDTH))
    batches = random.integers(-1, 2**62, (count, len(BATCH_COLUMNS)))
    log = RequestLog(tmp_path / "log", chunk_rows=5)
    for request, batch in zip(requests.tolist(), batches.tolist(), strict=True):
        log.request(request)
        log.batch(batch)
    log.close()
    np.testing.assert_array_equal(read_requests(tmp_path / "log"), requests)
    np.testing.assert_array_equal(read_batches(tmp_path / "log"), batches)


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, chunk_rows=1)
    log.request([0] * records.ROW_WIDTH)
    assert not (tmp_path / "requests.parquet").exists()
    log.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["batches.parquet", "requests.parquet"]


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EngineError, match="logs cannot be written there"):
        RequestLog(tmp_path / "file" / "log")


def test_a_fleets_engines_are_read_as_one_log_with_batches_numbered_apart(tmp_path: Path) -> None:
    for number in range(11):
        log = RequestLog(log_folder(tmp_path, number))
        for batch in (0, -1):
            row = [0] * records.ROW_WIDTH
            row[records.REQUEST], row[records.BATCH] = 10 * number + batch, batch
            log.request(row)
        log.batch([0] * len(BATCH_COLUMNS))
        log.close()
    requests, batches = read_requests(tmp_path), read_batches(tmp_path)
    assert requests[:, records.NODE].tolist() == [number for number in range(11) for _ in range(2)]
    assert requests[::2, records.BATCH].tolist() == batches[:, 0].tolist() == [n << BATCH_BITS for n in range(11)]
    assert requests[1::2, records.BATCH].tolist() == [-1] * 11
