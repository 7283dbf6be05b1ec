"""`read_batch(..., out=)`, and what it refuses before anything is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpuzarr
from tests.arrays import CountingStore, plain_store
from tests.batches import numpy_device
from tests.stored import RegularGrid, every, store_v3

__all__ = ["numpy_device"]  # a fixture

Values = np.ndarray[Any, Any]

ARRAY = np.arange(1, 23 * 17 + 1, dtype=np.int32).reshape(23, 17)
STORE = store_v3(ARRAY, RegularGrid((5, 4)), gzip=True).values
GAPS = store_v3(ARRAY, RegularGrid((5, 4)), fill=3, skip=every(3)).values
CROPS = [(slice(i, i + 6), slice(2 * i, 2 * i + 5)) for i in range(5)]
LISTS = [([1, 22, 1, 5, 6, i], slice(i, i + 5)) for i in range(5)]
MIXED = [CROPS[0], LISTS[0], CROPS[3], LISTS[4], CROPS[3]]


def outs(dtype: str) -> dict[str, tuple[Values, Values]]:
    """Arrays of shape (5, 6, 5), each with a larger one of zeros that it is a part of."""
    plain, wide = np.zeros((5, 6, 5), dtype), np.zeros((10, 7, 12), dtype)
    turned, slab = np.zeros((5, 6, 5), dtype), np.zeros((5, 2, 6, 5), dtype)
    return {
        "contiguous": (plain, plain),
        "strided": (wide[1::2, 1:, :10:2], wide),
        "backwards": (wide[4::-1, 6:0:-1, 9::-2], wide),
        "transposed": (turned.transpose(2, 1, 0), turned),
        "gaps between results": (slab[:, 1], slab),
    }


@pytest.mark.parametrize("keys", [CROPS, LISTS, MIXED], ids=["crops", "lists", "mixed"])
@pytest.mark.parametrize("dtype", ["i4", "f8"])
@pytest.mark.parametrize("name", outs("i4"))
@pytest.mark.parametrize("store", [STORE, GAPS], ids=["all", "gaps"])
def test_one_array(numpy_device: str, store: Any, name: str, dtype: str, keys: list[Any]) -> None:
    array = gpuzarr.open_array(store, device=numpy_device)
    out, whole = outs(dtype)[name]
    assert gpuzarr.read_batch([(array, key) for key in keys], out=out) is out
    expected = np.stack([array[key] for key in keys])
    np.testing.assert_array_equal(out, expected)
    assert (whole != 0).sum() == (out != 0).sum(), "nothing between its elements was written"


def test_an_array_without_a_view_of_the_right_form(numpy_device: str) -> None:
    """The lists' two axes are one to an engine, and no view of `out` has them as one."""
    array = gpuzarr.open_array(STORE, device=numpy_device)
    keys = [(np.array([[0, 1, i], [22, 5, 6]]), np.array([[3, 4, 5], [0, 1, 16]])) for i in (2, 3)]
    whole = np.zeros((2, 3, 4), "i4")
    out = whole.transpose(0, 2, 1)[:, 1:3]
    assert gpuzarr.read_batch([(array, key) for key in keys], out=out) is out
    np.testing.assert_array_equal(out, np.stack([ARRAY[key] for key in keys]))
    assert (whole[:, :, [0, 3]] == 0).all()
    alone = [np.zeros((2, 3), "i4", order="F") for _ in keys]
    assert gpuzarr.read_batch([(array, key) for key in keys], out=alone) is alone
    np.testing.assert_array_equal(np.stack(alone), out)


def test_a_list_of_arrays(numpy_device: str) -> None:
    array = gpuzarr.open_array(STORE, device=numpy_device)
    keys: list[Any] = [3, (slice(2, 9), 5), (4, 4), ([1, 22], [0, 3]), slice(0, 0)]
    for strided in (False, True):
        expected = [np.asarray(ARRAY[key]) for key in keys]
        dtypes = ["i4", "f8", "i8", "f4", "i2"]
        given: Any = [
            np.zeros((*values.shape, 2), dtype)[..., 1]
            if strided
            else np.zeros(values.shape, dtype)
            for values, dtype in zip(expected, dtypes, strict=True)
        ]
        given = tuple(given) if strided else given
        assert gpuzarr.read_batch([(array, key) for key in keys], out=given) is given
        for due, values in zip(expected, given, strict=True):
            np.testing.assert_array_equal(values, due)


def test_views_of_one_array_as_a_list(numpy_device: str) -> None:
    array = gpuzarr.open_array(STORE, device=numpy_device)
    whole = np.zeros((6, 6, 5), "f4")
    rows = [whole[i] for i in (4, 0, 2, 3, 1)]
    gpuzarr.read_batch([(array, key) for key in CROPS], out=rows)
    np.testing.assert_array_equal(rows, np.stack([ARRAY[key] for key in CROPS]))
    assert (whole[5] == 0).all()


