"""Options that an array is given later are checked as those of `open` are; fields, too."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from tests.arrays import plain_store

if TYPE_CHECKING:
    from collections.abc import Callable

STORE = plain_store(np.arange(6, dtype=np.int32), (2,))

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"threads": 0}, ValueError, "threads=0: an integer from 1"),
    ({"threads": 2.5}, ValueError, r"threads=2\.5: an integer"),
    ({"threads": "2"}, ValueError, "threads='2': an integer"),
    ({"threads": True}, ValueError, "threads=True: an integer"),
    ({"memory_limit": "x"}, ValueError, "memory_limit='x': an integer"),
    ({"cache_nbytes": -1}, ValueError, "cache_nbytes=-1: an integer from 0"),
    ({"decode": "zz"}, ValueError, "decode='zz': choose from 'auto', 'device', 'host'"),
    ({"io": 3}, ValueError, "io=3: choose from"),
    ({"device": 5}, TypeError, "device=5: must be a str"),
    ({"thread": 2}, TypeError, "unexpected keyword argument 'thread'; did you mean 'threads'"),
]


@pytest.mark.parametrize(("options", "error", "words"), WRONG, ids=str)
def test_wrong_ones_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    array = gpuzarr.open_array(STORE)
    with pytest.raises(error, match=words):
        array.with_options(**options)


def test_right_ones_are_taken() -> None:
    array = gpuzarr.open_array(STORE)
    other = array.with_options(threads=np.int64(2), memory_limit=None, device="cpu", decode="auto")
    np.testing.assert_array_equal(other[1:5], np.arange(1, 5))
    assert type(other._options.threads) is int  # noqa: SLF001  NumPy's would overflow


def test_fields_that_hold_arrays_are_refused() -> None:
    document = {
        "zarr_format": 2,
        "shape": [5],
        "chunks": [2],
        "dtype": [["a", "<i4"], ["d", "<i2", [2]], ["e", "<i2", [1]]],
        "fill_value": None,
        "order": "C",
        "filters": None,
        "compressor": None,
    }
    array = gpuzarr.open_array({".zarray": json.dumps(document).encode()}, device="cpu")
    assert array[...]["d"].shape == (5, 2)
    assert array["a"].shape == (5,)
    for field in ("d", "e"):
        reads: list[Callable[[], Any]] = [
            partial(array.__getitem__, field),
            partial(array.__getitem__, (field, 2)),
            partial(array.oindex.__getitem__, (field, [0, 1])),
            partial(array.vindex.__getitem__, (field, [0, 1])),
            partial(array.blocks.__getitem__, (field, 0)),
            partial(gpuzarr.read_batch, [(array, (field, 2))]),
        ]
        for read in reads:
            with pytest.raises(gpuzarr.UnsupportedError, match=r"holds an array of shape"):
                read()
