"""Kernels that move and unpack bytes, against the CPU engine and plain Python."""

from __future__ import annotations

from typing import Any

import numcodecs.blosc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cpu import filters
from gpuzarr.engines.cuda.kernels import BIT_TILE, COPY_TILE, SCATTER_TILE, STATUS, THREADS
from gpuzarr.engines.cuda.pieces import first_blocks
from gpuzarr.engines.number_types import BITS
from gpuzarr.engines.step_error import DamageError
from gpuzarr.program import UnpackBits, count_components, resolve_dtype, unpack_bits_nbytes
from tests.kernels.arguments import NO_STATUS, addresses, integers, launch, unaligned

SEED = np.random.default_rng(7)


def noise(nbytes: int) -> np.ndarray:
    return SEED.integers(0, 256, nbytes, np.uint8)


@given(
    sizes=st.lists(st.integers(0, 3 * COPY_TILE), min_size=1, max_size=4),
    shifts=st.tuples(st.integers(0, 16), st.integers(0, 16)),
)
def test_copy_ranges(sizes: list[int], shifts: tuple[int, int]) -> None:
    sources = [unaligned(noise(size), shifts[0]) for size in sizes]
    targets = [unaligned(np.zeros(size + 8, np.uint8), shifts[1]) for size in sizes]
    edges = first_blocks(integers(sizes), COPY_TILE)
    columns = (addresses(sources), addresses(targets), integers(sizes), edges, len(sizes))
    if edges[-1]:
        launch("copy_ranges", int(edges[-1]), *columns)
    for source, target in zip(sources, targets, strict=True):
        np.testing.assert_array_equal(target[: len(source)], source)
        assert not target[len(source) :].any()


