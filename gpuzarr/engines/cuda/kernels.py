"""The CUDA sources: their text, their kernels, and the constants that both sides share.

Sources lie in `kernels/`. Headers are written into the text that is compiled, not included by the
compiler, so that CuPy's cache on disk, which hashes the text, cannot go stale. Constants exist
once, here, and reach the sources as `#define`s.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

THREADS: Final = 256
"""Threads of a block, for every kernel."""
WARP: Final = 32
"""Threads that run together."""
WARPS: Final = THREADS // WARP
"""Warps of a block."""

SCATTER_TILE: Final = 4 * THREADS
"""Elements that a block of `scatter` and its kin handles."""
ROWS_TILE: Final = 4 * THREADS
"""16-byte slots that a block of `scatter_rows` and `scatter_planes` handles."""
COPY_TILE: Final = 64 * THREADS
"""Bytes that a block of `copy_ranges` handles."""
VECTOR: Final = 16
"""Bytes of the widest load and store."""
BIT_TILE: Final = 8 * THREADS
"""Elements that a block of `bit_unshuffle` handles."""

TYPES: Final = {
    "b1": 0,
    "i1": 1,
    "u1": 2,
    "i2": 3,
    "u2": 4,
    "i4": 5,
    "u4": 6,
    "i8": 7,
    "u8": 8,
    "f2": 9,
    "f4": 10,
    "f8": 11,
    "c8": 12,
    "c16": 13,
    "bfloat16": 14,
    "table8": 15,
    "integer_table8": 16,
}
"""Codes of element types. Types of one byte that only a table of 256 float32 explains are "table8"
or, where their values are integers, "integer_table8"."""

STATUS: Final = {
    "STREAM": 1,  # a decoder refused a stream
    "SIZE": 2,  # a stream gave another number of bytes than it had to
    "CHECKSUM": 3,  # a checksum does not match
    "CONVERSION": 4,  # a value does not fit into the result's type
    "INEXACT": 5,  # an element does not divide by the scale
    "RANGE": 6,  # an element leaves the range of its type
    "PADDING": 7,  # a bit stream whose padding does not agree with its length
    "FRAME_CHECKSUM": 8,  # the checksum inside a compressed stream does not match
}
"""What goes wrong with a chunk; the first one is kept."""


class KernelSource(NamedTuple):
    """Where a kernel is."""

    file: str
    parameters: int
    """Number of parameters, each 64 bits wide."""
    constants: tuple[str, ...] = ()
    """Parameters for which it can be compiled, by name."""


_PLACES = ("naxes", "lists", "pitch", "field", "item", "swap", "shuffled")
_VALUES = ("source_type", "result_type", "arithmetic", "has_scale", "has_offset")

KERNELS: Final[Mapping[str, KernelSource]] = {
    "scatter_items": KernelSource("scatter.cu", 16, _PLACES),
    "scatter_converted": KernelSource("scatter.cu", 25, _PLACES + _VALUES),
    "scatter_rows": KernelSource("scatter_rows.cu", 9),
    "scatter_planes": KernelSource("scatter_planes.cu", 13, ("item", "swap")),
    "fill": KernelSource("fill.cu", 8),
    "copy_ranges": KernelSource("copy.cu", 5),
    "bit_unshuffle": KernelSource("bit_unshuffle.cu", 7),
    "sum_integers": KernelSource("cumulative_sum.cu", 8),
    "sum_floats": KernelSource("cumulative_sum.cu", 8),
    "cast_elements": KernelSource("elementwise.cu", 9),
    "undo_fixedscaleoffset": KernelSource("elementwise.cu", 12),
    "undo_scale_offset": KernelSource("elementwise.cu", 14),
    "unpack_bits": KernelSource("unpack_bits.cu", 15),
    "blosclz": KernelSource("blosclz.cu", 7),
    "blosc_streams": KernelSource("blosc_index.cu", 9),
    "adler32": KernelSource("adler32.cu", 4),
    "fletcher32": KernelSource("fletcher32.cu", 4),
    "xxh64": KernelSource("xxh64.cu", 4),
    "check_streams": KernelSource("check.cu", 6),
    "check_values": KernelSource("check.cu", 5),
    "check_stored": KernelSource("check.cu", 5),
}
"""Every kernel. Each source lists what its parameters mean."""


def kernels_folder() -> Path:
    """Where the sources lie: in the installed package, or in a checkout."""
    installed = Path(__file__).parents[2] / "_kernels"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "kernels"


def defines() -> dict[str, int]:
    """The constants that every source is compiled with."""
    return {
        "THREADS": THREADS,
        "WARP": WARP,
        "WARPS": WARPS,
        "SCATTER_TILE": SCATTER_TILE,
        "ROWS_TILE": ROWS_TILE,
        "COPY_TILE": COPY_TILE,
        "VECTOR": VECTOR,
        "BIT_TILE": BIT_TILE,
        **{f"TYPE_{name.upper()}": code for name, code in TYPES.items()},
        **{f"STATUS_{name}": code for name, code in STATUS.items()},
    }


def constant_defines(constants: Mapping[str, int] | None) -> dict[str, int]:
    """The `#define`s of parameters that are known when a kernel is compiled."""
    return {f"CONST_{name.upper()}": value for name, value in (constants or {}).items()}


_INCLUDE = re.compile(r'^#include "([a-z0-9_]+\.cuh)"\n', re.MULTILINE)


@lru_cache(maxsize=64)
def source_text(file: str) -> str:
    """A source with its headers written into it, each once."""
    seen: set[str] = set()

    def inline(match: re.Match[str]) -> str:
        header = match[1]
        if header in seen:
            return ""
        seen.add(header)
        text = (kernels_folder() / header).read_text().replace("#pragma once\n", "")
        return _INCLUDE.sub(inline, text)

    return _INCLUDE.sub(inline, (kernels_folder() / file).read_text())
