"""The device on CuPy, against a pretended CuPy; and the pretended one against the real one."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zstandard

import gpuzarr
from gpuzarr.engines.cuda import availability
from tests.arrays import plain_store
from tests.cuda_devices import installed
from tests.engines.cuda import pretend_cupy
from tests.engines.cuda.fake_nvcomp import FakeNvcomp

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULE = "gpuzarr.engines.cuda.cupy_device"
ARRAY = np.arange(600, dtype=np.int32).reshape(20, 30)
ZSTD = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`cupy_device`, imported where CuPy is the pretended one."""
    for name, pretended in pretend_cupy.modules():
        monkeypatch.setitem(sys.modules, name, pretended)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    made = importlib.import_module(MODULE)
    monkeypatch.setattr(made, "Nvcomp", FakeNvcomp)
    vars(pretend_cupy.state).update(fail="", compiled=0, launched=[], allocated=0, synchronized=0)
    yield made
    sys.modules.pop(MODULE, None)


@pytest.fixture
def store() -> dict[str, bytes]:
    encode = zstandard.ZstdCompressor().compress
    return plain_store(ARRAY, (7, 7), encode=encode, codecs=("bytes", ZSTD))


def test_whole_reads(module: Any, store: dict[str, bytes]) -> None:
    with installed(module.CupyDevice(1)):
        array = gpuzarr.open_array(store, device="cuda")
        result = array[::2, 3:]
        assert type(result) is pretend_cupy.ndarray
        assert result.device.id == 1
        assert array.device == "cuda:1"
        np.testing.assert_array_equal(result.get(), ARRAY[::2, 3:])
        np.testing.assert_array_equal(array.read(dtype="f4", scale=2).get(), 2.0 * ARRAY)
        compiled = pretend_cupy.state.compiled
        np.testing.assert_array_equal(array[...].get(), ARRAY)
        assert pretend_cupy.state.compiled <= compiled + 1, "modules are kept"
        out = module.CupyDevice(1).empty((20, 30), np.dtype("i4"))
        assert array.read(out=out) is out
        key = (np.array([[0, 1, 2], [19, 5, 6]]), np.array([[3, 4, 5], [0, 1, 29]]))
        points = module.CupyDevice(1).empty((3, 2), np.dtype("i4")).T
        np.testing.assert_array_equal(array.read(key, out=points).get(), ARRAY[key])
        assert pretend_cupy.state.synchronized == 1, "its axes do not join without a copy"
        with pytest.raises(ValueError, match=r"ndarray on cuda:1"):
            array.read(out=np.zeros((20, 30), np.int32))
        with pytest.raises(ValueError, match=r"ndarray on cuda:1, not a .*ndarray on cuda:0"):
            array.read(out=module.CupyDevice(0).empty((20, 30), np.dtype("i4")))


def test_what_arrays_it_holds(module: Any) -> None:
    device = module.CupyDevice(0)
    for name in ("?", "i1", "u8", "f2", "f8", "c8", "c16"):
        assert device.holds(np.dtype(name))
    for dtype in map(np.dtype, ("U3", "S2", "V4", "M8[s]", "O", ">i4", "g")):
        assert not device.holds(dtype), dtype
    assert not device.holds(np.dtype([("a", "i4")]))


def test_streams_of_others(module: Any) -> None:
    device = module.CupyDevice(1)
    own = pretend_cupy.Stream()
    assert device.as_stream(own) is own
    protocol = SimpleNamespace(__cuda_stream__=lambda: (0, 77))
    for stream in (77, SimpleNamespace(cuda_stream=77), SimpleNamespace(ptr=77), protocol):
        found = device.as_stream(stream)
        assert (found.ptr, found.device_id) == (77, 1)
    for wrong in ("x", object(), None):
        with pytest.raises(ValueError, match="stream="):
            device.as_stream(wrong)


def test_failures_are_ours(module: Any, store: dict[str, bytes]) -> None:
    with pytest.raises(gpuzarr.UnsupportedError, match="CUDA shows 2"):
        module.CupyDevice(2)
    device = module.CupyDevice(0)
    with installed(device):
        array = gpuzarr.open_array(store, device="cuda")
        for fail in ("empty", "alloc"):
            pretend_cupy.state.fail = fail
            with pytest.raises(gpuzarr.MemoryLimitError, match="bytes"):
                array[...]
        pretend_cupy.state.fail = "synchronize"
        with pytest.raises(gpuzarr.DeviceError, match="context is lost"):
            array[...]
        pretend_cupy.state.fail = ""
        np.testing.assert_array_equal(array[...].get(), ARRAY)


REAL = """
import sys, cupy
import cupy.cuda
for name in sys.argv[1:]:
    place = cupy
    for part in name.split(".")[1:]:
        place = getattr(place, part)
print("all there", cupy.__version__)
"""


def test_every_name_is_in_the_real_cupy() -> None:
    if find_spec("cupy") is None:
        if os.environ.get("GPUZARR_REQUIRE_GPU_LIBRARIES") == "1":
            pytest.fail("CuPy is not installed")
        pytest.skip("CuPy is not installed")
    source = Path(availability.__file__).with_name("cupy_device.py").read_text()
    names = {
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and re.fullmatch(r"cupy(\.\w+)+", ast.unparse(node))
    }
    assert len(names) > 15
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REAL, *sorted(names)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "all there" in done.stdout, done.stderr
