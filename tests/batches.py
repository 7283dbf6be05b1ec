"""Reads of many selections beside single ones, on every device that there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.choose import forget_engines
from tests.cuda_devices import assert_same, installed, to_numpy
from tests.engines.cuda.fake_device import FakeDevice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Pair = tuple[Any, Any]
"""An array (or its `oindex`, ...), and a key."""


@pytest.fixture(params=["cpu", "fake", pytest.param("real", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """What `device=` is, with the fake device in place of a GPU, and with a real one."""
    if request.param == "real":
        forget_engines()
        yield "cuda"
    elif request.param == "cpu":
        yield "cpu"
    else:
        fake = FakeDevice()
        with installed(fake):
            yield "cuda"
            assert fake.used == 0, "memory on the device was not given back"


@pytest.fixture(params=["cpu", "fake"])
def numpy_device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The same for devices whose arrays are NumPy's."""
    if request.param == "cpu":
        yield "cpu"
        return
    fake = FakeDevice()
    with installed(fake):
        yield "cuda"
        assert fake.used == 0, "memory on the device was not given back"


def one_by_one(pairs: Sequence[Pair], **choices: Any) -> list[np.ndarray[Any, Any]]:
    """The results of single reads."""
    return [
        to_numpy(place.read(key, **choices) if isinstance(place, gpuzarr.Array) else place[key])
        for place, key in pairs
    ]


def check_batch(pairs: Sequence[Pair], **choices: Any) -> Any:
    """A batch gives what single reads do: stacked where they have one shape and dtype."""
    expected = one_by_one(pairs, **choices)
    found = gpuzarr.read_batch(pairs, **choices)
    if len({(values.shape, values.dtype) for values in expected}) == 1:
        assert found.flags.c_contiguous
        assert_alike(np.stack(expected), found)
    else:
        assert type(found) is list
        assert len(found) == len(expected)
        for due, values in zip(expected, found, strict=True):
            assert_alike(due, values)
    return found


def assert_alike(expected: np.ndarray[Any, Any], found: Any) -> None:
    """The same elements, of any dtype."""
    if expected.dtype.hasobject or expected.dtype.kind == "T":
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tolist() == expected.tolist()
    else:
        assert_same(expected, found)
