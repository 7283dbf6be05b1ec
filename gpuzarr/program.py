"""What the bytes of a chunk mean, as data: the seam between codecs and engines.

An array's codec chain is lowered once into a `DecodeProgram`: a tuple of steps in decode order,
from the stored bytes to the bytes of the chunk's elements, and a `Layout` that says how those bytes
lie. Engines run programs over tables of chunks; nothing here holds an array, a device or a file.

Every step takes bytes and gives bytes. Typed steps name the dtypes that they take and give, with
byte order, as NumPy dtype strings; all of them treat the chunk as flat, in stored order.

    stored bytes -> VerifyChecksum("crc32c") -> Decompress("zstd") -> Unshuffle(4)
                 -> layout: "<f4", axes (0, 1)

A transpose that only element-wise steps follow is part of the layout; otherwise it is a `Reorder`
step. Equal programs may share one batch, so programs are hashable: configurations are
canonical JSON text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Literal, assert_never

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class VerifyChecksum:
    """Check a 4-byte little-endian checksum of the other bytes, and strip it."""

    algorithm: Literal["crc32c", "crc32", "adler32", "fletcher32"]
    at: Literal["start", "end"] = "end"
    """Where the checksum lies."""


@dataclass(frozen=True, slots=True)
class Decompress:
    """Undo a general compressor. The expected size, where known, is checked exactly."""

    format: Literal["zstd", "gzip", "zlib", "lz4", "blosc", "bz2", "lzma"]
    """lz4 is numcodecs' form: a 4-byte little-endian size, then one raw LZ4 block."""
    configuration: str = "{}"
    """Canonical JSON; only lzma needs one (`format`, `check`, `filters`)."""


@dataclass(frozen=True, slots=True)
class Unshuffle:
    """Undo numcodecs' `shuffle` over the whole chunk; bytes after the last whole element stay."""

    itemsize: int
    unit: Literal["byte", "bit"] = "byte"


@dataclass(frozen=True, slots=True)
class CumulativeSum:
    """Undo the delta filter: a running sum over the chunk, in the stored order."""

    encoded: str
    """dtype of the differences, such as "<i2"."""
    decoded: str
    """dtype of the sums; the arithmetic is done in it and wraps."""


@dataclass(frozen=True, slots=True)
class ScaleOffset:
    """`encoded / scale + offset`, element by element.

    With "fixedscaleoffset" (numcodecs) the arithmetic is NumPy's for the encoded array and Python
    numbers, and the result is cast to `decoded`; with "scale_offset" (v3) the arithmetic is in
    `decoded` itself, and integers must stay exact and in range.
    """

    encoded: str
    decoded: str
    scale: float | int | str
    """A number (for "scale_offset" the exact value in `decoded`), or "NaN", "-Infinity"..."""
    offset: float | int | str
    arithmetic: Literal["fixedscaleoffset", "scale_offset"]


@dataclass(frozen=True, slots=True)
class Cast:
    """Convert elements to another dtype, as NumPy's astype unless a configuration says more."""

    encoded: str
    decoded: str
    configuration: str = "{}"
    """Canonical JSON of v3's cast_value: rounding, out_of_range, scalar_map (its decode half)."""


@dataclass(frozen=True, slots=True)
class UnpackBits:
    """Unpack elements of fewer than 8 bits, or more, from a bit stream into one element each.

    The element count comes from the chunk's shape. `padding` says whether the first or the last
    byte holds the number of padding bits (numcodecs' packbits: "first_byte").

    With `bits=8` a type narrower than a byte is stored in whole bytes whose upper bits mean
    nothing: only the low bits that the type has are kept.
    """

    decoded: str
    """dtype of the elements: "|b1", an integer dtype, or the name of an ml_dtypes type."""
    bits: int
    """Bits per element component in the stream (1 for bool, 4 for int4 and float4, 12 for the low
    bits of uint16...)."""
    padding: Literal["none", "first_byte", "last_byte"] = "none"
    first_bit: int = 0
    """The lowest bit of each element component that the stream holds."""
    sign_extend: bool = False
    order: Literal["little", "big"] = "little"
    """Bit order within a byte: v3's packbits is little, NumPy's packbits (numcodecs) is big."""


@dataclass(frozen=True, slots=True)
class Reorder:
    """Bring the stored axis order back to C order in the middle of a program."""

    itemsize: int
    axes: tuple[int, ...]
    """Stored axis i is axis `axes[i]` of the array at this point."""
    shape: tuple[int, ...] | None = None
    """Shape of what the step gives, where that is not the chunk's own shape."""


