"""The last step on the device: decoded chunks to the outputs, in as few launches as possible.

One launch writes the pieces of all outputs that take elements in the same way: cropped, stepped,
unshuffled, swapped, transposed and converted on the way. Where runs of bytes stay as they are, they
are copied as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.conversion import arithmetic_dtype, convert
from gpuzarr.engines.cuda.capability import swap_nbytes, type_name
from gpuzarr.engines.cuda.kernels import SCATTER_TILE, TYPES
from gpuzarr.engines.cuda.pieces import (
    PieceRows,
    element_strides,
    first_blocks,
    join_rows,
    merge_axes,
    piece_rows,
)
from gpuzarr.engines.cuda.rows import (
    PLANE_ITEMS,
    PLANE_SWAPS,
    SPECIALISE_NBYTES,
    has_runs,
    in_bytes,
    piece_arguments,
    scatter_planes,
    scatter_runs,
)
from gpuzarr.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.work import Argument, Work
    from gpuzarr.engines.engine import Conversion, Output
    from gpuzarr.plan.chunk_table import PieceTable
    from gpuzarr.program import Layout


@dataclass(frozen=True, slots=True)
class Transfer:
    """How elements get from a stored chunk to an output."""

    pitch: int
    """Bytes from one stored element to the next."""
    field: int
    """First byte of what is read inside an element."""
    item: int
    """Bytes that are read of each."""
    swap: int
    """Bytes of the components whose order is reversed; 0: none is."""
    converted: Converted | None
    """None: the bytes go over as they are."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversion in the words of the kernel."""

    source: str
    """Names of `kernels.TYPES`."""
    result: str
    arithmetic: int
    """0: none; 1: float32; 2: float64 (of complex numbers, their components)."""
    scale: float | None
    offset: float | None
    dtype: str
    """The stored dtype's name, for types that a table explains."""


@lru_cache(maxsize=256)
def find_transfer(stored: np.dtype, conversion: Conversion) -> Transfer:
    """The transfer that a conversion means.

    Args:
        stored: dtype of stored elements, with its byte order.
        conversion: from these to the output's.

    Raises:
        UnsupportedError: a conversion that the GPU does not do.
    """
    pitch, field = stored.itemsize, 0
    if conversion.field is not None:
        stored, field = stored.fields[conversion.field][:2]  # type: ignore[index]
    converted = find_converted(stored, conversion)
    return Transfer(pitch, field, stored.itemsize, swap_nbytes(stored), converted)


def find_converted(stored: np.dtype, conversion: Conversion) -> Converted | None:
    """What the kernel has to do with each element; None where its bytes stay as they are.

    Args:
        stored: dtype of the elements, in any byte order.
        conversion: from these to the output's.

    Raises:
        UnsupportedError: a conversion that the GPU does not do.
    """
    if conversion.identity or stored.kind in "mM":  # dates become the integers that they are
        return None
    source, result = type_name(stored), type_name(conversion.result)
    if source is None or result is None or result.endswith("table8"):
        raise UnsupportedError(
            f"values of type {stored} are not converted to {conversion.result} on the GPU; read"
            ' them with device="cpu"'
        )
    arithmetic = arithmetic_dtype(conversion)
    width = 0
    if arithmetic is not None:
        width = 1 if arithmetic.itemsize // (2 if arithmetic.kind == "c" else 1) == 4 else 2  # noqa: PLR2004
    table = stored.name if source.endswith("table8") else ""
    return Converted(source, result, width, conversion.scale, conversion.offset, table)


@dataclass(frozen=True, slots=True, eq=False)
class ChunkColumns:
    """The decoded chunks of a batch in device memory; addresses of columns."""

    address: Argument
    """(n,) uint64 addresses."""
    nbytes: Argument
    typesize: Argument
    """(n,) element size of the byte shuffle that is still to be undone; 0: none."""
    block: Argument
    """(n,) bytes of its blocks."""
    shuffled: bool
    """Whether any is."""


class OutputTarget:
    """An output, as kernels see it."""

    def __init__(self, output: Output, address: int) -> None:
        """Look at it once for a read.

        Raises:
            UnsupportedError: its conversion is not for the GPU.
        """
        self.output = output
        self.address = address
        self.strides: tuple[int, ...] = tuple(output.array.strides)
        self.item: int = output.array.dtype.itemsize
        find_converted(output.conversion.stored, output.conversion)

    def fill_bytes(self) -> NDArray[np.uint8]:
        """The fill value in the output's type.

        Raises:
            ValueError: it does not fit.
        """
        conversion, fill = self.output.conversion, self.output.fill
        if conversion.field is not None:
            fill = fill[conversion.field]
        if not conversion.identity:
            fill = convert(fill, conversion)
        native = fill.astype(fill.dtype.newbyteorder("="))
        return np.frombuffer(native.tobytes(), np.uint8)


def _groups(
    targets: Sequence[OutputTarget],
    pieces: PieceTable,
    strides: NDArray[np.int64],
    kind: Callable[[OutputTarget], object],
) -> list[tuple[OutputTarget, PieceRows]]:
    """Pieces of outputs of one kind and form together, with one of these outputs."""
    found: dict[object, tuple[OutputTarget, list[PieceRows]]] = {}
    for number, chosen in pieces.by_output():
        target = targets[number]
        rows = piece_rows(
            pieces, chosen, pieces.axes[number], strides, target.address, target.strides
        )
        key = (kind(target), rows.naxes, rows.lists)
        found.setdefault(key, (target, []))[1].append(rows)
    return [(target, merge_axes(join_rows(parts))) for target, parts in found.values()]


