"""Device memory for a kernel alone: chunks on both sides, and what is to be launched on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from gpu_bench import MIB

from gpuzarr.engines.cuda.kernels import COPY_TILE
from gpuzarr.engines.cuda.pieces import first_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu_bench import Bench
    from numpy.typing import NDArray

    Values = NDArray[Any]
    Case = Callable[["Ground"], "Launch"]


def as_they_are(found: Values) -> Values:
    """All bytes of a chunk."""
    return found


@dataclass(frozen=True)
class Launch:
    """A kernel, ready to run as often as one likes."""

    kernel: str
    blocks: int
    arguments: Sequence[int]
    moved: int
    """Bytes read and written."""
    expected: Values
    """What the first chunk must become."""
    place: int
    """Address of that."""
    constants: dict[str, int] = field(default_factory=dict)
    pick: Callable[[Values], Values] = as_they_are
    """Takes what is compared from the bytes at `place`."""
    nbytes: int = 0
    """Bytes that it takes it from; 0: as many as are expected."""


class Ground:
    """Memory for a kernel: `count` chunks of `unit` bytes on both sides."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.unit = min(MIB, bench.size.kernel // 2)
        self.count = bench.size.kernel // self.unit
        self._source = bench.memory(bench.size.kernel + 64)
        self._target = bench.memory(bench.size.kernel + 64)
        steps = self.unit * np.arange(self.count)
        self.sources, self.targets = self._source.address + steps, self._target.address + steps
        self._kept: list[Any] = []
        self.random = np.random.default_rng(7)

    def fill(self, pattern: Values) -> Values:
        """Every source chunk begins with these bytes."""
        flat = np.ascontiguousarray(pattern).reshape(-1).view(np.uint8)
        one = self.bench.memory(len(flat))
        self.bench.put(flat, one.address)
        sizes = np.full(self.count, len(flat))
        edges = first_blocks(sizes, COPY_TILE)
        at = self.columns(0 * sizes + one.address, self.sources, sizes, edges)
        arguments = (*at, self.count)
        self.bench.device.launch("copy_ranges", int(edges[-1]), arguments, self.bench.stream)
        self.bench.wait()
        return pattern

    def noise(self, dtype: str = "u1", nbytes: int | None = None) -> Values:
        """Random bits in every source chunk."""
        data = np.frombuffer(self.random.bytes(nbytes or self.unit), dtype)
        return self.fill(data)

    def columns(self, *columns: Any) -> list[int]:
        """Columns of 64-bit numbers: their addresses."""
        memory, at, _ = self.bench.table(*columns)
        self._kept.append(memory)
        return at

    def place(self, data: Values) -> int:
        """An array on the device: its address."""
        memory = self.bench.memory(data.nbytes + 64)
        self.bench.put(data, memory.address)
        self._kept.append(memory)
        return int(memory.address)

    def keep(self, thing: Any) -> None:
        """Hold on to something for as long as this is used."""
        self._kept.append(thing)

    def each(self, value: int) -> Values:
        """A column of the same number for each chunk."""
        return np.full(self.count, value)
