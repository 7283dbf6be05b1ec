"""Codecs that hold a chain of their own and cannot be taken apart: they are decoded whole.

A shard behind a codec that sees the order of elements (delta, reshape) is one chunk, and so is an
N5 block, which has its own shape in a header. Both make decoders of their own for what is inside.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.codecs.lower import lower_chain
from gpuzarr.engines.cpu.configuration import load
from gpuzarr.engines.cpu.prepared import Prepared, new_bytes
from gpuzarr.engines.step_error import DamageError
from gpuzarr.metadata.model import CodecMetadata, DataType
from gpuzarr.metadata.v3 import parse_codecs
from gpuzarr.program import resolve_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from gpuzarr.program import DecodeProgram, HostOnly, LoweredCodecs, ShardLayout

    class Decoder(Protocol):
        """A `ChunkDecoder`."""

        def decode(self, encoded: memoryview, out: memoryview | None = None) -> np.ndarray:
            """Decode one chunk."""
            ...

    MakeDecoder = Callable[[DecodeProgram, Sequence[int]], Decoder]

MISSING = 2**64 - 1
"""Offset and size of a chunk that a shard does not hold."""
N5_SHORT = 2
N5_INT = 4


def prepare_shard(name: str, step: HostOnly, nbytes: int | None, make: MakeDecoder) -> Prepared:
    """The function that decodes a shard whole."""
    settings = load(step.configuration)
    dtype = resolve_dtype(step.decoded or "")
    shape = tuple(settings["shape"])
    fill = settings["fill"]
    missing = (
        np.zeros((), dtype)
        if fill is None
        else np.frombuffer(bytes.fromhex(fill), dtype.newbyteorder("=")).reshape(())
    )
    codec = CodecMetadata("sharding_indexed", settings["codec"])
    lowered = _lower(dtype, settings["bits"], shape, (codec,))
    reader = _ShardReader(lowered.program, missing, make)
    layout = lowered.shard

    def decode_shard(encoded: memoryview, target: memoryview | None) -> memoryview:
        del target
        place = new_bytes(dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
        out = np.ndarray(shape, dtype, place)
        if layout is not None:
            # The decoders inside use this thread's scratch, where the shard may lie.
            reader.read(memoryview(bytes(encoded)), layout, out)
        return place

    return Prepared(name, decode_shard, nbytes, writes=False)


class _ShardReader:
    """Reads all chunks of a shard, and of the shards in it."""

    def __init__(self, program: DecodeProgram, missing: np.ndarray, make: MakeDecoder) -> None:
        self._program = program
        self._missing = missing
        self._make = make

    def read(self, shard: memoryview, layout: ShardLayout, out: np.ndarray) -> None:
        """Fill `out`, in array axes, from a shard."""
        counts = tuple(
            size // chunk for size, chunk in zip(out.shape, layout.chunk_shape, strict=True)
        )
        index_shape = (*(counts[axis] for axis in layout.axes), 2)
        nbytes = layout.index_program.stored_nbytes(index_shape) or 0
        if nbytes > len(shard):
            raise DamageError(f"{len(shard)} bytes are too few to hold an index of {nbytes}")
        stored = shard[:nbytes] if layout.index_at == "start" else shard[len(shard) - nbytes :]
        index = self._make(layout.index_program, index_shape).decode(stored).copy()
        decoder = None if layout.inner else self._make(self._program, layout.chunk_shape)
        for place in product(*map(range, index_shape[:-1])):
            coords = [0] * out.ndim
            for axis, position in zip(layout.axes, place, strict=True):
                coords[axis] = position
            part = out[
                tuple(
                    slice(position * size, (position + 1) * size)
                    for position, size in zip(coords, layout.chunk_shape, strict=True)
                )
            ]
            offset, size = map(int, index[place])
            if offset == size == MISSING:
                part[...] = self._missing
            elif offset + size > len(shard):
                raise DamageError(f"chunk {tuple(coords)} lies outside the shard")
            elif layout.inner is not None:
                self.read(shard[offset : offset + size], layout.inner, part)
            elif decoder is not None:
                part[...] = decoder.decode(shard[offset : offset + size])


def prepare_n5(name: str, step: HostOnly, nbytes: int | None, make: MakeDecoder) -> Prepared:
    """The function that decodes an N5 block: a header with its own shape, then a codec chain."""
    settings = load(step.configuration)
    dtype = resolve_dtype(step.decoded or "")
    shape = tuple(settings["shape"])
    codecs = parse_codecs(settings["codecs"])

    def decode_n5(encoded: memoryview, target: memoryview | None) -> memoryview:
        del target
        block, payload = _read_n5_header(encoded, shape)
        program = _lower(dtype, None, block, codecs).program
        place = new_bytes(dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
        out = np.ndarray(shape, dtype, place)
        if block != shape:
            out[...] = np.zeros((), dtype)
        part = make(program, block).decode(memoryview(bytes(payload)))
        out[tuple(map(slice, block))] = part
        return place

    return Prepared(name, decode_n5, nbytes, writes=False)


def _read_n5_header(
    encoded: memoryview, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], memoryview]:
    """The shape of a block and the bytes behind its header."""

    def number(place: int, nbytes: int) -> int:
        if place + nbytes > len(encoded):
            raise DamageError(f"{len(encoded)} bytes are too few to hold a header")
        return int.from_bytes(encoded[place : place + nbytes], "big")

    mode, axes = number(0, N5_SHORT), number(N5_SHORT, N5_SHORT)
    if mode != 0 or axes != len(shape):
        raise DamageError(f"a block of mode {mode} with {axes} axes")
    start = 2 * N5_SHORT
    block = tuple(number(start + N5_INT * axis, N5_INT) for axis in range(axes))
    if any(not 0 < size <= most for size, most in zip(block, shape, strict=True)):
        raise DamageError(f"a block of shape {block} in chunks of {shape}")
    return block, encoded[start + N5_INT * axes :]


def _lower(
    dtype: np.dtype, bits: int | None, shape: Sequence[int], codecs: Sequence[Any]
) -> LoweredCodecs:
    data_type = DataType(dtype.name, dtype.newbyteorder("="), bits=bits)
    return lower_chain(data_type, tuple((size,) for size in shape), None, codecs)
