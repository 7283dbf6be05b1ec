"""Codec chains to decode programs, once for each array.

`CODECS` is the list of what is supported. Everything that stands in the way of reading an array is
found here, before any chunk is touched, and told at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.codecs.array_codecs import ARRAY_CODECS
from gpuzarr.codecs.bytes_codec import BYTES_CODECS
from gpuzarr.codecs.chain import Chain, Codec, Sizes, start_chain
from gpuzarr.codecs.checksums import CHECKSUMS
from gpuzarr.codecs.compressors import COMPRESSORS
from gpuzarr.codecs.plugins import explain_unknown, lower_unknown
from gpuzarr.codecs.sharding import CHAIN_CODECS, lower_sharding
from gpuzarr.codecs.sharding import NAME as SHARDING
from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata.document import shorten
from gpuzarr.metadata.model import RegularGrid
from gpuzarr.program import DecodeProgram, HostOnly, LoweredCodecs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuzarr.metadata.model import ArrayMetadata, ChunkGrid, CodecMetadata, DataType

CODECS: Mapping[str, Codec] = {
    **ARRAY_CODECS,
    **BYTES_CODECS,
    **CHAIN_CODECS,
    **COMPRESSORS,
    **CHECKSUMS,
}
"""Every codec that gpuzarr knows by itself, but sharding_indexed, which holds chains of its own."""

MOST_KEPT = 64
"""Arrays whose lowered chains are kept."""

_kept: dict[int, tuple[ArrayMetadata, LoweredCodecs]] = {}
"""By identity: arrays with one metadata document have one object of it (`gpuzarr.node`)."""

MOST_UNKNOWN = 16
"""Unknown codecs that are looked for among the installed packages, which takes a while for each."""


def lower(metadata: ArrayMetadata) -> LoweredCodecs:
    """Lower an array's codec chain.

    Raises:
        UnsupportedError: with every reason why the chain cannot be decoded.
        MetadataError: the chain or a configuration breaks its specification.
    """
    kept = _kept.get(id(metadata))
    if kept is not None and kept[0] is metadata:
        return kept[1]
    sizes = chunk_sizes(metadata.chunk_grid)
    chain = _walked(metadata.data_type, sizes, metadata.fill_value, metadata.codecs)
    lowered = _lowered(chain)
    if not chain.foreign:  # other packages may say something else later
        if len(_kept) >= MOST_KEPT:
            _kept.clear()
        _kept[id(metadata)] = metadata, lowered
    return lowered


def lower_chain(
    data_type: DataType, sizes: Sizes, fill_value: object, codecs: Sequence[CodecMetadata]
) -> LoweredCodecs:
    """Lower a codec chain for chunks whose sizes along each axis are among `sizes`."""
    return _lowered(_walked(data_type, sizes, fill_value, codecs))


def _walked(
    data_type: DataType, sizes: Sizes, fill_value: object, codecs: Sequence[CodecMetadata]
) -> Chain:
    """A chain at its end."""
    dtype = np.dtype(object) if data_type.variable else data_type.dtype
    chain = start_chain(data_type, dtype, sizes, fill_value)
    walk(chain, codecs)
    return chain


def _lowered(chain: Chain) -> LoweredCodecs:
    """What a chain gives that was walked to its end."""
    program = DecodeProgram(chain.decode_steps(), chain.layout())
    if chain.reasons:
        raise _unsupported(chain)
    if program.layout.dtype.hasobject and not any(
        isinstance(step, HostOnly) and step.decoded == "|O" for step in program.steps
    ):
        name = chain.data_type.name
        raise MetadataError(f"no codec makes elements of type {name} out of bytes")
    return LoweredCodecs(program, chain.shard, tuple(reversed(chain.object_steps)))


def chunk_sizes(grid: ChunkGrid) -> Sizes:
    """For each axis, the different sizes that chunks have along it."""
    if isinstance(grid, RegularGrid):
        return tuple((size,) for size in grid.chunk_shape)
    return tuple(
        (sizes,) if isinstance(sizes, int) else tuple(sorted(set(sizes)))
        for sizes in grid.chunk_sizes
    )


def walk(chain: Chain, codecs: Sequence[CodecMetadata]) -> None:
    """Take a chain along codecs in encode order, to the stored bytes."""
    understood, unknown = True, 0
    for place, codec in enumerate(codecs):
        if codec.name == SHARDING:
            _expect_stage(chain, SHARDING, "array -> bytes", ("array",))
            lower_sharding(chain, codec.configuration, walk, last=place == len(codecs) - 1)
        elif (entry := CODECS.get(codec.name)) is not None:
            if understood:
                _expect_stage(chain, codec.name, entry.kind, entry.stages())
            elif chain.stage == "array" and "array" not in entry.stages():
                chain.stage = "bytes"
            entry.lower(chain, codec.configuration)
        elif not lower_unknown(chain, codec):
            unknown += 1
            if codec.must_understand:
                chain.refuse(explain_unknown(codec.name, {**CODECS, SHARDING: None}))
                understood = False
            if max(unknown, len(chain.reasons)) > MOST_UNKNOWN:
                chain.refuse(f"there are more than {MOST_UNKNOWN} codecs that are not known")
                raise _unsupported(chain)
    if chain.stage == "array" and understood:
        names = shorten([codec.name for codec in codecs])
        raise MetadataError(f"no array -> bytes codec among the codecs {names}")


def _unsupported(chain: Chain) -> UnsupportedError:
    return UnsupportedError(
        "the codecs of this array cannot be decoded", reasons=tuple(chain.reasons)
    )


def _expect_stage(chain: Chain, name: str, kind: str, stages: Sequence[str]) -> None:
    if chain.stage in stages:
        return
    place = "follows" if chain.stage == "bytes" else "comes before"
    raise MetadataError(f"codec {name!r} ({kind}) {place} the array -> bytes codec")
