"""A decode program, cut in two for a GPU: once for each program, whatever is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from gpuzarr.engines.cuda.capability import host_steps
from gpuzarr.program import Decompress, VerifyChecksum, encoded_nbytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Decompressor
    from gpuzarr.program import DecodeProgram, Step


@dataclass(frozen=True, slots=True)
class DeviceProgram:
    """Which steps run where."""

    program: DecodeProgram
    first: int
    """The first step that the device runs; the host runs those before it."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """The device's steps."""
        return self.program.steps[self.first :]

    @property
    def checks_only(self) -> bool:
        """Whether the host does no more than verify checksums over the stored bytes."""
        return all(isinstance(step, VerifyChecksum) for step in self.program.steps[: self.first])

    @property
    def decompress(self) -> Decompress | None:
        """The decompression among the device's steps."""
        return next((step for step in self.steps if isinstance(step, Decompress)), None)

    def sizes(self, shapes: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, steps) bytes that each of the device's steps gives for chunks of these shapes."""
        return self._by_shape(shapes, lambda shape: self.program.step_nbytes(shape)[self.first :])

    def due_nbytes(self, shapes: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """(n,) bytes that the device's first step takes; None where only the data tell."""
        if not self.steps:
            return self._by_shape(shapes, lambda shape: [self.program.decoded_nbytes(shape)])[:, 0]
        if encoded_nbytes(self.steps[0], 0) is None or self.decompress is not None:
            return None
        return self._by_shape(
            shapes,
            lambda shape: [
                encoded_nbytes(self.steps[0], self.program.step_nbytes(shape)[self.first])
            ],
        )[:, 0]

    def _by_shape(self, shapes: NDArray[np.int64], compute: object) -> NDArray[np.int64]:
        """A row of numbers for each shape; computed once for each that there is."""
        distinct, which = _distinct(shapes)
        table = np.array([compute(tuple(shape)) for shape in distinct], np.int64)  # type: ignore[operator]
        return np.asarray(table.reshape(len(distinct), -1)[which], np.int64)


def _distinct(shapes: NDArray[np.int64]) -> tuple[list[list[int]], NDArray[np.int64]]:
    """The different shapes, and which of them each chunk has."""
    if bool((shapes == shapes[:1]).all()):
        return shapes[:1].tolist(), np.zeros(len(shapes), np.int64)
    distinct, which = np.unique(shapes, axis=0, return_inverse=True)
    return distinct.tolist(), which.reshape(-1)


@lru_cache(maxsize=256)
def cut_program(
    program: DecodeProgram, decompressor: Decompressor, decode: Literal["auto", "device", "host"]
) -> DeviceProgram:
    """Where the host's part of a program ends.

    Checksums over bytes that the host holds anyway are verified by it: they are in its cache, and
    what does not match them never reaches a decoder.
    """
    if decode == "host":
        return DeviceProgram(program, len(program.steps))
    first = host_steps(program, decompressor)
    while first < len(program.steps) and isinstance(program.steps[first], VerifyChecksum):
        first += 1
    return DeviceProgram(program, first)
