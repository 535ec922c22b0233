"""Between the engine and a replica: small messages on a socket, tensors in anonymous shared memory.

A message is one packet of a SOCK_SEQPACKET pair: int64 words, or a JSON object where speed does
not matter. A batch's tensors lie in a *region* (memfd) of the buffer that it uses: the engine owns
and grows the input regions, the replica the output regions; the descriptor of a new region rides
on the message that first uses it. Nothing has a name, so nothing is left behind when both ends die.

There is one buffer more than slots: a finished batch's outputs stay readable while the batch that
took its slot writes its own.
"""

from __future__ import annotations

import array
import json
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

MESSAGE_MAX = 128 * 1024
"""Longest packet; the socket's buffers are made at least that large."""

POPULATE_MAX = 16 * 2**20
"""Regions up to this size have all their pages from the start, so that no batch pays for the first touch; of
larger ones, which may be twice what is needed, only what is used."""

# First word of a message.
JSON = 0  # an object: settings, facts, errors
RUN = 1  # engine -> replica: a batch to run
DONE = 2  # replica -> engine: its outputs are there
ECHO = 3  # either way: sent back as it is, to measure the channel

_ALIGN = 64  # a cache line; also what onnxruntime wants of the tensors it is lent
_WORD = struct.Struct("<q")


class RunHead(NamedTuple):
    """What a RUN message says of its batch, before the tensors."""

    batch: int
    incarnation: int
    buffer: int
    rows: int
    dispatch_ns: int
    busy: int  # other replicas of the machine running at the start
    first_request: int  # id of the batch's first request; it and its deaths key the emulated service time
    first_deaths: int
    groups: int
    heard_ns: int = 0  # when an engine that slept until then saw this replica's last batch end; 0: it was busy
    requests: int = 1  # their rows, in the order in which they are stacked, end the message


def warm_head(rows: int) -> RunHead:
    """The head of a batch that no engine sent: to warm a model up."""
    return RunHead(0, 0, 0, rows, 0, 0, 0, 0, 1)


class DoneHead(NamedTuple):
    """What a DONE message says of its batch, before the tensors."""

    batch: int
    incarnation: int
    buffer: int
    begin_ns: int
    end_ns: int
    groups: int


class Region:
    """A piece of anonymous shared memory, by its descriptor."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if size <= POPULATE_MAX else 0)
        self.memory = mmap.mmap(fd, size, flags=flags)

    @classmethod
    def create(cls, size: int) -> Region:
        """A new one of at least `size` bytes; sizes grow by powers of two so that few are made."""
        size = max(mmap.PAGESIZE, 1 << (size - 1).bit_length()) if size > 0 else mmap.PAGESIZE
        fd = os.memfd_create("forebay", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        return cls(fd, size)

    @classmethod
    def adopt(cls, fd: int) -> Region:
        """The one that the other end made."""
        return cls(fd, os.fstat(fd).st_size)

    def close(self) -> None:
        """Close the descriptor; the mapping goes when the last array in it does."""
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor lies in a region."""

    offset: int
    nbytes: int
    shape: tuple[int, ...]


def sizes_of(tensors: Sequence[Array], blobs: Sequence[Array | bytes]) -> list[tuple[int, tuple[int, ...]]]:
    """(bytes, shape) of each tensor, whose bytes are its blob's."""
    return [(len(b) if isinstance(b, bytes) else b.nbytes, a.shape) for a, b in zip(tensors, blobs, strict=True)]


def layout(sizes: Sequence[tuple[int, tuple[int, ...]]], start: int = 0) -> tuple[list[Place], int]:
    """Places, one after the other, of tensors given as (bytes, shape), and the bytes used in all."""
    places = []
    for nbytes, shape in sizes:
        places.append(Place(start, nbytes, shape))
        start += (nbytes + _ALIGN - 1) & -_ALIGN
    return places, start


def view(region: Region, place: Place, dtype: np.dtype[np.generic]) -> Array:
    """The tensor at `place`, not copied; BYTES tensors are decoded into an object array of `bytes`."""
    if dtype.hasobject:
        return decode_bytes(memoryview(region.memory)[place.offset : place.offset + place.nbytes], place.shape)
    return np.ndarray(place.shape, dtype, region.memory, place.offset)


