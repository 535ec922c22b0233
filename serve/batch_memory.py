"""The engine's side of a replica's shared memory: stacks a batch's inputs in it, cuts its outputs apart.

A batch's tensors are stacked along the rows. Requests whose shapes differ beyond the rows (a model
with free dimensions) cannot be: they make several *groups* of one batch, which the replica runs one
after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np

from serve import channel
from serve.backends.contract import Facts
from serve.channel import Place, Region
from serve.datatypes import NUMPY_OF_DATATYPE
from serve.scheduler import Batch, Request
from serve.served import Array, Arrays, LiveRequest

Group = list[LiveRequest]


@dataclass(slots=True)
class Flight:
    """A batch whose tensors lie in `buffer`."""

    batch: Batch
    buffer: int
    groups: list[Group]
    failed: dict[int, str] = field(default_factory=dict)  # what the model raised, by number in stacking order

    @property
    def stacked(self) -> list[LiveRequest]:
        """The requests in the order in which they were stacked."""
        return self.groups[0] if len(self.groups) == 1 else [r for group in self.groups for r in group]


class BatchMemory:
    """Input and output regions of one replica process, a pair for each of its buffers."""

    def __init__(self, facts: Facts, buffers: int) -> None:
        self._in = [(t.name, NUMPY_OF_DATATYPE[t.datatype]) for t in facts.inputs]
        self._out = [(t.name, NUMPY_OF_DATATYPE[t.datatype]) for t in facts.outputs]
        self._stacked = facts.max_batch > 0
        self._one_shape = all(d >= 0 for t in facts.inputs for d in t.shape)
        self._inputs: list[Region | None] = [None] * buffers
        self._outputs: list[Region | None] = [None] * buffers
        self._unsent: list[list[int]] = [[] for _ in range(buffers)]
        self._free = list(range(buffers))
        self._layouts: dict[int, list[Place]] = {}
        if self._one_shape and not any(dtype.hasobject for _, dtype in self._in):
            self._lay_out(facts)

    def _lay_out(self, facts: Facts) -> None:
        """Where shapes are known, every layout is too, and a region for the largest can be made at once."""
        size = 0
        for rows in range(1, max(facts.max_batch, 1) + 1):
            lead = [rows] if self._stacked else []
            shapes = [tuple(lead + t.shape) for t in facts.inputs]
            widths = [dtype.itemsize for _, dtype in self._in]
            sizes = [(int(np.prod(s, dtype=np.int64)) * w, s) for s, w in zip(shapes, widths, strict=True)]
            self._layouts[rows], size = channel.layout(sizes)
        for buffer in self._free:
            _, self._unsent[buffer] = channel.grown(self._inputs, buffer, size)

    def close(self) -> None:
        """Close all descriptors."""
        for region in self._inputs + self._outputs:
            if region is not None:
                region.close()

    # -- inputs --------------------------------------------------------------------------------------

    def stack(self, batch: Batch) -> tuple[Flight, list[list[Place]], list[int]]:
        """Copy a batch's inputs into a free buffer: where they lie, and descriptors that the replica lacks."""
        flight = Flight(batch, self._free.pop(), self._groups(batch.requests))
        places = [self._layouts[batch.rows]] if self._layouts else self._stack_any(flight)
        if self._layouts:
            self._stack_known(flight, places[0])
        fds, self._unsent[flight.buffer] = self._unsent[flight.buffer], []
        return flight, places, fds

    def free(self, flight: Flight) -> None:
        """The batch's outputs have been answered: its buffer can be used again."""
        self._free.append(flight.buffer)

    def _groups(self, requests: Sequence[Request]) -> list[Group]:
        live: Group = requests  # type: ignore[assignment]  # the engine offers nothing else
        if self._one_shape or len(live) == 1:
            return [live]
        groups: dict[tuple[tuple[int, ...], ...], Group] = {}
        for request in live:
            groups.setdefault(tuple(request.inputs[name].shape[1:] for name, _ in self._in), []).append(request)
        return list(groups.values())

    def _stack_known(self, flight: Flight, places: list[Place]) -> None:
        region, group = self._inputs[flight.buffer], flight.groups[0]
        assert region is not None
        for (name, dtype), place in zip(self._in, places, strict=True):
            target: Array = np.ndarray(place.shape, dtype, region.memory, place.offset)
            if len(group) == 1:
                np.copyto(target, group[0].inputs[name])
            else:
                np.concatenate([r.inputs[name] for r in group], axis=0, out=target)

    def _stack_any(self, flight: Flight) -> list[list[Place]]:
        """The general way: shapes or lengths that vary."""
        stacks = [
            np.concatenate([r.inputs[name] for r in group]) if len(group) > 1 else group[0].inputs[name]
            for group in flight.groups
            for name, _ in self._in
        ]
        blobs = [channel.encode_bytes(a) if a.dtype.hasobject else a for a in stacks]
        places, size = channel.layout(channel.sizes_of(stacks, blobs))
        region, fds = channel.grown(self._inputs, flight.buffer, size)
        self._unsent[flight.buffer] = fds or self._unsent[flight.buffer]
        for place, blob in zip(places, blobs, strict=True):
            channel.write(region, place, blob)
        count = len(self._in)
        return [places[i : i + count] for i in range(0, len(places), count)]

    # -- outputs -------------------------------------------------------------------------------------

    def adopt_output(self, buffer: int, fd: int) -> None:
        """The replica made a new output region for a buffer."""
        old = self._outputs[buffer]
        if old is not None:
            old.close()
        self._outputs[buffer] = Region.adopt(fd)

    @property
    def output_count(self) -> int:
        """Number of outputs of the model."""
        return len(self._out)

    def cut(self, flight: Flight, places: list[list[Place]]) -> Iterator[Arrays | str]:
        """What became of each request, in row order: its part of the outputs, as views, or why it has none.

        Parts are made when they are asked for.
        """
        if not flight.failed and len(places) == 1:
            tensors = self._tensors(flight.buffer, places[0])
            if not self._stacked:
                return iter([dict(tensors)])
            return self._parts(flight.groups[0], flight.batch.rows, tensors)
        return self._cut_any(flight, places)

    def _cut_any(self, flight: Flight, places: list[list[Place]]) -> Iterator[Arrays | str]:
        """The general way: several groups, or requests that were run one by one since some failed."""
        found: dict[int, Arrays | str] = {}
        groups = flight.groups
        if flight.failed:
            found = {id(r): flight.failed[n] for n, r in enumerate(flight.stacked) if n in flight.failed}
            groups = [[r] for n, r in enumerate(flight.stacked) if n not in flight.failed]
        for group, where in zip(groups, places, strict=True):
            tensors = self._tensors(flight.buffer, where)
            parts = self._parts(group, sum(r.rows for r in group), tensors)
            found.update(zip(map(id, group), parts, strict=True))
        return iter([found[id(request)] for request in flight.batch.requests])

    def _parts(self, group: Group, rows: int, tensors: list[tuple[str, Array]]) -> Iterator[Arrays | str]:
        """Each request's rows; or, if the outputs do not have as many as the requests, that, for each of them."""
        for name, tensor in tensors:
            if tensor.ndim == 0 or tensor.shape[0] != rows:
                return repeat(f"output {name!r} has shape {list(tensor.shape)} for {rows} rows", len(group))
        return _cut_rows(group, tensors)

    def _tensors(self, buffer: int, places: list[Place]) -> list[tuple[str, Array]]:
        region = self._outputs[buffer]
        assert region is not None, "the replica sends a buffer's region with the first outputs in it"
        return [(name, channel.view(region, p, dtype)) for (name, dtype), p in zip(self._out, places, strict=True)]


def _cut_rows(group: Group, tensors: list[tuple[str, Array]]) -> Iterator[Arrays]:
    at = 0
    for request in group:
        end = at + request.rows
        yield {name: tensor[at:end] for name, tensor in tensors}
        at = end
