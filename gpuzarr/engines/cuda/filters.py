"""Steps on elements, as launches: delta, scales, casts, bit streams, axis orders.

Each takes the chunks' bytes from one image to the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import numpy as np

from gpuzarr.engines.cuda.capability import number, scaling_type, swap_nbytes, type_name
from gpuzarr.engines.cuda.kernels import SCATTER_TILE, THREADS, TYPES
from gpuzarr.engines.cuda.pieces import A_AXIS, HEAD, PieceRows, element_strides, first_blocks
from gpuzarr.engines.cuda.shuffles import copy_elements
from gpuzarr.engines.cuda.transfer import float_bits
from gpuzarr.engines.number_types import BITS
from gpuzarr.program import (
    Cast,
    CumulativeSum,
    Reorder,
    ScaleOffset,
    UnpackBits,
    count_components,
    resolve_dtype,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.chunk_state import ChunkState

PADDINGS = {"none": 0, "first_byte": 1, "last_byte": 2}
A_WARP = 32
"""Threads of a warp; `sum_floats` has one for each chunk."""

Filter = CumulativeSum | ScaleOffset | Cast | UnpackBits | Reorder


def add_filter(chunks: ChunkState, step: Filter, sizes: NDArray[np.int64]) -> None:
    """Add the launch of a step.

    Args:
        chunks: of the batch.
        step: what is done.
        sizes: (encoded chunks,) bytes that it gives.
    """
    rows = chunks.encoded
    target = chunks.next_slots(rows)
    match step:
        case CumulativeSum():
            _cumulative_sum(chunks, step, target, sizes)
        case ScaleOffset():
            if step.arithmetic == "scale_offset":
                _undo_exactly(chunks, step, target, sizes)
            else:
                _undo_numcodecs(chunks, step, target, sizes)
        case Cast():
            _elementwise(chunks, "cast_elements", step, target, sizes)
        case UnpackBits():
            _unpack_bits(chunks, step, target, sizes)
        case Reorder():
            _reorder(chunks, step, target)
        case _:
            assert_never(step)
    chunks.move(rows, target)
    chunks.nbytes[rows] = sizes


def _type(name: str) -> tuple[int, int]:
    """A dtype string as a type's code and the bytes to swap."""
    dtype = resolve_dtype(name)
    code = type_name(dtype)
    assert code is not None  # noqa: S101  the capability rules leave others to the host
    return TYPES[code], swap_nbytes(dtype)


def _elementwise(
    chunks: ChunkState,
    kernel: str,
    step: ScaleOffset | Cast,
    target: NDArray[np.int64],
    sizes: NDArray[np.int64],
    *more: int,
) -> None:
    work = chunks.work
    count = sizes // resolve_dtype(step.decoded).itemsize
    edges = first_blocks(count, SCATTER_TILE)
    work.launch(
        kernel,
        edges[-1],
        work.integers(chunks.address[chunks.encoded]),
        work.integers(target),
        work.integers(count),
        work.integers(edges),
        len(count),
        *_type(step.encoded),
        *_type(step.decoded),
        *more,
    )


def _undo_numcodecs(
    chunks: ChunkState, step: ScaleOffset, target: NDArray[np.int64], sizes: NDArray[np.int64]
) -> None:
    arithmetic = scaling_type(step)
    assert arithmetic is not None  # noqa: S101  the capability rules leave others to the host
    numbers = (float_bits(number(step.scale)), float_bits(number(step.offset)))
    more = (TYPES[arithmetic], *numbers)
    _elementwise(chunks, "undo_fixedscaleoffset", step, target, sizes, *more)


def _undo_exactly(
    chunks: ChunkState, step: ScaleOffset, target: NDArray[np.int64], sizes: NDArray[np.int64]
) -> None:
    """v3's scale_offset: in the type itself, or an error."""
    dtype = resolve_dtype(step.decoded)
    work = chunks.work
    low = high = 0
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = _as_signed(info.min), _as_signed(info.max)
        scale, offset = _as_signed(int(step.scale)), _as_signed(int(step.offset))
    else:
        scale, offset = float_bits(number(step.scale)), float_bits(number(step.offset))
    count = sizes // dtype.itemsize
    edges = first_blocks(count, SCATTER_TILE)
    code, encoded_swap = _type(step.encoded)
    work.launch(
        "undo_scale_offset",
        edges[-1],
        work.integers(chunks.address[chunks.encoded]),
        work.integers(target),
        work.integers(count),
        work.integers(edges),
        len(count),
        code,
        encoded_swap,
        _type(step.decoded)[1],
        scale,
        offset,
        low,
        high,
        work.integers(chunks.encoded),
        chunks.status,
    )


def _as_signed(value: int) -> int:
    """The 64 bits of an integer, as the signed one that kernels take.

    >>> _as_signed(2**64 - 1)
    -1
    """
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _cumulative_sum(
    chunks: ChunkState, step: CumulativeSum, target: NDArray[np.int64], sizes: NDArray[np.int64]
) -> None:
    work = chunks.work
    dtype = resolve_dtype(step.decoded)
    count = sizes // dtype.itemsize
    integers = dtype.kind in "iu"
    warps = THREADS // A_WARP
    work.launch(
        "sum_integers" if integers else "sum_floats",
        len(count) if integers else -(-len(count) // warps),
        work.integers(chunks.address[chunks.encoded]),
        work.integers(target),
        work.integers(count),
        len(count),
        *_type(step.encoded),
        *_type(step.decoded),
    )


def _unpack_bits(
    chunks: ChunkState, step: UnpackBits, target: NDArray[np.int64], sizes: NDArray[np.int64]
) -> None:
    work, rows = chunks.work, chunks.encoded
    dtype = resolve_dtype(step.decoded)
    components = count_components(dtype)
    width = 8 * dtype.itemsize // components
    name = dtype.name if dtype.names is None else dtype[0].name
    count = sizes // dtype.itemsize * components
    edges = first_blocks(count, SCATTER_TILE)
    work.launch(
        "unpack_bits",
        edges[-1],
        work.integers(chunks.address[rows]),
        work.integers(chunks.nbytes[rows]),
        work.integers(target),
        work.integers(count),
        work.integers(edges),
        len(count),
        step.bits,
        width,
        BITS.get(name, width),
        step.first_bit,
        int(step.sign_extend),
        int(step.order == "big"),
        PADDINGS[step.padding],
        work.integers(rows),
        chunks.status,
    )


def _reorder(chunks: ChunkState, step: Reorder, target: NDArray[np.int64]) -> None:
    """Stored axis order to C order: pieces that are whole chunks."""
    rows = chunks.encoded
    shapes = chunks.shapes[rows]
    if step.shape is not None:
        shapes = np.broadcast_to(np.asarray(step.shape, np.int64), (len(rows), len(step.shape)))
    ndim = shapes.shape[1]
    pieces = np.empty((len(rows), HEAD + A_AXIS * ndim), np.int64)
    pieces[:, 0], pieces[:, 1], pieces[:, 2] = rows, 0, target
    pieces[:, HEAD::A_AXIS] = shapes
    pieces[:, HEAD + 1 :: A_AXIS] = element_strides(shapes, step.axes)
    pieces[:, HEAD + 2 :: A_AXIS] = step.itemsize * element_strides(shapes, tuple(range(ndim)))
    none = np.zeros(0, np.int64)
    copy_elements(chunks, PieceRows(pieces, 0, none, none), step.itemsize)