def test_scales_are_those_of_a_single_read(numpy_device: str) -> None:
    array = gpuzarr.open_array(STORE, device=numpy_device)
    out = np.zeros((5, 6, 5), "f4")
    gpuzarr.read_batch([(array, key) for key in CROPS], out=out, scale=0.1, offset=3)
    single = [array.read(key, dtype="f4", scale=0.1, offset=3) for key in CROPS]
    assert out.tobytes() == np.stack(single).tobytes()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros((4, 6, 5), "i4"), r"shape \(4, 6, 5\), but .* \(5, 6, 5\)"),
        (np.zeros((5, 6, 4), "i4"), "shape"),
        (np.zeros((6, 5), "i4"), "shape"),
        (np.broadcast_to(np.zeros((6, 5), "i4"), (5, 6, 5)), "read-only|overlaps"),
        ([np.zeros((6, 5), "i4")] * 4, "4 arrays for 5 selections"),
        ([], "0 arrays for 5 selections"),
        (tuple(np.zeros((6, 5), "i4") for _ in range(6)), "6 arrays for 5 selections"),
        ([*[np.zeros((6, 5), "i4")] * 3, *[np.zeros((5, 6), "i4")] * 2], r"out\[3\]: .*shape"),
        ([*[np.zeros((6, 5), "i4")] * 4, 7], r"out\[4\]: .*int"),
        ("abc", "out= must be"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_read(
    numpy_device: str, out: Any, message: str
) -> None:
    store = CountingStore(dict(STORE))
    array = gpuzarr.open_array(store, device=numpy_device)
    array[:0]
    store.taken()
    requests = [(array, key) for key in CROPS]
    with pytest.raises(ValueError, match=message):
        gpuzarr.read_batch(requests, out=out)
    assert store.taken() == []


def test_another_dtype_than_asked_is_refused(numpy_device: str) -> None:
    array = gpuzarr.open_array(STORE, device=numpy_device)
    out = np.zeros((5, 6, 5), "i4")
    requests = [(array, key) for key in CROPS]
    with pytest.raises(ValueError, match="dtype int32, but the result has float64"):
        gpuzarr.read_batch(requests, out=out, dtype="f8")
    with pytest.raises(ValueError, match=r"out\[0\]: .*dtype"):
        gpuzarr.read_batch(requests, out=list(out), dtype="f8")


def test_one_array_for_results_of_different_shapes_is_refused(numpy_device: str) -> None:
    array = gpuzarr.open_array(STORE, device=numpy_device)
    out = np.zeros((2, 17), "i4")
    with pytest.raises(ValueError, match=r"different shapes.*give a list"):
        gpuzarr.read_batch([(array, 3), (array, slice(3))], out=out)


# -------------------------------------------------------------------------- requests that are none


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (5, "request 1 is no pair"),
        ((1, 2, 3), "request 1 is no pair"),
        ((), "request 1 is no pair"),
        ((ARRAY, 0), "request 1 is of a ndarray, not of a gpuzarr.Array"),
        ((None, 0), "request 1 is of a NoneType"),
        ("ab", "request 1 is of a str"),
    ],
    ids=["number", "three", "nothing", "numpy", "none", "text"],
)
def test_what_is_no_request_is_a_type_error(request_: Any, message: str) -> None:
    array = gpuzarr.open_array(STORE, device="cpu")
    with pytest.raises(TypeError, match=message):
        gpuzarr.read_batch([(array, 0), request_])


def test_a_key_that_does_not_fit_says_which_it_is() -> None:
    array = gpuzarr.open_array(STORE, device="cpu")
    requests = [(array, 0), (array, 22), (array, 23), (array, 99)]
    with pytest.raises(gpuzarr.SelectionError, match=r"^selection 2: .*23") as raised:
        gpuzarr.read_batch(requests)
    assert raised.value.path == ""
    with pytest.raises(gpuzarr.SelectionError, match=r"^selection 1: vindex takes"):
        gpuzarr.read_batch([(array.blocks, 0), (array.vindex, slice(3))])
    with pytest.raises(gpuzarr.SelectionError) as single:
        array[23]
    assert "selection" not in single.value.message.partition(":")[0]


def test_an_array_that_cannot_be_read_says_which_selection_asked() -> None:
    """The error is kept with the array, so its words must not grow."""
    broken = gpuzarr.open_array(plain_store(ARRAY, (5, 4), codecs=("bytes", "secret")))
    good = gpuzarr.open_array(STORE, device="cpu")
    for number in (1, 3):
        requests = [*[(good, 0)] * number, (broken, 0)]
        with pytest.raises(gpuzarr.UnsupportedError, match=f"^selection {number}: (?!sel)"):
            gpuzarr.read_batch(requests)
    with pytest.raises(gpuzarr.UnsupportedError, match=r"^(?!selection)") as raised:
        broken[0]
    assert raised.value.reasons


def test_a_conversion_that_there_is_not_says_which_selection_asked() -> None:
    array = gpuzarr.open_array(STORE, device="cpu")
    other = store_v3(ARRAY.astype("c8"), RegularGrid((5, 4)), fill_json=[0.0, 0.0]).values
    requests = [(array, 0), (gpuzarr.open_array(other, device="cpu"), 0)]
    with pytest.raises(gpuzarr.UnsupportedError, match=r"^selection 1: .*complex64.*float32"):
        gpuzarr.read_batch(requests, dtype="f4")


def test_a_list_with_a_place_for_some_results_only_is_refused() -> None:
    """What was read to no place of the caller's was lost."""
    array = gpuzarr.open_array(STORE, device="cpu")
    requests = [(array, CROPS[0]), (array, CROPS[1])]
    for out in ([None, None], [np.zeros((6, 5), "i4"), None], (None, np.zeros((6, 5), "i4"))):
        with pytest.raises(ValueError, match="out= is a list with None in it"):
            gpuzarr.read_batch(requests, out=out)
