"""The replica process, driven over its channel without an engine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve import channel
from serve.backends import Settings
from serve.channel import DoneHead, Region
from serve.replica import sizes_to_warm
from tests.profiles import Synthetic, write_profile
from tests.serve import models


@pytest.mark.parametrize("max_batch", [0, 1, 2, 7, 64, 65, 100, 1000])
def test_every_small_batch_size_is_warmed_and_the_largest_first(max_batch: int) -> None:
    sizes = sizes_to_warm(max_batch)
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes[0] == max(max_batch, 1)
    assert set(range(1, min(max_batch, 64) + 1)) <= set(sizes)
    gaps = [above / below for above, below in pairwise(sizes) if below >= 64]
    assert all(gap <= 1.5 for gap in gaps)


class Driver:
    """The engine's end of a replica."""

    def __init__(self, settings: Settings) -> None:
        self.end, theirs = channel.pair()
        self.end.setblocking(True)
        self.end.settimeout(30)
        with theirs:
            command = [sys.executable, "-m", "serve.replica", str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self.send({"parent": os.getpid(), "settings": settings.model_dump(), "buffers": 2})
        assert self.told() == {"hello": self.process.pid}

    def send(self, content: dict[str, Any]) -> None:
        channel.send(self.end, channel.pack_json(content))

    def told(self) -> dict[str, Any]:
        """The next object, echoing whatever measures the channel before it."""
        while True:
            message, _ = channel.receive(self.end)
            if channel.kind_of(message) != channel.ECHO:
                return channel.unpack_json(message)
            channel.send(self.end, message)


@contextlib.contextmanager
def replica(settings: Settings) -> Iterator[Driver]:
    driver = Driver(settings)
    try:
        yield driver
    finally:
        driver.end.close()
        assert driver.process.wait(30) == 0, "a replica ends by itself when its channel closes"


def settings_of(path: Path, **more: Any) -> Settings:
    return Settings(**({"backend": "onnx", "file": str(path), "profile": "", "threads": 1, "max_batch": 4} | more))


@pytest.mark.live
def test_it_runs_what_it_is_sent_and_says_where_the_outputs_lie(tmp_path: Path) -> None:
    with replica(settings_of(models.affine(tmp_path / "model.onnx"))) as driver:
        ready = driver.told()["ready"]
        assert ready["facts"]["max_batch"] == 4
        x = np.arange(8, dtype=np.float32).reshape(2, 4)
        (place,), _ = channel.layout([(x.nbytes, x.shape)])
        region = Region.create(x.nbytes)
        channel.write(region, place, x)
        head = channel.warm_head(2)._replace(batch=7, buffer=1)
        channel.send(driver.end, channel.pack(channel.RUN, head, [[place]]), [region.fd])
        region.close()
        message, (fd,) = channel.receive(driver.end)
        words = channel.words_of(message).tolist()
        done = DoneHead(*words[1 : 1 + len(DoneHead._fields)])
        assert (done.batch, done.buffer, done.groups) == (7, 1, 1)
        assert done.begin_ns < done.end_ns
        ((answer,),) = channel.unpack_places(words, 1 + len(DoneHead._fields), 1, 1)
        outputs = Region.adopt(fd)
        np.testing.assert_array_equal(channel.view(outputs, answer, x.dtype), 2 * x + 1)
        outputs.close()


@pytest.mark.live
def test_it_says_why_it_cannot_load(tmp_path: Path) -> None:
    with replica(settings_of(tmp_path / "none.onnx")) as driver:
        assert "no such model file" in driver.told()["error"]


@pytest.mark.live
def test_a_profile_that_cannot_be_read_is_told_not_raised(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("a: {")
    with replica(settings_of(tmp_path, backend="emulated", profile=str(tmp_path / "broken.yaml"))) as driver:
        assert "broken.yaml: line 2" in driver.told()["error"]


@pytest.mark.live
def test_unlike_requests_that_one_message_cannot_describe_are_refused_at_the_start(tmp_path: Path) -> None:
    with replica(settings_of(models.any_width(tmp_path / "model.onnx"), max_batch=10_000)) as driver:
        assert "lower batching.max_batch" in driver.told()["error"]


@pytest.mark.live
def test_an_emulated_replica_measures_its_channel_before_it_is_ready(tmp_path: Path) -> None:
    profile = write_profile(tmp_path, Synthetic())
    with replica(settings_of(tmp_path, backend="emulated", profile=str(profile), file=None)) as driver:
        message, _ = channel.receive(driver.end)
        assert channel.kind_of(message) == channel.ECHO
        channel.send(driver.end, message)
        assert driver.told()["ready"]["facts"]["platform"] == "emulated"
