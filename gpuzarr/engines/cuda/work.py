"""What a batch does on the device, as data: tables, and operations that refer to them.

Work is put together on the host without touching the device: columns of numbers are added to one
table, and operations name them. `upload` then takes the table to the device in one copy, and
`start` starts the operations one after the other on a stream. So there is no copy and no allocation
a chunk, and what a read does can be looked at before it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, assert_never

import numpy as np

from gpuzarr.engines.cuda.device import Streams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Device, Memory, Stream
    from gpuzarr.engines.cuda.slabs import Slab, SlabPool

COLUMN_ALIGNMENT = 16
"""Columns begin at multiples of so many bytes of the table."""


class Column(NamedTuple):
    """A column of the table."""

    offset: int
    """Its first byte in the table."""


Argument = int | Column


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel of ours."""

    kernel: str
    blocks: int
    arguments: tuple[Argument, ...]
    constants: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Decompression:
    """One call of nvCOMP for many streams; the members as in `device.Streams`."""

    format: str
    count: int
    source: Argument
    nbytes: Argument
    target: Argument
    capacity: Argument
    actual: int
    status: int
    most: int
    temp: int
    temp_nbytes: int


@dataclass(frozen=True, slots=True)
class Checksums:
    """One call of nvCOMP for the CRCs of many ranges."""

    algorithm: str
    count: int
    source: Argument
    nbytes: Argument
    most: int
    value: int


Operation = Launch | Decompression | Checksums


class Table(NamedTuple):
    """A table, on its way to the device."""

    memory: Memory | None
    """Where it is there; None: it has no columns."""
    slab: Slab
    """Where it comes from."""

    @property
    def address(self) -> int:
        """Where it begins on the device."""
        return 0 if self.memory is None else self.memory.address


@dataclass(slots=True, eq=False)
class Work:
    """The table and the operations of a batch, as they are put together."""

    operations: list[Operation] = field(default_factory=list)
    _columns: list[tuple[int, NDArray[np.uint8]]] = field(default_factory=list)
    nbytes: int = 0
    """Bytes of the table so far."""

    def column(self, values: NDArray[np.generic]) -> Column:
        """Add a column, as it is now."""
        column = Column(self.nbytes)
        flat = np.array(values, order="C").reshape(-1).view(np.uint8)
        self._columns.append((column.offset, flat))
        self.nbytes += -(-len(flat) // COLUMN_ALIGNMENT) * COLUMN_ALIGNMENT
        return column

    def integers(self, values: NDArray[np.generic]) -> Column:
        """Add a column of 64-bit integers."""
        return self.column(np.asarray(values, np.int64))

    def launch(self, kernel: str, blocks: int, *arguments: Argument, **constants: int) -> None:
        """Add a launch; one without thread blocks has nothing to do."""
        if blocks:
            self.operations.append(Launch(kernel, int(blocks), arguments, constants))

    def upload(self, device: Device, pool: SlabPool, stream: Stream) -> Table:
        """Upload the table, in the order of a stream.

        Its memory on the device must be kept until the operations are done, that on the host until
        the stream has come to here.
        """
        slab = pool.take(self.nbytes)
        if not self.nbytes:
            return Table(None, slab)
        for offset, values in self._columns:
            slab.array[offset : offset + len(values)] = values
        memory = device.allocate(self.nbytes, stream)
        device.upload(slab.array, memory.address, stream)
        return Table(memory, slab)

    def start(self, table: Table, device: Device, stream: Stream) -> None:
        """Start the operations on a stream, which has waited for the table if need be."""
        for operation in self.operations:
            _start(operation, table.address, device, stream)

    def run(self, device: Device, pool: SlabPool, stream: Stream) -> Table:
        """Both on one stream."""
        table = self.upload(device, pool, stream)
        self.start(table, device, stream)
        return table


def _start(operation: Operation, base: int, device: Device, stream: Stream) -> None:
    def address(argument: Argument) -> int:
        return base + argument.offset if isinstance(argument, Column) else argument

    match operation:
        case Launch():
            device.launch(
                operation.kernel,
                operation.blocks,
                [address(argument) for argument in operation.arguments],
                stream,
                operation.constants,
            )
        case Decompression():
            device.decompressor.decompress(
                operation.format,
                Streams(
                    operation.count,
                    address(operation.source),
                    address(operation.nbytes),
                    address(operation.target),
                    address(operation.capacity),
                    operation.actual,
                    operation.status,
                ),
                most=operation.most,
                temp=operation.temp,
                temp_nbytes=operation.temp_nbytes,
                stream=stream,
            )
        case Checksums():
            device.decompressor.checksum(
                operation.algorithm,
                source=address(operation.source),
                nbytes=address(operation.nbytes),
                count=operation.count,
                most=operation.most,
                value=operation.value,
                stream=stream,
            )
        case _:
            assert_never(operation)
