"""Transposes end in the layout unless a codec sees the order of elements."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cpu.decoder import ChunkDecoder
from gpuzarr.errors import UnsupportedError
from gpuzarr.metadata.model import RectilinearGrid
from gpuzarr.program import Cast, CumulativeSum, Decompress, Reorder
from tests.codecs.chains import BIG, LITTLE, CodecLike, lower_chain_of

DELTA = ("numcodecs.delta", {"dtype": "<i4"})


def turn(*order: int) -> CodecLike:
    return "transpose", {"order": list(order)}


@pytest.mark.parametrize(("order", "axes"), [("C", (0, 1, 2)), ("F", (2, 1, 0))])
def test_named_orders(order: str, axes: tuple[int, ...]) -> None:
    program = lower_chain_of("int32", (2, 3, 4), ("transpose", {"order": order}), LITTLE).program
    assert (program.steps, program.layout.axes) == ((), axes)


def test_transposes_compose() -> None:
    program = lower_chain_of("int32", (2, 3, 4), turn(1, 2, 0), turn(2, 1, 0), LITTLE).program
    expected = np.zeros((2, 3, 4)).transpose(1, 2, 0).transpose(2, 1, 0).shape
    assert tuple((2, 3, 4)[axis] for axis in program.layout.axes) == expected
    assert program.steps == ()


def test_a_transpose_before_delta_folds() -> None:
    program = lower_chain_of("int32", (2, 3), turn(1, 0), DELTA, LITTLE).program
    assert program.steps == (CumulativeSum("<i4", "<i4"),)
    assert program.layout.axes == (1, 0)


def test_a_transpose_behind_delta_is_a_step() -> None:
    program = lower_chain_of("int32", (2, 3), DELTA, turn(1, 0), BIG, "zstd").program
    assert program.steps == (
        Decompress("zstd"),
        Reorder(4, (1, 0)),
        CumulativeSum(">i4", "<i4"),
    )
    assert program.layout.axes == (0, 1)


def test_a_transpose_slides_past_element_wise_codecs() -> None:
    cast = ("numcodecs.astype", {"encode_dtype": "<f8", "decode_dtype": "<i4"})
    program = lower_chain_of("int32", (2, 3), cast, turn(1, 0), LITTLE).program
    assert program.steps == (Cast("<f8", "<i4"),)
    assert program.layout.axes == (1, 0)


def test_a_reorder_between_turned_axes_names_its_shape() -> None:
    program = lower_chain_of("int32", (2, 3), turn(1, 0), DELTA, turn(1, 0), LITTLE).program
    assert program.steps == (Reorder(4, (1, 0), (3, 2)), CumulativeSum("<i4", "<i4"))
    assert program.layout.axes == (1, 0)


def test_a_transpose_behind_a_reshape_is_a_step() -> None:
    codec = ("reshape", {"shape": [2, 3, 4]})
    program = lower_chain_of("int32", (6, 4), codec, turn(2, 0, 1), LITTLE).program
    assert program.steps == (Reorder(4, (2, 0, 1), (2, 3, 4)),)


def test_shapes_that_vary_cannot_be_named() -> None:
    grid = RectilinearGrid(((3, 5), 4))
    with pytest.raises(UnsupportedError, match="rectilinear"):
        lower_chain_of("int32", grid, turn(1, 0), DELTA, turn(1, 0), LITTLE)
    lower_chain_of("int32", grid, DELTA, turn(1, 0), LITTLE)


SHAPE = (2, 3, 4)
ARRAY_CODECS = [
    *(turn(*order) for order in itertools.permutations(range(3))),
    DELTA,
    ("numcodecs.astype", {"encode_dtype": "<i8", "decode_dtype": "<i4"}),
    ("scale_offset", {"scale": 3, "offset": 5}),
]


@given(st.lists(st.sampled_from(ARRAY_CODECS), max_size=6), st.sampled_from([LITTLE, BIG]))
def test_any_chain_decodes_to_what_was_encoded(codecs: list[Any], last: CodecLike) -> None:
    array = np.arange(24, dtype="i4").reshape(SHAPE) * 7 - 30
    encoded = array
    kept: list[CodecLike] = []
    for codec in codecs:
        name, configuration = codec
        if name == "numcodecs.astype" and encoded.dtype != "i4":
            continue
        if name in ("numcodecs.delta", "scale_offset") and encoded.dtype != "i4":
            continue
        kept.append(codec)
        if name == "transpose":
            encoded = encoded.transpose(configuration["order"])
        elif name == "numcodecs.delta":
            encoded = np.diff(encoded.reshape(-1), prepend=np.int32(0)).reshape(encoded.shape)
        elif name == "scale_offset":
            encoded = (encoded - np.int32(5)) * np.int32(3)
        else:
            encoded = encoded.astype("i8")
    stored = encoded.astype(encoded.dtype.newbyteorder(">" if last == BIG else "<")).tobytes()
    lowered = lower_chain_of("int32", SHAPE, *kept, last)
    decoder = ChunkDecoder(lowered.program, SHAPE)
    np.testing.assert_array_equal(decoder.decode(memoryview(stored)), array)
    out = memoryview(bytearray(array.nbytes))
    np.testing.assert_array_equal(decoder.decode(memoryview(stored), out), array)
