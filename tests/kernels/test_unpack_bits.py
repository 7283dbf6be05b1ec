"""`unpack_bits` against the CPU engine: numbers of all widths, paddings, wrong lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cpu import filters
from gpuzarr.engines.cuda.filters import PADDINGS
from gpuzarr.engines.cuda.kernels import SCATTER_TILE, STATUS
from gpuzarr.engines.cuda.pieces import first_blocks
from gpuzarr.engines.number_types import BITS
from gpuzarr.engines.step_error import DamageError
from gpuzarr.program import UnpackBits, count_components, resolve_dtype, unpack_bits_nbytes
from tests.kernels.arguments import addresses, integers, launch, unaligned

if TYPE_CHECKING:
    from collections.abc import Sequence

RNG = np.random.default_rng(7)
COUNTS = (1, 7, 8, 1001, SCATTER_TILE + 3)
STEPS = [
    UnpackBits("|b1", 1, order="big", padding="first_byte"),
    UnpackBits("|b1", 1),
    UnpackBits("|b1", 1, padding="last_byte"),
    UnpackBits("int4", 4, sign_extend=True),
    UnpackBits("int4", 2, first_bit=1, sign_extend=True),
    UnpackBits("uint2", 2, padding="last_byte"),
    UnpackBits("int2", 8, sign_extend=True),
    UnpackBits("uint4", 8),
    UnpackBits("<u2", 12),
    UnpackBits("<i2", 10, first_bit=3, sign_extend=True, padding="first_byte"),
    UnpackBits("<u4", 20, first_bit=4),
    UnpackBits("<i8", 33, sign_extend=True),
    UnpackBits("<u8", 64),
    UnpackBits("bfloat16", 16),
    UnpackBits("complex64", 32),
    UnpackBits("complex128", 64),
]
PADDED = [step for step in STEPS if step.padding != "none"]


def compare(step: UnpackBits, streams: Sequence[np.ndarray], counts: Sequence[int]) -> list[bool]:
    """Unpack streams to so many elements each, as the CPU engine does; which are good."""
    dtype = resolve_dtype(step.decoded)
    components = count_components(dtype)
    width = 8 * dtype.itemsize // components
    name = dtype.name if dtype.names is None else dtype[0].name
    sources = [unaligned(stream, i % 5) for i, stream in enumerate(streams)]
    targets = [
        unaligned(np.zeros(count * dtype.itemsize, np.uint8), i % 3)
        for i, count in enumerate(counts)
    ]
    numbers = integers([count * components for count in counts])
    edges = first_blocks(numbers, SCATTER_TILE)
    status = np.zeros(len(counts), np.int32)
    launch(
        "unpack_bits",
        int(edges[-1]),
        *(addresses(sources), integers([len(s) for s in sources]), addresses(targets), numbers),
        *(edges, len(counts), step.bits, width, BITS.get(name, width), step.first_bit),
        *(step.sign_extend, step.order == "big", PADDINGS[step.padding]),
        *(integers(range(len(counts))), status),
    )
    for stream, count, target, found in zip(streams, counts, targets, status, strict=True):
        run = filters.unpack_bits(step, count * dtype.itemsize)
        if found:
            assert found == STATUS["PADDING"]
            with pytest.raises(DamageError):
                run(stream.data, None)
        else:
            assert target.tobytes() == bytes(run(stream.data, None))
    return [not found for found in status]


def stream_of(step: UnpackBits, count: int) -> np.ndarray:
    """A good stream of random numbers."""
    dtype = resolve_dtype(step.decoded)
    stream = RNG.integers(0, 256, unpack_bits_nbytes(step, count * dtype.itemsize), np.uint8)
    if step.padding != "none":
        total = count * count_components(dtype) * step.bits
        stream[0 if step.padding == "first_byte" else -1] = 8 * (len(stream) - 1) - total
    return stream


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_numbers(step: UnpackBits) -> None:
    assert all(compare(step, [stream_of(step, count) for count in COUNTS], COUNTS))


@given(data=st.data(), dtype=st.sampled_from(["u1", "i1", "<u2", "<i2", "<u4", "<i4", "<i8"]))
def test_any_bits(data: st.DataObject, dtype: str) -> None:
    width = 8 * np.dtype(dtype).itemsize
    bits = data.draw(st.integers(1, width), "bits")
    # Whole bytes have no order of bits; the CPU engine takes them as they are.
    orders = ["little"] if bits % 8 == 0 else ["little", "big"]
    step = UnpackBits(
        dtype,
        bits,
        padding=data.draw(st.sampled_from(list(PADDINGS)), "padding"),
        first_bit=data.draw(st.integers(0, width - bits), "first_bit"),
        order=data.draw(st.sampled_from(orders), "order"),
        sign_extend=data.draw(st.booleans(), "sign_extend"),
    )
    counts = data.draw(st.lists(st.integers(1, 70), min_size=1, max_size=4), "counts")
    assert all(compare(step, [stream_of(step, count) for count in counts], counts))


@pytest.mark.parametrize("step", PADDED, ids=str)
@pytest.mark.parametrize("wrong", [1, 8, 255])
def test_a_padding_that_disagrees_is_damage(step: UnpackBits, wrong: int) -> None:
    streams = [stream_of(step, count) for count in COUNTS]
    for stream in streams[1:]:
        stream[0 if step.padding == "first_byte" else -1] ^= wrong
    assert compare(step, streams, COUNTS) == [True] + [False] * (len(COUNTS) - 1)


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("longer", [-1, 1])
def test_a_stream_of_another_length_is_damage(step: UnpackBits, longer: int) -> None:
    """Nothing behind its end is read, either."""
    streams = [np.resize(stream_of(step, n), len(stream_of(step, n)) + longer) for n in COUNTS]
    assert not any(compare(step, streams, COUNTS))


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_stream_of_nothing_is_damage(step: UnpackBits) -> None:
    """There is no byte, either, that could say how many bits of it mean nothing."""
    assert not any(compare(step, [np.zeros(0, np.uint8)] * 2, [1, 8]))