def write(region: Region, place: Place, tensor: Array | bytes) -> None:
    """Copy a tensor, or an encoded BYTES tensor, to its place."""
    if isinstance(tensor, bytes):
        region.memory[place.offset : place.offset + place.nbytes] = tensor
    else:
        np.copyto(np.ndarray(place.shape, tensor.dtype, region.memory, place.offset), tensor)


def grown(regions: list[Region | None], buffer: int, size: int) -> tuple[Region, list[int]]:
    """The region of `buffer`, with room for `size` bytes; if it had to be made, its descriptor to be sent."""
    region = regions[buffer]
    if region is not None and region.size >= size:
        return region, []
    if region is not None:
        region.close()
    regions[buffer] = region = Region.create(size)
    return region, [region.fd]


def encode_bytes(tensor: Array) -> bytes:
    """A BYTES tensor as the protocol writes it: each element its uint32 length, then its bytes."""
    parts = []
    for element in tensor.ravel():
        data = element if isinstance(element, bytes) else str(element).encode()
        parts.append(len(data).to_bytes(4, "little"))
        parts.append(data)
    return b"".join(parts)


def decode_bytes(data: memoryview | bytes, shape: tuple[int, ...]) -> Array:
    """The inverse of `encode_bytes`: an object array of `bytes`."""
    count = int(np.prod(shape, dtype=np.int64))
    tensor = np.empty(count, dtype=np.object_)
    at = 0
    for i in range(count):
        length = int.from_bytes(data[at : at + 4], "little")
        tensor[i] = bytes(data[at + 4 : at + 4 + length])
        at += 4 + length
    return tensor.reshape(shape)


def pack(kind: int, head: Sequence[int], groups: Sequence[Sequence[Place]], tail: Sequence[int] = ()) -> bytes:
    """A RUN or DONE message: kind, head, each tensor of each group as offset, bytes, rank, shape; then `tail`."""
    words = [kind, *head]
    for group in groups:
        for place in group:
            words += (place.offset, place.nbytes, len(place.shape), *place.shape)
    words += tail
    return array.array("q", words).tobytes()


def fits_message(rows: int, ranks: Sequence[int]) -> bool:
    """Whether a message can name the tensors of a batch of `rows` requests that all differ in shape."""
    words = rows * (1 + sum(3 + rank for rank in ranks)) + 1 + max(len(RunHead._fields), len(DoneHead._fields))
    return 8 * words <= MESSAGE_MAX


def unpack_places(words: Sequence[int], at: int, groups: int, tensors: int) -> list[list[Place]]:
    """The tensors of a message whose head ends at word `at`."""
    found = []
    for _ in range(groups):
        group = []
        for _ in range(tensors):
            rank = words[at + 2]
            end = at + 3 + rank
            group.append(Place(words[at], words[at + 1], tuple(words[at + 3 : end])))
            at = end
        found.append(group)
    return found


def words_of(message: bytes) -> array.array[int]:
    """The int64 words of a RUN, DONE or ECHO message."""
    words = array.array("q")
    words.frombytes(message)
    return words


def kind_of(message: bytes) -> int:
    """JSON, RUN, DONE or ECHO."""
    return int(_WORD.unpack_from(message)[0])


def pack_json(content: dict[str, Any]) -> bytes:
    """A message that is an object."""
    return _WORD.pack(JSON) + json.dumps(content).encode()


def unpack_json(message: bytes) -> dict[str, Any]:
    """The object of a JSON message."""
    content: dict[str, Any] = json.loads(message[_WORD.size :])
    return content


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a new channel; the first, the engine's, does not block."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MESSAGE_MAX)
    ours.setblocking(False)
    return ours, theirs


def send(end: socket.socket, message: bytes, fds: Sequence[int] = ()) -> None:
    """Send one packet, with descriptors if there are new regions."""
    if fds:
        end.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    else:
        end.send(message)


_FDS_MAX = 8
_ANCILLARY = socket.CMSG_SPACE(_FDS_MAX * 4)
_packet = bytearray(MESSAGE_MAX)  # of this process, which receives one packet at a time
_packet_view = memoryview(_packet)


def receive(end: socket.socket) -> tuple[bytes, list[int]]:
    """The next packet and the descriptors on it; empty when the other end is gone."""
    size, ancillary, flags, _ = end.recvmsg_into([_packet], _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
    assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC), "a message is longer than MESSAGE_MAX"
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += array.array("i", data[: len(data) - len(data) % 4])
    return bytes(_packet_view[:size]), fds