@given(
    items=st.lists(st.tuples(st.integers(0, 2100), st.integers(1, 17)), min_size=1, max_size=4),
    round_down=st.booleans(),
)
def test_bit_unshuffle(items: list[tuple[int, int]], round_down: bool) -> None:  # noqa: FBT001
    sources = [noise(nbytes) for nbytes, _ in items]
    targets = [np.zeros(nbytes, np.uint8) for nbytes, _ in items]
    sizes, typesizes = integers([i[0] for i in items]), integers([i[1] for i in items])
    edges = first_blocks(np.maximum(sizes // typesizes, 1), BIT_TILE)
    columns = (addresses(sources), addresses(targets), sizes, typesizes, edges, len(items))
    launch("bit_unshuffle", int(edges[-1]), *columns, round_down)
    for source, target, typesize in zip(sources, targets, typesizes.tolist(), strict=True):
        expected = source.copy()
        if round_down or len(source) // typesize % 8 == 0:
            filters.unshuffle_bits(source, expected, typesize)
        np.testing.assert_array_equal(target, expected)


PACKED = [
    UnpackBits("|b1", 1, order="big", padding="first_byte"),
    UnpackBits("|b1", 1),
    UnpackBits("|b1", 1, padding="last_byte"),
    UnpackBits("int4", 4, sign_extend=True),
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


@pytest.mark.parametrize("step", PACKED, ids=str)
@pytest.mark.parametrize("wrong", [0, 1])
def test_unpack_bits(step: UnpackBits, wrong: int) -> None:
    dtype = resolve_dtype(step.decoded)
    components = count_components(dtype)
    width = 8 * dtype.itemsize // components
    name = dtype.name if dtype.names is None else dtype[0].name
    counts = [1, 7, 8, 1001, SCATTER_TILE + 3]
    encoded: list[np.ndarray] = []
    expected: list[bytes | None] = []
    targets: list[np.ndarray] = []
    for count in counts:
        nbytes = count * dtype.itemsize
        stream = noise(unpack_bits_nbytes(step, nbytes))
        total = count * components * step.bits
        padding = 8 * (len(stream) - (step.padding != "none")) - total
        if step.padding != "none":
            stream[0 if step.padding == "first_byte" else -1] = padding + wrong
        run = filters.unpack_bits(step, nbytes)
        if wrong and step.padding != "none":
            with pytest.raises(DamageError):
                run(stream.data, None)
            expected.append(None)
        else:
            expected.append(bytes(run(stream.data, None)))
        encoded.append(unaligned(stream, count % 5))
        targets.append(unaligned(np.zeros(nbytes, np.uint8), count % 3))
    numbers = integers([count * components for count in counts])
    edges = first_blocks(numbers, SCATTER_TILE)
    status = np.zeros(len(counts), np.int32)
    launch(
        "unpack_bits",
        int(edges[-1]),
        *(addresses(encoded), integers([len(e) for e in encoded]), addresses(targets), numbers),
        *(edges, len(counts), step.bits, width, BITS.get(name, width), step.first_bit),
        *(
            step.sign_extend,
            step.order == "big",
            ["none", "first_byte", "last_byte"].index(step.padding),
        ),
        *(integers(range(len(counts))), status),
    )
    for want, target, found in zip(expected, targets, status, strict=True):
        assert found == (STATUS["PADDING"] if want is None else 0)
        assert want is None or target.tobytes() == want


def compressed(data: np.ndarray, level: int) -> list[tuple[bytes, int, int]]:
    """The blosclz streams of some data, and where in it and how long what each decodes to is."""
    frame = numcodecs.blosc.compress(data, b"blosclz", level, 0, 0, typesize=1)
    block = int.from_bytes(frame[8:12], "little")
    streams = []
    for number, start in enumerate(range(0, len(data), block)):
        at = int.from_bytes(frame[16 + 4 * number :][:4], "little")
        size = int.from_bytes(frame[at : at + 4], "little")
        due = min(block, len(data) - start)
        if frame[2] & 2 == 0 and size < due:
            streams.append((frame[at + 4 : at + 4 + size], start, due))
    return streams


def run_blosclz(streams: list[bytes], room: list[int]) -> tuple[list[np.ndarray], Any, Any]:
    sources = [np.frombuffer(stream, np.uint8).copy() for stream in streams]
    targets = [np.full(size, 0xEE, np.uint8) for size in room]
    n = len(streams)
    actual, outcome = np.zeros(n, np.int64), np.full(n, -1, np.int32)
    columns = (addresses(sources), integers([len(s) for s in streams]), addresses(targets))
    launch("blosclz", -(-n // THREADS), *columns, integers(room), actual, outcome, n)
    return targets, actual, outcome


@pytest.mark.parametrize("level", [1, 3, 5, 9])
def test_blosclz(level: int) -> None:
    ramp = np.cumsum(SEED.integers(0, 3, 200_000)).astype("<u4").view(np.uint8)
    text = np.tile(noise(300), 400)
    far = np.concatenate([noise(9000), np.zeros(100, np.uint8)] * 3)
    found = 0
    for data in (ramp, text, np.zeros(100_000, np.uint8), np.tile(far, 3), np.sort(noise(70_000))):
        streams = compressed(np.ascontiguousarray(data), level)
        if not streams:
            continue
        found += len(streams)
        sizes = [size for _, _, size in streams]
        targets, actual, outcome = run_blosclz([stream for stream, _, _ in streams], sizes)
        assert not outcome.any()
        assert actual.tolist() == sizes
        for (_, start, _), target in zip(streams, targets, strict=True):
            np.testing.assert_array_equal(target, data[start : start + len(target)])
    assert found > 3


@given(st.binary(min_size=0, max_size=200), st.integers(0, 300))
def test_damaged_blosclz_stays_inside(stream: bytes, room: int) -> None:
    targets, actual, outcome = run_blosclz([stream], [room])
    assert outcome[0] in (0, 12)
    assert 0 <= actual[0] <= room
    assert (targets[0][actual[0] :] == 0xEE).all() or outcome[0]


def test_check_streams() -> None:
    status = np.zeros(4, np.int32)
    outcome, actual = np.array([0, 12, 0, 0], np.int32), integers(5, 5, 4, 5)
    launch(
        "check_streams", 1, outcome, actual, integers(5, 5, 5, 5), integers(0, 1, 2, 3), 4, status
    )
    assert status.tolist() == [0, STATUS["STREAM"], STATUS["SIZE"], 0]
    status[:] = 9
    launch(
        "check_streams", 1, outcome, actual, integers(5, 5, 5, 5), integers(0, 1, 2, 3), 4, status
    )
    assert status.tolist() == [9] * 4, "the first status stays"


def test_check_values_and_stored() -> None:
    status = np.zeros(3, np.int32)
    value = np.array([7, 0xFFFFFFFF, 9], np.uint32)
    launch("check_values", 1, value, integers(7, 0xFFFFFFFF, 8), integers(0, 1, 2), 3, status)
    assert status.tolist() == [0, 0, STATUS["FRAME_CHECKSUM"]]
    stored = [unaligned(np.array([v], "<u4"), i) for i, v in enumerate((7, 0xFFFFFFFF, 10))]
    status[:] = 0
    launch("check_stored", 1, value, addresses(stored), integers(0, 1, 2), 3, status)
    assert status.tolist() == [0, 0, STATUS["CHECKSUM"]]
    assert not NO_STATUS.any()