@dataclass(frozen=True, slots=True)
class HostOnly:
    """A codec that only the CPU decodes, through numcodecs, a kept library, or a plug-in."""

    codec_id: str
    configuration: str = "{}"
    """Canonical JSON of the codec's own configuration."""
    decoded: str | None = None
    """dtype of what it gives; None when it gives bytes, "|O" when it gives objects."""
    fixed_size: bool = False
    """True when the number of bytes it gives is known from the chunk's shape alone."""


Step = (
    VerifyChecksum
    | Decompress
    | Unshuffle
    | CumulativeSum
    | ScaleOffset
    | Cast
    | UnpackBits
    | Reorder
    | HostOnly
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a decoded chunk lies in memory."""

    dtype: np.dtype
    """Stored element type with its byte order; object for variable-length types."""
    axes: tuple[int, ...]
    """Storage order: stored axis i (slowest first) is array axis `axes[i]`; identity is C order."""

    @property
    def c_order(self) -> bool:
        """Whether stored axes are array axes in order."""
        return self.axes == tuple(range(len(self.axes)))

    def strides(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Bytes from one element of a decoded chunk to the next along each axis of the array.

        >>> Layout(np.dtype("i2"), (1, 0)).strides((3, 5))
        (2, 6)
        """
        strides = [0] * len(shape)
        stride = self.dtype.itemsize
        for axis in reversed(self.axes):
            strides[axis] = stride
            stride *= shape[axis]
        return tuple(strides)


@dataclass(frozen=True, slots=True)
class DecodeProgram:
    """Steps in decode order (the first takes the stored bytes) and the layout of what they give."""

    steps: tuple[Step, ...]
    layout: Layout

    def decoded_nbytes(self, shape: Sequence[int]) -> int:
        """Bytes of a decoded chunk of `shape` elements (variable-length types: of its pointers)."""
        return prod(shape) * self.layout.dtype.itemsize

    def step_nbytes(self, shape: Sequence[int]) -> tuple[int | None, ...]:
        """Bytes that each step gives for a chunk of `shape`; None where only the data tell."""
        sizes: list[int | None] = []
        after: int | None = self.decoded_nbytes(shape)
        if self.layout.dtype.hasobject:
            after = None
        for step in reversed(self.steps):
            sizes.append(after)
            after = encoded_nbytes(step, after)
        return tuple(reversed(sizes))

    def stored_nbytes(self, shape: Sequence[int]) -> int | None:
        """Bytes of the stored chunk, where every step is of fixed size; else None."""
        if not self.steps:
            return None if self.layout.dtype.hasobject else self.decoded_nbytes(shape)
        return encoded_nbytes(self.steps[0], self.step_nbytes(shape)[0])


def encoded_nbytes(step: Step, decoded_nbytes: int | None) -> int | None:
    """Bytes that `step` takes to give `decoded_nbytes`; None where only the data tell.

    >>> encoded_nbytes(VerifyChecksum("crc32c"), 100)
    104
    >>> encoded_nbytes(Decompress("zstd"), 100) is None
    True
    """
    if decoded_nbytes is None:
        return None
    match step:
        case VerifyChecksum():
            return decoded_nbytes + 4
        case Unshuffle() | Reorder():
            return decoded_nbytes
        case CumulativeSum() | ScaleOffset() | Cast():
            count = decoded_nbytes // resolve_dtype(step.decoded).itemsize
            return count * resolve_dtype(step.encoded).itemsize
        case UnpackBits():
            return unpack_bits_nbytes(step, decoded_nbytes)
        case Decompress() | HostOnly():
            return None
        case _:
            assert_never(step)


def unpack_bits_nbytes(step: UnpackBits, decoded_nbytes: int) -> int:
    """Bytes of the packed stream that gives `decoded_nbytes`."""
    dtype = resolve_dtype(step.decoded)
    count = decoded_nbytes // dtype.itemsize * count_components(dtype)
    return -(-count * step.bits // 8) + (step.padding != "none")


def count_components(dtype: np.dtype) -> int:
    """Numbers in an element: 2 for complex types, whoever defines them, else 1."""
    return 2 if dtype.kind == "c" or dtype.names == ("re", "im") or "complex" in dtype.name else 1


def describe_program(program: DecodeProgram) -> str:
    """A program on one line."""
    steps = [*map(describe_step, program.steps), f"elements of {program.layout.dtype}"]
    return " -> ".join(steps)


def describe_step(step: Step) -> str:
    """What `step` does, in the words that error messages use.

    >>> describe_step(Decompress("zstd"))
    'decompress zstd'
    """
    match step:
        case VerifyChecksum():
            return f"verify {step.algorithm}"
        case Decompress():
            return f"decompress {step.format}"
        case Unshuffle():
            return f"unshuffle {step.unit}s"
        case CumulativeSum():
            return "undo delta"
        case ScaleOffset():
            return f"undo {step.arithmetic}"
        case Cast():
            return f"cast {step.encoded} to {step.decoded}"
        case UnpackBits():
            return "unpack bits"
        case Reorder():
            return "reorder axes"
        case HostOnly():
            return f"decode {step.codec_id}"
        case _:
            assert_never(step)


@lru_cache(maxsize=256)
def resolve_dtype(name: str) -> np.dtype:
    """NumPy's dtype for a dtype string, or ml_dtypes' for one of its names (such as "bfloat16").

    >>> resolve_dtype(">i4").str
    '>i4'
    """
    dtype: np.dtype
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes  # noqa: PLC0415  only arrays of these types need it

        plain = name.removeprefix(">").removeprefix("complex_")
        dtype = np.dtype(getattr(ml_dtypes, plain))
        if "complex_" in name:
            dtype = np.dtype([("re", dtype), ("im", dtype)])
        return dtype.newbyteorder(">") if name.startswith(">") else dtype


def dtype_name(dtype: np.dtype) -> str:
    """The inverse of `resolve_dtype`: NumPy's dtype string, or the name of an ml_dtypes type.

    Types of ml_dtypes have no dtype string of their own, so ">" in front marks big endian, and
    "complex_" a pair of fields, real and imaginary, which NumPy has no complex type for.

    >>> dtype_name(np.dtype(">u2"))
    '>u2'
    """
    if dtype.names == ("re", "im"):
        return _extension_name(dtype[0], "complex_")
    if dtype.names is not None:
        raise TypeError(f"a structured dtype has no name: {dtype}")
    if np.dtype(dtype.type).isbuiltin == _REGISTERED_BY_A_USER:
        return _extension_name(dtype, "")
    return dtype.str


_REGISTERED_BY_A_USER = 2
"""`dtype.isbuiltin` of types that NumPy does not have itself."""


def _extension_name(dtype: np.dtype, prefix: str) -> str:
    big = dtype.itemsize > 1 and dtype.str.startswith(">")
    return (">" if big else "") + prefix + dtype.name


def canonical_json(configuration: Mapping[str, object]) -> str:
    """One text for equal configurations, so that programs with equal codecs are equal.

    >>> canonical_json({"b": 1, "a": [2]})
    '{"a":[2],"b":1}'
    """
    return json.dumps(configuration, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """Where the chunks of a shard lie inside its stored object.

    A shard's index has two unsigned 64-bit numbers a chunk, (offset, nbytes), both 2**64 - 1 for a
    chunk that is not stored: zarr-specs, sharding_indexed codec v1.0.
    """

    chunk_shape: tuple[int, ...]
    """Shape of the chunks inside, in array axes (transposes before the sharding codec undone)."""
    axes: tuple[int, ...]
    """Axis order of the index: index axis i is array axis `axes[i]`."""
    index_program: DecodeProgram
    """Turns the stored index into (chunks per shard along each index axis..., 2) unsigned
    integers."""
    index_at: Literal["start", "end"]
    inner: ShardLayout | None = None
    """The layout of the shards inside this shard, when its chunks are shards themselves."""

    @property
    def leaf(self) -> ShardLayout:
        """The innermost shard layout, whose chunks are decodable."""
        return self if self.inner is None else self.inner.leaf


@dataclass(frozen=True, slots=True)
class LoweredCodecs:
    """A codec chain, lowered: what `codecs.lower` gives."""

    program: DecodeProgram
    """Decodes one chunk, of the innermost shards where there are any."""
    shard: ShardLayout | None = None
    """How chunks lie in stored objects; None when each chunk is an object."""
    object_steps: tuple[Step, ...] = ()
    """Steps that a whole stored shard needs before its index and chunks can be found (codecs after
    the sharding codec)."""
