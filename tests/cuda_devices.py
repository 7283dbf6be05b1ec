"""Reading on CUDA devices, fake and real, and beside the CPU engine.

The fake device runs everywhere; tests that take the fixture `cuda` run on it, and on a real GPU as
well where there is one. With GPUZARR_REQUIRE_GPU=1 the lack of one is a failure.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.choose import forget_engines
from gpuzarr.engines.cuda import availability, engine
from gpuzarr.engines.cuda.tuning import DEFAULTS, CodecRates, Rates
from tests.engines.cuda.fake_device import FakeDevice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuzarr.engines.cuda.device import Device


def rates_with(host: float, device: float) -> Rates:
    """Rates at which only the decoded bytes count: so many a second on either side."""
    codecs = {name: CodecRates(host, 1e15, device) for name in DEFAULTS.codecs}
    return replace(DEFAULTS, codecs=codecs, batch_s=0.0, columns_s=0.0, chunk_s=0.0)


DEVICE_WINS = rates_with(host=1.0, device=1e15)
HOST_WINS = rates_with(host=1e15, device=1.0)


@contextmanager
def with_rates(rates: Rates) -> Iterator[None]:
    """Engines that are made in here take these rates for the machine's."""
    forget_engines()
    with patch.object(engine, "rates_of", lambda _: rates):
        yield
    forget_engines()


@contextmanager
def installed(device: Device, rates: Rates = DEVICE_WINS) -> Iterator[None]:
    """The device is the one that `device="cuda"` means, and by default the faster side."""
    with (
        with_rates(rates),
        patch.object(availability, "missing", tuple),
        patch.object(availability, "open_device", lambda _: device),
    ):
        yield


@pytest.fixture
def fake() -> Iterator[FakeDevice]:
    """The fake device, in place of a GPU."""
    device = FakeDevice()
    with installed(device):
        yield device


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.gpu)])
def cuda(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The fake device, then a real one."""
    if request.param == "real":
        with with_rates(DEVICE_WINS):
            yield availability.open_device(None)
        return
    device = FakeDevice()
    with installed(device):
        yield device


def to_numpy(array: Any) -> np.ndarray[Any, Any]:
    """A result in host memory."""
    if isinstance(array, np.ndarray):
        return array
    values: np.ndarray[Any, Any] = array.get()
    return values


def assert_same(expected: np.ndarray[Any, Any], actual: Any) -> None:
    """Bit for bit the same, but for the bits of not-a-number."""
    actual = to_numpy(actual)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind in "fc":
        np.testing.assert_array_equal(actual, expected)
        np.testing.assert_array_equal(np.signbit(actual.real), np.signbit(expected.real))
        return
    assert actual.tobytes() == expected.tobytes()


def assert_engines_agree(store: Any, key: Any = ..., path: str = "", **choices: Any) -> None:
    """The CPU engine and the CUDA engine, on whatever device is installed, give the same."""
    expected = gpuzarr.open_array(store, path=path, device="cpu").read(key, **choices)
    for decode in ("auto", "host"):
        array = gpuzarr.open_array(store, path=path, device="cuda", decode=decode)
        assert_same(expected, array.read(key, **choices))
