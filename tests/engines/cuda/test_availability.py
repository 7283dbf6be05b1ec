"""Why CUDA cannot be used, told without starting it; forked processes; devices opened once."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.choose import forget_engines
from gpuzarr.engines.cuda import availability, nvcomp
from tests.arrays import plain_store

if TYPE_CHECKING:
    from collections.abc import Iterator

ARRAY = np.arange(6, dtype=np.int16)
CUPY_DEVICE = "gpuzarr.engines.cuda.cupy_device"


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine on which nothing speaks against CUDA, as far as files and packages tell."""
    monkeypatch.setattr(availability, "DRIVER_FILES", (os.devnull,))
    monkeypatch.setattr(availability, "find_spec", lambda name: name)
    monkeypatch.setattr(availability, "_has_nvcomp", lambda: True)
    monkeypatch.setattr(availability, "_devices", {})
    monkeypatch.setattr(availability, "_forked_from", [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    forget_engines()
    yield monkeypatch
    forget_engines()


def pretend(patch: pytest.MonkeyPatch, make: Any, current: int = 0) -> None:
    """A CuPy whose current GPU is of that number, and what makes devices of it."""
    cupy = SimpleNamespace(cuda=SimpleNamespace(Device=lambda: SimpleNamespace(id=current)))
    patch.setitem(sys.modules, "cupy", cupy)
    patch.setitem(sys.modules, CUPY_DEVICE, SimpleNamespace(CupyDevice=make))


def test_nothing_speaks_against_it(usable: pytest.MonkeyPatch) -> None:
    assert availability.missing() == ()
    usable.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert availability.missing() == ()


@pytest.mark.skipif(sys.platform != "linux", reason="the driver's files are Linux'")
def test_no_driver(usable: pytest.MonkeyPatch) -> None:
    usable.setattr(availability, "DRIVER_FILES", ("/nonexistent/driver",))
    assert availability.missing() == ("there is no NVIDIA driver on this machine",)


@pytest.mark.parametrize("value", ["", "-1", " "])
def test_hidden_gpus(usable: pytest.MonkeyPatch, value: str) -> None:
    usable.setenv("CUDA_VISIBLE_DEVICES", value)
    assert availability.missing() == ("CUDA_VISIBLE_DEVICES hides every GPU",)


def test_packages_that_are_not_installed(usable: pytest.MonkeyPatch) -> None:
    usable.setattr(availability, "find_spec", lambda _: None)
    usable.setattr(availability, "_has_nvcomp", lambda: False)
    cupy, library = availability.missing()
    assert cupy.startswith("CuPy is not installed: pip install")
    assert library.startswith("nvCOMP is not installed: pip install")


def test_every_reason_is_told(usable: pytest.MonkeyPatch) -> None:
    usable.setattr(availability, "find_spec", lambda _: None)
    usable.setenv("CUDA_VISIBLE_DEVICES", "")
    store = plain_store(ARRAY, (2,))
    with pytest.raises(gpuzarr.UnsupportedError) as caught:
        gpuzarr.open_array(store, device="cuda:3").read()
    assert "device 'cuda:3' is not available" in str(caught.value)
    assert len(caught.value.reasons) == 2
    assert all(reason in str(caught.value) for reason in caught.value.reasons)
    array = gpuzarr.open_array(store)
    assert array.device == "cpu", 'and device="auto" does not mind'
    assert (array[...] == ARRAY).all()


def test_nvcomp_is_looked_for_by_its_package_then_by_the_loader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    has_nvcomp = availability._has_nvcomp  # noqa: SLF001
    monkeypatch.setattr(nvcomp, "find_library", lambda: pytest.fail("it is not loaded for this"))
    monkeypatch.setattr(nvcomp, "DISTRIBUTIONS", ("not-installed", "numpy"))
    assert has_nvcomp()
    monkeypatch.setattr(nvcomp, "DISTRIBUTIONS", ("not-installed",))
    for found in (None, "libnvcomp.so.6"):
        monkeypatch.setattr(nvcomp, "find_library", lambda found=found: found)
        assert has_nvcomp() == (found is not None)


def test_a_cupy_that_does_not_work(
    usable: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(number: int) -> None:
        raise RuntimeError(f"cudaErrorInsufficientDriver for {number}")

    pretend(usable, broken)
    store = plain_store(ARRAY, (2,))
    with pytest.raises(gpuzarr.UnsupportedError, match=r"RuntimeError: cudaErrorInsufficient"):
        gpuzarr.open_array(store, device="cuda").read()
    with caplog.at_level("INFO", "gpuzarr.engine"):
        assert (gpuzarr.open_array(store)[...] == ARRAY).all()
    assert "cudaErrorInsufficientDriver" in caplog.text, "the CPU is not taken in silence"
    with pytest.raises(gpuzarr.UnsupportedError, match="cudaErrorInsufficientDriver"):
        gpuzarr.open_array(store, decode="device").read()


def test_cuda_that_another_library_started_before_the_fork(usable: pytest.MonkeyPatch) -> None:
    def broken(number: int) -> None:
        raise RuntimeError(f"cudaErrorInitializationError: initialization error on {number}")

    pretend(usable, broken)
    with pytest.raises(gpuzarr.UnsupportedError, match="process that was forked after it"):
        availability.open_device(0)


def test_devices_are_opened_once(usable: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make(number: int) -> object:
        made.append(number)
        return SimpleNamespace(number=number)

    pretend(usable, make, current=1)
    first = availability.open_device(None)
    assert availability.open_device(1) is first, "the one that is current in CuPy"
    assert availability.open_device(0) is not first
    assert made == [1, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_told(usable: pytest.MonkeyPatch) -> None:
    pretend(usable, lambda number: SimpleNamespace(number=number))
    availability.open_device(0)
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            availability.open_device(0)
        except gpuzarr.DeviceError as error:
            os.write(sending, str(error).encode())
        finally:
            os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as told:
        message = told.read()
    os.waitpid(child, 0)
    assert f"it was forked from process {os.getpid()}" in message
    assert "'spawn'" in message
    assert availability.open_device(0) is not None, "the parent works on"
