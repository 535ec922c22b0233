"""The channel between engine and replica: tensors in shared memory, messages, descriptors."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve import channel
from serve.channel import DoneHead, Place, Region, RunHead


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = channel.pair()
    with ours, theirs:
        yield ours, theirs


@contextlib.contextmanager
def region(size: int) -> Iterator[Region]:
    made = Region.create(size)
    try:
        yield made
    finally:
        made.close()


@given(st.lists(st.tuples(st.integers(0, 10_000), st.lists(st.integers(0, 9), max_size=4)), max_size=8))
def test_tensors_of_a_layout_do_not_overlap_and_are_aligned(sizes: list[tuple[int, list[int]]]) -> None:
    places, used = channel.layout([(nbytes, tuple(shape)) for nbytes, shape in sizes])
    end = 0
    for place, (nbytes, shape) in zip(places, sizes, strict=True):
        assert (place.nbytes, place.shape) == (nbytes, tuple(shape))
        assert place.offset >= end
        assert place.offset % 64 == 0
        end = place.offset + nbytes
    assert used >= end


words = st.integers(-(2**63), 2**63 - 1)
places = st.builds(
    Place, st.integers(0, 2**40), st.integers(0, 2**40), st.lists(st.integers(0, 2**31), max_size=4).map(tuple)
)


@given(st.lists(words, min_size=10, max_size=10), st.integers(1, 4), st.integers(1, 3), st.data())
def test_a_run_message_comes_out_as_it_went_in(head: list[int], groups: int, tensors: int, data: st.DataObject) -> None:
    told = RunHead(*head)._replace(groups=groups)
    where = data.draw(st.lists(st.lists(places, min_size=tensors, max_size=tensors), min_size=groups, max_size=groups))
    message = channel.pack(channel.RUN, told, where)
    assert channel.kind_of(message) == channel.RUN
    found = channel.words_of(message).tolist()
    count = len(RunHead._fields)
    assert RunHead(*found[1 : 1 + count]) == told
    assert channel.unpack_places(found, 1 + count, groups, tensors) == where


@given(st.lists(st.binary(max_size=20), min_size=6, max_size=6))
def test_texts_survive_their_encoding(elements: list[bytes]) -> None:
    flat = np.empty(6, np.object_)
    flat[:] = elements
    tensor = flat.reshape(2, 3)
    assert channel.decode_bytes(channel.encode_bytes(tensor), (2, 3)).tolist() == tensor.tolist()


def test_a_region_is_seen_by_the_other_end_and_has_no_name(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    before = set(Path("/dev/shm").iterdir())
    tensor = np.arange(12, dtype=np.int32).reshape(3, 4)
    place = Place(64, tensor.nbytes, tensor.shape)
    with region(1000) as made:
        assert made.size >= 1000
        channel.write(made, place, tensor)
        channel.send(ours, channel.pack_json({"with": "a region"}), [made.fd])
        message, (fd,) = channel.receive(theirs)
        assert channel.unpack_json(message) == {"with": "a region"}
        adopted = Region.adopt(fd)
        seen = channel.view(adopted, place, tensor.dtype)
        np.testing.assert_array_equal(seen, tensor)
        channel.write(made, place, tensor * 2)
        np.testing.assert_array_equal(seen, tensor * 2)
        assert adopted.size == made.size
        assert not os.get_inheritable(fd)
        adopted.close()
    assert set(Path("/dev/shm").iterdir()) <= before


def test_a_region_is_replaced_only_when_it_is_too_small() -> None:
    regions: list[Region | None] = [None, None]
    first, fds = channel.grown(regions, 0, 100)
    assert fds == [first.fd]
    assert channel.grown(regions, 0, first.size) == (first, [])
    second, fds = channel.grown(regions, 0, first.size + 1)
    assert fds == [second.fd]
    assert second.size > first.size
    assert regions == [second, None]
    second.close()


def test_messages_keep_their_borders_and_the_end_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    done = channel.pack(channel.DONE, DoneHead(1, 2, 0, 3, 4, 0), [])
    for message in (done, channel.pack_json({"n": 1})):
        channel.send(theirs, message)
    theirs.close()
    assert channel.receive(ours) == (done, [])
    assert channel.unpack_json(channel.receive(ours)[0]) == {"n": 1}
    assert channel.receive(ours) == (b"", [])


def test_a_batch_that_is_said_to_fit_a_message_can_be_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    ranks = [4, 2]
    rows = max(n for n in range(1, 4000) if channel.fits_message(n, ranks))
    group = [Place(0, 1, (1,) * rank) for rank in ranks]
    message = channel.pack(channel.RUN, channel.warm_head(rows)._replace(groups=rows), [group] * rows, [1] * rows)
    channel.send(ours, message)
    assert channel.receive(theirs)[0] == message
    assert len(message) > channel.MESSAGE_MAX * 0.99
