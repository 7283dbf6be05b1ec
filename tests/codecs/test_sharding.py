"""Sharding codecs become a layout, and what stands around them goes inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata.model import RectilinearGrid
from gpuzarr.program import (
    CumulativeSum,
    Decompress,
    HostOnly,
    ScaleOffset,
    VerifyChecksum,
)
from tests.codecs.chains import BIG, LITTLE, CodecLike, as_json, lower_chain_of, sharding


def test_a_plain_shard() -> None:
    lowered = lower_chain_of("int32", (4, 6), sharding((2, 3), LITTLE, "zstd"))
    assert lowered.program.steps == (Decompress("zstd"),)
    assert lowered.program.layout.axes == (0, 1)
    shard = lowered.shard
    assert shard is not None
    assert (shard.chunk_shape, shard.axes, shard.index_at) == ((2, 3), (0, 1), "end")
    assert shard.inner is None
    assert shard.index_program.steps == (VerifyChecksum("crc32c"),)
    assert shard.index_program.layout.dtype == np.dtype("<u8")
    assert shard.index_program.stored_nbytes((2, 2, 2)) == 68


def test_the_index_has_a_place_and_codecs_of_its_own() -> None:
    codec = sharding((2, 3), LITTLE, index_location="start", index_codecs=as_json(BIG))
    shard = lower_chain_of("int32", (4, 6), codec).shard
    assert shard is not None
    assert shard.index_at == "start"
    assert shard.index_program.steps == ()
    assert shard.index_program.layout.dtype == np.dtype(">u8")


def test_a_transpose_before_the_shard_turns_everything_inside() -> None:
    inner = ("transpose", {"order": [1, 0, 2]})
    lowered = lower_chain_of(
        "int32",
        (4, 6, 10),
        ("transpose", {"order": [2, 0, 1]}),
        sharding((5, 2, 3), inner, LITTLE),
    )
    shard = lowered.shard
    assert shard is not None
    # The codec sees axes (2, 0, 1), so its chunks are 5 along axis 2, 2 along 0 and 3 along 1.
    assert shard.chunk_shape == (2, 3, 5)
    assert shard.axes == (2, 0, 1)
    assert lowered.program.layout.axes == (0, 2, 1)


def test_element_wise_codecs_before_the_shard_go_inside() -> None:
    lowered = lower_chain_of(
        "int32", (4,), ("scale_offset", {"scale": 2}), sharding((2,), BIG, "zstd")
    )
    assert lowered.program.steps == (
        Decompress("zstd"),
        ScaleOffset(">i4", "<i4", 2, 0, "scale_offset"),
    )


def test_nested_shards() -> None:
    turned = ("transpose", {"order": [1, 0]})
    lowered = lower_chain_of(
        "int32",
        (12, 8),
        sharding((6, 4), turned, sharding((2, 3), turned, LITTLE, "crc32c")),
    )
    outer = lowered.shard
    assert outer is not None
    assert (outer.chunk_shape, outer.axes) == ((6, 4), (0, 1))
    inner = outer.inner
    assert inner is not None
    assert (inner.chunk_shape, inner.axes) == ((3, 2), (1, 0))
    assert outer.leaf is inner
    assert lowered.program.layout.axes == (0, 1)


def test_codecs_behind_the_shard_are_steps_of_the_object() -> None:
    lowered = lower_chain_of("int32", (4,), sharding((2,), LITTLE), "gzip", "crc32c")
    assert lowered.object_steps == (VerifyChecksum("crc32c"), Decompress("gzip"))
    assert lowered.program.steps == ()


def test_a_shard_behind_delta_is_one_chunk() -> None:
    delta = ("numcodecs.delta", {"dtype": "<i4"})
    lowered = lower_chain_of("int32", (4,), delta, sharding((2,), LITTLE), "gzip")
    assert lowered.shard is None
    gzip, whole, total = lowered.program.steps
    assert (gzip, total) == (Decompress("gzip"), CumulativeSum("<i4", "<i4"))
    assert isinstance(whole, HostOnly)
    assert whole.codec_id == "sharding_indexed"


def test_codecs_behind_a_shard_inside_a_shard_make_it_one_chunk() -> None:
    lowered = lower_chain_of("int32", (8,), sharding((4,), sharding((2,), LITTLE), "gzip"))
    shard = lowered.shard
    assert shard is not None
    assert (shard.chunk_shape, shard.inner) == ((4,), None)
    assert [type(step) for step in lowered.program.steps] == [Decompress, HostOnly]


def test_a_shard_in_one_chunk_cannot_know_its_fill_value_behind_a_cast() -> None:
    cast = ("cast_value", {"data_type": "int16"})
    delta = ("numcodecs.delta", {"dtype": "<i2"})
    with pytest.raises(UnsupportedError, match="order of elements"):
        lower_chain_of("int32", (4,), cast, delta, sharding((2,), LITTLE))


def test_rectilinear_grids_of_shards() -> None:
    grid = RectilinearGrid(((4, 8), 6))
    shard = lower_chain_of("int32", grid, sharding((2, 3), LITTLE)).shard
    assert shard is not None
    assert shard.chunk_shape == (2, 3)
    with pytest.raises(MetadataError, match="divide"):
        lower_chain_of("int32", grid, sharding((8, 3), LITTLE))


@pytest.mark.parametrize(
    "codec",
    [
        sharding((3, 3), LITTLE),
        sharding((2,), LITTLE),
        sharding((0, 3), LITTLE),
        sharding((2, 3)),
        sharding((2, 3), "zstd"),
        sharding((2, 3), LITTLE, index_location="middle"),
        sharding((2, 3), LITTLE, index_codecs=[]),
        sharding((2, 3), LITTLE, index_codecs=as_json(LITTLE, "zstd")),
        sharding((2, 3), LITTLE, index_codecs=as_json("bytes")),
        sharding((2, 3), LITTLE, index_codecs="bytes"),
        sharding((2, 3), LITTLE, index_codecs=as_json(sharding((1, 1, 1), LITTLE))),
        ("sharding_indexed", {}),
    ],
)
def test_malformed_shards(codec: CodecLike) -> None:
    with pytest.raises(MetadataError):
        lower_chain_of("int32", (4, 6), codec)


def test_reasons_come_from_inside_too() -> None:
    codec: Any = sharding((2,), "one.unknown", LITTLE)
    with pytest.raises(UnsupportedError) as caught:
        lower_chain_of("int32", (4,), codec, "two.unknown")
    assert len(caught.value.reasons) == 2