def scatter(  # noqa: PLR0913, PLR0917  what goes where
    work: Work,
    targets: Sequence[OutputTarget],
    pieces: PieceTable,
    shapes: NDArray[np.int64],
    layout: Layout,
    chunks: ChunkColumns,
    status: int,
) -> None:
    """Add the launches that write the pieces of decoded chunks.

    Args:
        work: where they are added.
        targets: all outputs of the read.
        pieces: what goes where; `pieces.chunk` is a row of the chunk columns.
        shapes: (n, ndim) shapes of the chunks.
        layout: how they lie in memory.
        chunks: where they lie in memory.
        status: address of the chunks' statuses.
    """
    strides = element_strides(shapes, layout.axes)

    def transfer_of(target: OutputTarget) -> Transfer:
        return find_transfer(layout.dtype, target.output.conversion)

    for target, rows in _groups(targets, pieces, strides, transfer_of):
        transfer = transfer_of(target)
        if transfer.converted is not None or not has_runs(rows, transfer.pitch, transfer.item):
            _scatter_elements(work, rows, transfer, chunks, status)
        elif not chunks.shuffled and transfer.swap <= 1:
            scatter_runs(work, in_bytes(rows, transfer.item), chunks)
        elif transfer.item in PLANE_ITEMS and transfer.swap in PLANE_SWAPS:
            scatter_planes(work, rows, transfer.item, transfer.swap, chunks)
        else:
            _scatter_elements(work, rows, transfer, chunks, status)


def _scatter_elements(
    work: Work, rows: PieceRows, transfer: Transfer, chunks: ChunkColumns, status: int
) -> None:
    edges = first_blocks(rows.counts(), SCATTER_TILE)
    constants = {
        "naxes": rows.naxes,
        "lists": rows.lists,
        "pitch": transfer.pitch,
        "field": transfer.field,
        "item": transfer.item,
        "swap": transfer.swap,
        "shuffled": int(chunks.shuffled),
    }
    arguments: list[Argument] = [
        *piece_arguments(work, rows, edges),
        chunks.address,
        chunks.nbytes,
        chunks.typesize,
        chunks.block,
        transfer.pitch,
        transfer.field,
        transfer.item,
        transfer.swap,
        int(chunks.shuffled),
    ]
    converted = transfer.converted
    if converted is None:
        work.launch("scatter_items", edges[-1], *arguments, **_worth(constants, rows, transfer))
        return
    how = {
        "source_type": TYPES[converted.source],
        "result_type": TYPES[converted.result],
        "arithmetic": converted.arithmetic,
        "has_scale": int(converted.scale is not None),
        "has_offset": int(converted.offset is not None),
    }
    table: Argument = 0
    if converted.dtype:
        table = work.column(_values_of_bytes(converted.dtype))
    arguments += [
        how["source_type"],
        how["result_type"],
        how["arithmetic"],
        how["has_scale"],
        float_bits(_or_zero(converted.scale)),
        how["has_offset"],
        float_bits(_or_zero(converted.offset)),
        table,
        status,
    ]
    constants = _worth(constants | how, rows, transfer)
    work.launch("scatter_converted", edges[-1], *arguments, **constants)


def _worth(constants: dict[str, int], rows: PieceRows, transfer: Transfer) -> dict[str, int]:
    """The constants, where there is enough to do for a kernel of its own."""
    nbytes = int(rows.counts().sum()) * transfer.item
    return constants if nbytes >= SPECIALISE_NBYTES else {}


def fill(work: Work, targets: Sequence[OutputTarget], pieces: PieceTable) -> None:
    """Add the launches that write fill values where chunks are not stored.

    Raises:
        ValueError: a fill value that does not fit into its output.
    """
    nchunks = int(pieces.chunk[-1]) + 1
    ndim = 1 + max((dim for axes in pieces.axes for axis in axes for dim in axis.dims), default=-1)
    strides = np.zeros((nchunks, ndim), np.int64)

    def kind(target: OutputTarget) -> object:
        return target.fill_bytes().tobytes()

    for target, rows in _groups(targets, pieces, strides, kind):
        edges = first_blocks(rows.counts(), SCATTER_TILE)
        work.launch(
            "fill",
            edges[-1],
            work.integers(rows.rows),
            work.integers(edges),
            len(rows.rows),
            rows.naxes,
            rows.lists,
            work.integers(rows.list_target),
            work.column(target.fill_bytes()),
            target.item,
        )


@lru_cache(maxsize=64)
def _values_of_bytes(name: str) -> NDArray[np.float32]:
    """(256,) the values of the bytes of a one-byte type of ml_dtypes."""
    import ml_dtypes  # noqa: PLC0415  only arrays of these types need it

    codes = np.arange(256, dtype=np.uint8)
    with np.errstate(all="ignore"):
        values: NDArray[np.float32] = codes.view(getattr(ml_dtypes, name)).astype(np.float32)
    return values


def _or_zero(value: float | None) -> float:
    """A number; -0.0 stays what it is."""
    return 0.0 if value is None else value


def float_bits(value: float) -> int:
    """The bits of a float64, as the signed integer that kernels take.

    >>> float_bits(-2.0)
    -4611686018427387904
    """
    return int(np.float64(value).view(np.int64))
