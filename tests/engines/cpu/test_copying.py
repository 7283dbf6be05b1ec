"""`put` is NumPy's assignment, however both sides lie in memory."""

from __future__ import annotations

import threading
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import gpuzarr
from gpuzarr.engines.cpu import copying
from gpuzarr.engines.cpu.copying import put
from tests.arrays import plain_store

LIMIT_S = 60.0

TYPES = [
    *("u1", "?", "<i4", ">f8", "f2", "c16", "S3", "<U2", "V5", "V1", "M8[s]", "S0", "O"),
    ml_dtypes.bfloat16,
    ml_dtypes.int4,
    [("a", "u1"), ("b", "<f8", (2,))],
]

Array = np.ndarray[Any, Any]


def filled(shape: tuple[int, ...], dtype: np.dtype[Any], order: Any, seed: int) -> Array:
    """Any values of a type."""
    count = int(np.prod(shape, dtype=int))
    values = np.random.default_rng(seed).integers(0, 2, count * max(1, dtype.itemsize), np.uint8)
    if dtype.hasobject:
        array: Array = np.empty(count, dtype)
        array[:] = [int(value) for value in values[:count]]
        return np.array(array.reshape(shape), order=order)
    if dtype.kind == "U":  # not every number is a character
        values = np.arange(count).astype("<U2").view(np.uint8)
    laid: Array = np.ndarray(shape, dtype, values.copy().data)
    return np.array(laid, order=order)


@st.composite
def places(draw: st.DrawFn, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Memory, and a view of it of that shape: any order of axes, any strides."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, 3, -1, -2])) for _ in shape]
    pads = [draw(st.integers(0, 3)) for _ in shape]
    sides = [n * abs(step) + pad for n, step, pad in zip(shape, steps, pads, strict=True)]
    memory = filled(
        tuple(sides[axis] for axis in order),
        dtype,
        draw(st.sampled_from("CF")),
        draw(st.integers(0, 9)),
    )
    turned = memory.transpose(np.argsort(order)) if shape else memory
    cuts = tuple(
        slice(None, n * step, step) if step > 0 else slice(n * -step - 1, None, step)
        for n, step in zip(shape, steps, strict=True)
    )
    found: Array = turned[(*cuts, ...)]
    assert found.shape == shape
    return memory, found


def check(memory: Array, target: Array, part: Array) -> None:
    """Put, and compare with what NumPy does; nothing else in the target's memory changes."""
    before = memory.copy()
    target[...] = part
    expected = memory.copy()
    memory[...] = before
    put(target, part)
    if memory.dtype.hasobject:
        assert memory.tolist() == expected.tolist()
    else:
        assert memory.tobytes() == expected.tobytes()


SMALL = {
    "CACHE_LINE": 16,
    "CONFLICT": 8,
    "LEAST_ACROSS": 0,
    "ACROSS_NBYTES": 64,
    "LEAST_PLANES": 2,
    "MOST_ROW": 3,
}


@pytest.mark.parametrize("constants", [{}, SMALL, SMALL | {"CONFLICT": 1}, {"MOST_ROW": 2}])
@given(data=st.data())
def test_put_is_assignment(constants: dict[str, int], data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(TYPES)))
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=7))
    memory, target = data.draw(places(shape, dtype))
    _, part = data.draw(places(shape, dtype))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(copying, name, value)
        check(memory, target, part)


@given(st.data())
def test_put_converts_as_assignment_does(data: st.DataObject) -> None:
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=7))
    memory, target = data.draw(places(shape, np.dtype(data.draw(st.sampled_from(["<i4", "f8"])))))
    _, part = data.draw(places(shape, np.dtype(data.draw(st.sampled_from([">i4", "u1", "?"])))))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(copying, name, value)
        check(memory, target, part)


@pytest.mark.parametrize(
    ("to", "of"), [("<i4", ">i4"), ("<i4", "<f4"), ("f8", "i8"), ("<U2", "S8"), ("M8[s]", "M8[D]")]
)
def test_types_of_one_size_are_converted(to: str, of: str) -> None:
    part = np.arange(12).reshape(3, 4).astype(of)
    memory = np.zeros((3, 4), to)
    assert memory.itemsize == part.itemsize
    check(memory, memory, part)


@pytest.mark.parametrize("dtype", ["u1", "<i2", "<f4", ">f8", "c16"])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((512, 512), (1, 0)),
        ((512, 511), (1, 0)),
        ((32, 1024), (1, 0)),
        ((1024, 16), (1, 0)),
        ((64, 32, 256), (2, 1, 0)),
        ((64, 32, 256), (1, 2, 0)),
        ((64, 32, 256), (0, 2, 1)),
        ((1, 64, 1024), (2, 1, 0)),
        ((2, 1 << 18), (1, 0)),  # planes too large to be copied first
        ((3, 5, 1024, 7), (3, 2, 1, 0)),
    ],
)
def test_strides_that_conflict(shape: tuple[int, ...], axes: tuple[int, ...], dtype: str) -> None:
    stored = filled(shape, np.dtype(dtype), "C", 3)
    part = stored.transpose(axes)
    for cut in (slice(None), slice(None, None, -1), slice(1, None, 2)):
        some = part[..., cut]
        memory = np.zeros((*some.shape[:-1], some.shape[-1] + 3), dtype)
        check(memory, memory[..., 2:-1], some)
        check(memory, memory[..., -2:1:-1], some)


def test_memory_for_turning_is_each_threads_own_and_bounded() -> None:
    values = np.arange(1 << 20, dtype="<i4").reshape(1024, 1024)
    sizes: list[int] = []

    def work() -> None:
        target = np.empty_like(values)
        for _ in range(5):
            put(target, values.T)
            np.testing.assert_array_equal(target, values.T)
        sizes.append(len(copying._across.memory))  # noqa: SLF001

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert len(sizes) == 4
    assert all(0 < size <= 4 * copying.ACROSS_NBYTES for size in sizes)


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((6, 8), "i4").view(np.recarray),
        np.ma.zeros((6, 8), "i4"),
        # With a mask that is written out, `target.view(row)` would raise.
        np.ma.array(np.zeros((6, 8), "i4"), mask=np.ones((6, 8), bool)),
    ],
    ids=["recarray", "masked array", "masked array with a mask"],
)
def test_kinds_of_arrays_that_may_be_read_into(out: Any) -> None:
    values = np.arange(48, dtype="i4").reshape(6, 8)
    array = gpuzarr.open_array(plain_store(values, (3, 4)))
    assert array.read(out=out) is out
    np.testing.assert_array_equal(np.asarray(out), values)
