"""`out=`: where a read may write, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import gpuzarr
from gpuzarr.errors import UnsupportedError
from tests.arrays import CountingStore, plain_store
from tests.stored import assert_same, store_v2

Values = np.ndarray[Any, Any]

KEYS: list[Any] = [
    ...,
    (slice(None, None, -2), slice(1, 7)),
    ([5, 0, 5], slice(None)),
    (slice(None), [[1, 6], [0, 3]]),
    (4, 6),
]


def numbers(shape: tuple[int, ...], dtype: Any = "i2") -> Values:
    return np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)


def opened(array: Values, **members: Any) -> gpuzarr.Array:
    return gpuzarr.open_array(plain_store(array, (4, 3), **members))


ARRAY = numbers((6, 8), "i4")


def strided_outs(dtype: str) -> dict[str, tuple[Values, Values]]:
    """Views of 6 x 8 elements, each with the larger array of zeros that it is a part of."""
    plain, wide, turned, slab = (
        np.zeros(shape, dtype) for shape in [(6, 8), (12, 16), (8, 6), (6, 2, 8)]
    )
    fields = np.zeros((6, 8), [("a", "i1"), ("b", dtype)])
    return {
        "plain": (plain, plain),
        "strided": (wide[1::2, ::2], wide),
        "reversed": (wide[:5:-1, 11:3:-1], wide),
        "transposed": (turned.T, turned),
        "both": (wide.T[15:3:-2, 1:9], wide),
        "slab": (slab[:, 1], slab),
        "rows": (wide[3:9, 4:12], wide),
        "field": (fields["b"], fields["a"]),
    }


@pytest.mark.parametrize("dtype", ["i4", "f8", "u1"])
@pytest.mark.parametrize("name", strided_outs("i4"))
def test_out_may_lie_in_memory_as_it_likes(name: str, dtype: str) -> None:
    out, whole = strided_outs(dtype)[name]
    assert opened(ARRAY + 1).read(out=out) is out
    np.testing.assert_array_equal(out, (ARRAY + 1).astype(dtype))
    # Nothing between its elements was written.
    out[...] = 0
    assert (whole == 0).all()


@pytest.mark.parametrize("key", KEYS[1:], ids=str)
def test_out_for_every_kind_of_key(key: Any) -> None:
    expected = np.asarray(ARRAY[key])
    wide = np.zeros((*expected.shape, 2), "f8")
    out = wide[..., 1].transpose()
    if out.shape != expected.shape:
        out = wide[..., 1]
    assert opened(ARRAY).read(key, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert (wide[..., 0] == 0).all()
    swapped = np.zeros(expected.shape[::-1], "i4").T
    opened(ARRAY).read(key, out=swapped)
    np.testing.assert_array_equal(swapped, expected)


@pytest.mark.parametrize(
    ("out", "why"),
    [
        (np.zeros((6, 7), "i4"), "shape"),
        (np.zeros((8, 6), "i4"), "shape"),
        (np.zeros(48, "i4"), "shape"),
        (np.zeros((1, 6, 8), "i4"), "shape"),
        (np.broadcast_to(np.zeros(8, "i4"), (6, 8)), "read-only"),
        (as_strided(np.zeros(48, "i4"), (6, 8), (0, 4), writeable=True), "overlaps"),
        (as_strided(np.zeros(48, "i4"), (6, 8), (4, 4), writeable=True), "overlaps"),
        (as_strided(np.zeros(48, "i4"), (6, 8), (28, 4), writeable=True), "overlaps"),
        (as_strided(np.zeros(48, "i4"), (6, 8), (4, 2), writeable=True), "overlaps"),
    ],
    ids=["narrow", "turned", "flat", "more", "frozen", "zero", "sliding", "by one", "half"],
)
def test_an_out_that_does_not_fit_is_a_value_error(out: Values, why: str) -> None:
    store = CountingStore(plain_store(ARRAY, (4, 3)))
    array = gpuzarr.open_array(store)
    store.taken()
    with pytest.raises(ValueError, match=why):
        array.read(out=out)
    assert store.taken() == []


def test_out_and_dtype_must_agree() -> None:
    with pytest.raises(ValueError, match="dtype"):
        opened(ARRAY).read(out=np.zeros((6, 8), "f4"), dtype="f8")
    with pytest.raises(ValueError, match="dtype"):
        opened(ARRAY).read(out=np.zeros((6, 8), ">i4"))
    with pytest.raises(ValueError, match=r"numpy\.ndarray"):
        opened(ARRAY).read(out=[[0] * 8] * 6)
    with pytest.raises(UnsupportedError):
        opened(ARRAY).read(out=np.zeros((6, 8), "U9"))


def test_the_dtype_defaults_to_that_of_out() -> None:
    out = np.zeros((6, 8), "f4")
    opened(ARRAY).read(out=out, scale=0.5)
    assert_same(out, ARRAY.astype("f4") * np.float32(0.5))
    whole = np.zeros((6, 8), "i8")
    opened(ARRAY).read(out=whole, scale=0.5)
    assert_same(whole, np.trunc(ARRAY * 0.5).astype("i8"))


def test_outs_of_no_elements_and_of_one() -> None:
    array = opened(ARRAY)
    empty = np.zeros((0, 8), "i4")
    assert array.read(slice(3, 3), out=empty) is empty
    one = as_strided(np.zeros(1, "i4"), (1, 1), (0, 0), writeable=True)
    array.read((slice(2, 3), slice(2, 3)), out=one)
    assert one[0, 0] == ARRAY[2, 2]


def test_out_of_another_type_of_ndarray(tmp_path: Any) -> None:
    out = np.memmap(tmp_path / "out", "i4", "w+", shape=(6, 8))
    assert opened(ARRAY).read(out=out) is out
    np.testing.assert_array_equal(np.fromfile(tmp_path / "out", "i4"), ARRAY.ravel())


def test_text_into_out() -> None:
    values = np.array([[b"a", b"bcd"], [b"", b"xyz"]], "S3")
    stored = store_v2(values, (1, 2), fill=b"", fill_json=None)
    out = np.zeros((2, 4), "S3")[:, ::2]
    gpuzarr.open_array(stored.values).read(out=out)
    np.testing.assert_array_equal(out, values)
