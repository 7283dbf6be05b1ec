"""sharding_indexed: a codec that is a store of chunks of its own.

Lowering takes it apart. What stands before it in the chain goes on inside: transposes turn the
coordinates of its chunks, element-wise codecs add steps to each chunk's program. A codec before it
that sees the order of elements across chunks (delta, reshape) cannot be taken apart so, and neither
can codecs behind a shard that lies in a shard: such a shard is decoded whole, on the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.codecs.chain import Codec, start_chain
from gpuzarr.codecs.configuration import malformed, refuse_other_keys, take_choice, take_ints
from gpuzarr.errors import MetadataError
from gpuzarr.metadata.model import CodecMetadata, DataType
from gpuzarr.metadata.v3 import parse_codecs
from gpuzarr.program import (
    Cast,
    DecodeProgram,
    HostOnly,
    ScaleOffset,
    ShardLayout,
    canonical_json,
    dtype_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gpuzarr.codecs.chain import Chain

    Walk = Callable[[Chain, Sequence[CodecMetadata]], None]

NAME = "sharding_indexed"
N5 = "n5_default"


def lower_sharding(
    chain: Chain, configuration: Mapping[str, Any], walk: Walk, *, last: bool
) -> None:
    """Take a sharding codec apart into a `ShardLayout` and the program of its chunks.

    Args:
        chain: the chain in front of the codec.
        configuration: the codec's.
        walk: walks a chain along codecs; the caller's own function, since shards nest.
        last: whether no codec stands behind it.
    """
    sizes = _chunk_sizes(chain, configuration)
    codecs = parse_codecs(configuration.get("codecs"), f"{NAME}: codecs")
    index_at = take_choice(NAME, configuration, "index_location", ("start", "end"), "end")
    index_program = lower_index(chain, configuration, walk)
    inner_sizes = tuple((size,) for size in sizes)
    if not chain.untouched or (chain.nested and not last):
        alone = start_chain(chain.data_type, chain.dtype, inner_sizes, None)
        alone.reasons, alone.foreign = chain.reasons, chain.foreign
        walk(alone, codecs)
        _whole_shard(chain, configuration)
        return
    inner = chain.inner(inner_sizes)
    walk(inner, codecs)
    chain.shard = ShardLayout(
        tuple(sizes[chain.axes.index(axis)] for axis in range(chain.ndim)),
        chain.axes,
        index_program,
        "start" if index_at == "start" else "end",
        inner.shard,
    )
    chain.steps, chain.dtype, chain.stage = inner.steps, inner.dtype, "bytes"
    chain.layout_dtype, chain.layout_axes = inner.layout().dtype, inner.layout().axes


def _chunk_sizes(chain: Chain, configuration: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of the chunks inside, which must divide the shard's."""
    shape = take_ints(NAME, configuration, "chunk_shape")
    if len(shape) != chain.ndim or not all(size > 0 for size in shape):
        malformed(NAME, f"'chunk_shape' must be {chain.ndim} positive integers, not {list(shape)}")
    for axis, (inner, outer) in enumerate(zip(shape, chain.sizes, strict=True)):
        if any(size % inner for size in outer):
            malformed(
                NAME, f"chunks of size {inner} do not divide shards of {outer} along axis {axis}"
            )
    return shape


def lower_index(chain: Chain, configuration: Mapping[str, Any], walk: Walk) -> DecodeProgram:
    """The program of a shard's index: (chunks per shard..., 2) unsigned 64-bit integers."""
    dtype = np.dtype("u8")
    sizes = (*(() for _ in chain.sizes), (2,))
    index = start_chain(DataType("uint64", dtype), dtype, sizes, None)
    index.reasons, index.foreign = chain.reasons, chain.foreign
    walk(index, parse_codecs(configuration.get("index_codecs"), f"{NAME}: index_codecs"))
    program = DecodeProgram(index.decode_steps(), index.layout())
    probe = (1,) * chain.ndim + (2,)
    if index.shard is not None or (not chain.reasons and program.stored_nbytes(probe) is None):
        raise MetadataError(f"codec {NAME!r}: 'index_codecs' must give an index of known size")
    return program


def _whole_shard(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """Make the shard one chunk that the host decodes whole."""
    shape = chain.shape
    changes_values = any(isinstance(step, Cast | ScaleOffset) for step in chain.steps)
    if shape is None or changes_values or chain.dtype.hasobject or chain.dtype.names is not None:
        chain.refuse(
            "codec 'sharding_indexed' follows a codec that depends on the order of elements, or "
            "has codecs behind it inside a shard; that is supported only for regular grids of "
            "numbers without casts"
        )
        shape = shape or (1,) * chain.ndim
    fill = chain.fill_value
    settings = {
        "codec": dict(configuration),
        "shape": list(shape),
        "bits": chain.bits,
        "fill": None if fill is None else np.asarray(fill, chain.dtype).tobytes().hex(),
    }
    name = None if chain.dtype.names is not None else dtype_name(chain.dtype)
    chain.to_bytes(chain.dtype)
    chain.push(HostOnly(NAME, canonical_json(settings), name, fixed_size=True))
    chain.dtype = np.dtype("u1")


def lower_n5(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """`n5_default`: blocks with a header that says their own shape, then a chain of codecs."""
    refuse_other_keys(N5, configuration, ("codecs",))
    codecs = parse_codecs(configuration.get("codecs"), f"{N5}: codecs")
    if (shape := chain.shape) is None or chain.dtype.kind not in "iuf":
        chain.refuse("codec 'n5_default' is supported for regular grids of numbers only")
        shape = (1,) * chain.ndim
    if [codec.name for codec in codecs[:2]] != ["transpose", "bytes"]:
        malformed(N5, "its codecs must begin with transpose and bytes")
    settings = {"codecs": configuration.get("codecs"), "shape": list(shape)}
    chain.to_bytes(chain.dtype)
    chain.push(HostOnly(N5, canonical_json(settings), dtype_name(chain.dtype), fixed_size=True))


CHAIN_CODECS = {N5: Codec("array -> bytes", lower_n5)}
"""Codecs that hold chains of their own, but sharding_indexed, which needs the walk."""
