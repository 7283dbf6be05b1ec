"""The door to PyTorch: arrays and batches as tensors, and datasets for DataLoaders.

All of it is skipped where PyTorch is missing, but with GPUZARR_REQUIRE_TORCH=1 not even there.
"""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import gpuzarr
from tests.arrays import CountingStore, plain_store
from tests.loader.programs import (
    ALL,
    BATCHES,
    CROP,
    NUMBERS,
    make_loader,
    numbers_store,
    origins,
)

if os.environ.get("GPUZARR_REQUIRE_TORCH") != "1":
    pytest.importorskip("torch")

import torch
from torch.utils.data import DataLoader, Subset

from gpuzarr.integrations.torch import ZarrDataset, ZarrIterableDataset, as_tensor
from gpuzarr.loader.tensors import TENSOR_TYPES


def dtype_named(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


def numbers_in(batches: Any) -> list[int]:
    """The first number of each window, every number of which is checked."""
    return origins(batch.numpy() for batch in batches)


@pytest.fixture(scope="module")
def epochs() -> list[list[int]]:
    """What a loader reads, as NumPy arrays."""
    loader = make_loader(0)
    return [origins(loader) for _ in range(5)]


# ------------------------------------------------------------------------------------------ arrays


@pytest.mark.parametrize("name", TENSOR_TYPES)
def test_a_tensor_lies_in_the_memory_of_its_array(name: str) -> None:
    array = np.arange(1, 13).reshape(3, 4).astype(dtype_named(name))  # nothing is NaN
    tensor = as_tensor(array)
    assert str(tensor.dtype) == f"torch.{name}"
    assert (tuple(tensor.shape), tensor.data_ptr()) == (array.shape, array.ctypes.data)
    assert tensor.tolist() == array.astype(complex if array.dtype.kind == "c" else float).tolist()
    tensor[0] = tensor[1]
    assert array[0].tobytes() == array[1].tobytes()


@pytest.mark.parametrize("name", ["int16", "bfloat16"])
def test_a_tensor_of_a_view_or_of_one_element(name: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype_named(name))
    for view in (array[:, ::2], array.T, array[1:2, 3:], array[:0], array[1, 2, ...]):
        tensor = as_tensor(view)
        assert tuple(tensor.shape) == view.shape
        assert tensor.tolist() == view.astype(float).tolist()
        assert tensor.data_ptr() == view.ctypes.data or not view.size


def test_memory_that_no_tensor_can_be_is_copied() -> None:
    fixed = np.arange(4)
    fixed.flags.writeable = False
    for array in (fixed, np.arange(4)[::-1]):
        tensor = as_tensor(array)
        assert tensor.tolist() == array.tolist()
        before = array.copy()
        tensor += 1
        assert np.array_equal(array, before)


class OtherArray:
    """An array that is not NumPy's, as CuPy's are."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values, self.dtype, self.strides = values, values.dtype, values.strides

    def copy(self) -> OtherArray:
        return OtherArray(self.values.copy())

    def view(self, dtype: Any) -> OtherArray:
        return OtherArray(self.values.view(dtype))

    def __dlpack__(self, **how: Any) -> Any:
        return self.values.__dlpack__(**{"stream": None} | how)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()


@pytest.mark.parametrize("name", ["int32", "bfloat16"])
def test_whatever_speaks_dlpack_gives_its_memory(name: str) -> None:
    values = np.arange(3).astype(dtype_named(name))
    tensor = as_tensor(OtherArray(values))
    assert tensor.tolist() == [0, 1, 2]
    assert tensor.data_ptr() == values.ctypes.data
    assert as_tensor(OtherArray(values[::-1])).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("dtype", "instead"),
    [
        ("M8[s]", "array.view('int64')"),
        ("m8[D]", "array.view('int64')"),
        ("O", "stay in NumPy"),
        ("U3", "stay in NumPy"),
        ("S3", "stay in NumPy"),
        ([("a", "i4"), ("b", "f8")], "array[name]"),
        ("V4", "dtype="),
        (">i4", "dtype="),
        (ml_dtypes.int4, "dtype="),
        (ml_dtypes.float8_e3m4, "dtype="),
    ],
    ids=str,
)
def test_other_dtypes_are_refused_with_what_to_do(dtype: Any, instead: str) -> None:
    array = np.zeros(3, dtype)
    with pytest.raises(gpuzarr.UnsupportedError, match="PyTorch has no tensors of dtype") as caught:
        as_tensor(array)
    assert instead in caught.value.reasons[0]


# ----------------------------------------------------------------------------------- single windows


def test_a_dataset_of_windows() -> None:
    dataset = ZarrDataset(gpuzarr.open_array(numbers_store()), crop=CROP)
    assert len(dataset) == len(ALL)
    assert numbers_in([torch.stack(list(dataset))]) == ALL
    assert torch.equal(dataset[-1], torch.from_numpy(NUMBERS[-8:, -12:]))
    for outside in (len(ALL), -len(ALL) - 1):
        with pytest.raises(gpuzarr.SelectionError, match="of 32"):
            dataset[outside]


def test_a_dataset_of_several_arrays_and_other_windows() -> None:
    array = gpuzarr.open_array(numbers_store())
    pair = ZarrDataset(
        (array, array), crop=CROP, stride=(4, 12), dtype=("f4", None), scale=(2, None)
    )
    assert len(pair) == 15 * 4
    doubled, plain = pair[4]
    assert (doubled.dtype, plain.dtype) == (torch.float32, torch.int32)
    assert torch.equal(plain, torch.from_numpy(NUMBERS[4:12, :12]))
    assert torch.equal(doubled, 2.0 * plain)
    given = ZarrDataset({"a": array}, windows=[np.s_[3, :5], np.s_[4, 5:10]], offset={"a": 1})
    assert [item["a"].tolist() for item in given] == [
        (NUMBERS[3, :5] + 1).tolist(),
        (NUMBERS[4, 5:10] + 1).tolist(),
    ]
    random = [ZarrDataset(array, crop=CROP, windows="random", samples_per_epoch=6, seed=seed)
              for seed in (1, 1, 2)]  # fmt: skip
    first, same, other = (numbers_in([torch.stack(list(dataset))]) for dataset in random)
    assert first == same != other


def test_the_windows_of_a_batch_are_one_read() -> None:
    store = CountingStore(plain_store(NUMBERS, (64, 6)))
    dataset = ZarrDataset(gpuzarr.open_array(store), crop=(8, 12))
    store.taken()
    order = torch.Generator().manual_seed(3)
    windows = Subset(dataset, range(4, 32))
    batches = list(DataLoader(windows, batch_size=14, shuffle=True, generator=order))
    keys = [key for key, _, _ in store.taken()]
    assert sorted(set(keys)) == [f"c/0/{column}" for column in range(8)]
    assert len(keys) == 2 * 8  # each chunk once a batch, for 14 windows of which many need it
    assert sorted(numbers_in(batches)) == ALL[4:]
    items = dataset.__getitems__([9, 2, 9])
    assert numbers_in([torch.stack(items)]) == [ALL[9], ALL[2], ALL[9]]
    items[0][:] = 0
    assert torch.equal(items[2], dataset[9])


def test_a_damaged_chunk_is_named_with_its_window() -> None:
    dataset = ZarrDataset(gpuzarr.open_array(numbers_store() | {"c/0/2": b"short"}), crop=CROP)
    assert len(dataset.__getitems__([0, 4])) == 2
    with pytest.raises(gpuzarr.ChunkError, match=r"in epoch 0, at the windows \[0:8, 12:24\] "):
        dataset.__getitems__([0, 1, 4])


# ------------------------------------------------------------------------------------ whole batches


def test_batches_are_those_of_the_loader(epochs: list[list[int]]) -> None:
    loader = make_loader(2)
    dataset = loader.torch()
    assert isinstance(dataset, ZarrIterableDataset)
    plain = DataLoader(dataset, batch_size=None)
    assert len(dataset) == len(plain) == BATCHES
    assert numbers_in(dataset) == epochs[0]
    assert numbers_in(plain) == epochs[1]
    assert loader.progress.epoch == 1
    dataset.set_epoch(4)
    assert numbers_in(plain) == epochs[4]


def test_batches_of_several_arrays() -> None:
    array = gpuzarr.open_array(numbers_store())
    options: dict[str, Any] = {"crop": CROP, "batch_size": 32}
    (named,) = gpuzarr.Loader({"x": array, "y": array}, dtype={"y": "f8"}, **options).torch()
    assert (named["x"].dtype, named["y"].dtype) == (torch.int32, torch.float64)
    (pair,) = gpuzarr.Loader((array, array), **options).torch()
    assert isinstance(pair, tuple)
    assert (
        numbers_in([pair[0]])
        == numbers_in(
            [
                pair[1],
            ]
        )
        == numbers_in([named["x"]])
        == ALL
    )


@pytest.mark.parametrize("pickled", [False, True])
def test_resuming_without_workers_is_exact(*, pickled: bool, epochs: list[list[int]]) -> None:
    for taken in range(1, BATCHES):
        dataset = make_loader(2).torch()
        batches = iter(DataLoader(dataset, batch_size=None))
        seen = numbers_in(next(batches) for _ in range(taken))
        if pickled:
            resumed = pickle.loads(pickle.dumps(dataset))  # noqa: S301  our own
        else:
            resumed = make_loader(2).torch()
            resumed.load_state_dict(json.loads(json.dumps(dataset.state_dict())))
        assert seen + numbers_in(DataLoader(resumed, batch_size=None)) == epochs[0]
        assert numbers_in(resumed) == epochs[1]


def test_a_state_of_another_order_is_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        make_loader(0).torch().load_state_dict(make_loader(0, seed=8).torch().state_dict())
