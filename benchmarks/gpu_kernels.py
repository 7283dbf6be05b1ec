"""Each kernel of `kernels/` alone, on device memory: bytes moved a second.

Chunks of 1 MiB lie one behind another, the same bytes in each, in memory that is far larger than
the GPU's cache. What the first chunk became is compared with NumPy's answer. Bytes that are moved
are those of `kernels/README.md`: read and written, without tables.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from gpu_bench import GB, KIB, MIB
from gpu_ceilings import Alone, WrongDataError
from gpu_ground import Ground
from gpu_scatters import as_items, as_rows, converted, fill, planes, transposed, whole
from gpu_streams import (
    bit_planes,
    blosc_index,
    check,
    checksum,
    copy,
    elementwise,
    fletcher,
    frames,
    sums,
    unpack,
    xxh64,
)

from gpuzarr.engines.cuda.kernels import KERNELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpu_bench import Bench
    from gpu_ground import Case

    Row = dict[str, Any]

RUNS = (4, 16, 64, 256, 4096)
"""Bytes of rows that are scattered."""


def cases() -> dict[str, Case]:
    """Every kernel but blosclz, by what it does."""
    found: dict[str, Case] = {"copy_ranges, aligned": copy(0), "copy_ranges, 1 byte off": copy(1)}
    found["fill, 4 bytes"] = fill
    for kernel, make in (("scatter_rows", as_rows), ("scatter_items", as_items)):
        for apart in (False, True):
            where = "apart in the output" if apart else "apart in the chunk"
            for run in RUNS:
                found[f"{kernel}, rows of {run:,} bytes, {where}"] = make(run, apart)
    for typesize in (2, 4, 8):
        found[f"scatter_items, byte planes of {typesize}"] = whole(typesize, typesize=typesize)
        found[f"scatter_planes, byte planes of {typesize}"] = planes(typesize, typesize=typesize)
    found["scatter_items, 4 bytes swapped"] = whole(4, swap=4)
    found["scatter_planes, 4 bytes swapped"] = planes(4, swap=4)
    found["scatter_items, 4 bytes transposed"] = transposed
    found["scatter_converted, u2 to f4"] = converted(None, None)
    found["scatter_converted, u2 to f4, scaled"] = converted(0.5, 3.0)
    for typesize in (2, 4):
        found[f"bit_unshuffle, elements of {typesize} bytes"] = bit_planes(typesize)
    found["sum_integers, i4"] = sums("sum_integers", "<i4")
    found["sum_floats, f4"] = sums("sum_floats", "<f4")
    found["cast_elements, i2 to f4"] = elementwise("cast_elements", "<i2", "<f4")
    found["undo_fixedscaleoffset, u2 to f4"] = elementwise("undo_fixedscaleoffset", "<u2", "<f4")
    found["undo_scale_offset, i4"] = elementwise("undo_scale_offset", "<i4", "<i4")
    for bits in (1, 4):
        found[f"unpack_bits, {bits} to 8"] = unpack(bits)
    found["blosc_streams, frames of 1 MiB"] = blosc_index
    found["adler32, 1 MiB"] = checksum("adler32", zlib.adler32, MIB)
    found["fletcher32, 1 MiB"] = checksum("fletcher32", fletcher, MIB)
    found["xxh64, 64 KiB"] = checksum("xxh64", xxh64, 64 * KIB)
    for kernel in ("check_streams", "check_values", "check_stored"):
        found[kernel] = check(kernel)
    return found


def kernels(bench: Bench) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Every kernel of `KERNELS`, some in several ways."""
    for name, make in cases().items():
        yield name, lambda make=make: measure(bench, make)  # type: ignore[misc]
    yield "blosclz, frames of 1 MiB", lambda: blosclz(bench)


def measure(bench: Bench, make: Case) -> Row:
    """Run a kernel, and compare.

    Raises:
        WrongDataError: it did something else than it has to.
    """
    ground = Ground(bench)
    launch = make(ground)
    device, stream = bench.device, bench.stream
    if len(launch.arguments) != KERNELS[launch.kernel].parameters:
        raise TypeError(f"{launch.kernel}: {len(launch.arguments)} arguments")
    taken = bench.seconds(
        lambda: device.launch(
            launch.kernel, launch.blocks, launch.arguments, stream, launch.constants
        )
    )
    expected = np.ascontiguousarray(launch.expected)
    found = launch.pick(bench.get(launch.place, launch.nbytes or expected.nbytes))
    if found.tobytes() != expected.tobytes():
        raise WrongDataError(launch.kernel)
    return {"kernel": launch.kernel, "moved, MB": launch.moved / 1e6, **speed(launch.moved, taken)}


def blosclz(bench: Bench) -> Row:
    """Blosc's own compressor; bytes moved are those of the streams and of what they become."""
    ground = Ground(bench)
    data, frame = frames(ground)
    alone = Alone(bench, "blosc", [frame] * ground.count, len(data))
    taken = bench.seconds(alone.start)
    alone.check()
    for begin, part in alone.decoded(0):
        if part.tobytes() != data[begin : begin + len(part)]:
            raise WrongDataError("blosclz")
    moved = alone.nbytes
    return {"kernel": "blosclz", "moved, MB": moved / 1e6, **speed(moved, taken)}


def speed(moved: int, taken: float) -> Row:
    """In a row."""
    return {"GB/s": moved / taken / GB, "us": 1e6 * taken}
