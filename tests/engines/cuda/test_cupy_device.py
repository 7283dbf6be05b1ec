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

import ml_dtypes
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
    fresh = {"fail": "", "compiled": 0, "launched": [], "allocated": 0, "synchronized": 0}
    vars(pretend_cupy.state).update(fresh, waits=[], ranges=[])
    yield made
    sys.modules.pop(MODULE, None)


@pytest.fixture
def store() -> dict[str, bytes]:
    encode = zstandard.ZstdCompressor().compress
    return plain_store(ARRAY, (7, 7), encode=encode, codecs=("bytes", ZSTD))


def empty(device: Any, shape: tuple[int, ...]) -> Any:
    return device.empty(shape, np.dtype("i4"), device.current_stream())


def test_names_for_profilers_are_nvtx_ranges(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    device = module.CupyDevice(0)
    with device.mark("outer"), device.mark("inner"):
        pass
    assert pretend_cupy.state.ranges == ["outer", "inner", "end", "end"]
    monkeypatch.setattr(module.cupy.cuda.nvtx, "available", False)
    with device.mark("nothing"):
        pass
    assert len(pretend_cupy.state.ranges) == 4


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
        out = empty(module.CupyDevice(1), (20, 30))
        assert array.read(out=out) is out
        key = (np.array([[0, 1, 2], [19, 5, 6]]), np.array([[3, 4, 5], [0, 1, 29]]))
        points = empty(module.CupyDevice(1), (3, 2)).T
        np.testing.assert_array_equal(array.read(key, out=points).get(), ARRAY[key])
        assert pretend_cupy.state.synchronized == 1, "its axes do not join without a copy"
        with pytest.raises(ValueError, match=r"ndarray on cuda:1"):
            array.read(out=np.zeros((20, 30), np.int32))
        with pytest.raises(ValueError, match=r"ndarray on cuda:1, not a .*ndarray on cuda:0"):
            array.read(out=empty(module.CupyDevice(0), (20, 30)))


def test_what_arrays_it_holds(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    device = module.CupyDevice(0)
    for name in ("?", "i1", "u8", "f2", "f8", "c8", "c16"):
        assert device.holds(np.dtype(name))
    for dtype in map(np.dtype, ("U3", "S2", "V4", "M8[s]", "m8", "O", ">i4", "g", "G")):
        assert not device.holds(dtype), dtype
    assert not device.holds(np.dtype([("a", "i4")]))
    # The characters of these are those of NumPy's own types: "L" and, in some versions, "e".
    for other in (ml_dtypes.float8_e4m3b11fnuz, ml_dtypes.float8_e5m2, ml_dtypes.int4):
        assert not device.holds(np.dtype(other)), other
    bfloat16 = np.dtype(ml_dtypes.bfloat16)
    recent = np.lib.NumpyVersion(np.__version__) >= "2.1.2"
    for version, held in (("13.6.0", False), ("14.0.0rc1", recent), ("15.1.2", recent)):
        monkeypatch.setattr(module.cupy, "__version__", version)
        assert device.holds(bfloat16) == held


def test_bfloat16_is_read_and_converted(module: Any) -> None:
    values = ARRAY.astype(ml_dtypes.bfloat16)
    store = plain_store(values, (7, 7))
    with installed(module.CupyDevice(0)):
        result = gpuzarr.open_array(store, device="cuda")[1:, ::2]
        assert result.dtype == values.dtype
        np.testing.assert_array_equal(result.get(), values[1:, ::2])
        integers = gpuzarr.open_array(plain_store(ARRAY, (7, 7)), device="cuda")
        converted = integers.read(dtype=ml_dtypes.bfloat16)
        np.testing.assert_array_equal(converted.get(), values)


def test_work_is_done_on_the_gpu_and_the_stream(module: Any) -> None:
    device = module.CupyDevice(1)
    stream = pretend_cupy.Stream()
    with device.at_work("try", stream):
        assert pretend_cupy.Device().id == 1
        assert device.current_stream() is stream
        memory = device.allocate(100, stream)
    assert memory._pointer.stream is stream  # noqa: SLF001  pools are ordered by streams
    assert not pretend_cupy.Stream.current
    assert device.current_stream() is pretend_cupy.DEFAULT


def test_copies(module: Any) -> None:
    device = module.CupyDevice(0)
    stream = device.current_stream()
    there, back = device.pin(5000), device.pin(5000)
    there.array[:] = np.arange(5000)
    memory = device.allocate(5000, stream)
    device.upload(there.array, memory.address, stream)
    device.clear(memory.address + 10, 20, stream)
    device.download(memory.address, back.array, stream)
    device.record(stream).wait()
    expected = there.array.copy()
    expected[10:30] = 0
    np.testing.assert_array_equal(back.array, expected)
    described = device.buffer(memory.address, 5000).__cuda_array_interface__
    assert described["shape"] == (5000,)
    assert described["data"] == (memory.address, False)


FAILURES = {
    "empty": (gpuzarr.MemoryLimitError, r"hold the result of 2,400 bytes"),
    "alloc": (gpuzarr.MemoryLimitError, r"not enough memory to hold [\d,]+ bytes for a read"),
    "alloc by others": (gpuzarr.MemoryLimitError, r"hold [\d,]+ bytes .*std::bad_alloc"),
    "pin": (gpuzarr.MemoryLimitError, r"lock [\d,]+ bytes of host memory"),
    "enter": (gpuzarr.DeviceError, "cuda:0 failed to .*context is lost"),
    "synchronize": (gpuzarr.DeviceError, "finish a read: .*context is lost"),
    "launch": (gpuzarr.DeviceError, "failed to run check_streams.*context is lost"),
    "compile": (gpuzarr.DeviceError, "CUDA's compiler failed to run check_streams.*no such thing"),
}


@pytest.mark.parametrize("fail", FAILURES)
def test_failures_are_ours(module: Any, store: dict[str, bytes], fail: str) -> None:
    error, text = FAILURES[fail]
    with installed(module.CupyDevice(0)):
        array = gpuzarr.open_array(store, device="cuda")
        assert array.device == "cuda:0"
        pretend_cupy.state.fail = fail
        with pytest.raises(error, match=text):
            array[...]
        pretend_cupy.state.fail = ""
        np.testing.assert_array_equal(array[...].get(), ARRAY)


def test_devices_that_cannot_be_opened(module: Any) -> None:
    for number in (2, -1):
        with pytest.raises(gpuzarr.UnsupportedError, match="CUDA shows 2"):
            module.CupyDevice(number)
    pretend_cupy.state.fail = "nvrtc"
    with pytest.raises(gpuzarr.UnsupportedError, match="pip install nvidia-cuda-nvrtc"):
        module.CupyDevice(0)


def test_a_forked_child_is_told_at_every_call(
    module: Any, monkeypatch: pytest.MonkeyPatch, store: dict[str, bytes]
) -> None:
    device = module.CupyDevice(0)
    stream = device.current_stream()
    memory, pinned, event = device.allocate(8, stream), device.pin(8), device.record(stream)
    with installed(device):
        array = gpuzarr.open_array(store, device="cuda")
        assert array.device == "cuda:0"
        monkeypatch.setattr(module, "os", SimpleNamespace(getpid=lambda: -1))
        for call in (
            lambda: array[...],
            device.current_stream,
            device.free_nbytes,
            lambda: device.empty((2,), np.dtype("i4"), stream),
            lambda: device.allocate(8, stream),
            lambda: device.pin(8),
            lambda: device.upload(pinned.array, memory.address, stream),
            lambda: device.download(memory.address, pinned.array, stream),
            lambda: device.clear(memory.address, 8, stream),
            lambda: device.launch("fill", 1, [0] * 8, stream),
            lambda: device.record(stream),
            lambda: device.wait_for(event, stream),
            lambda: event.seconds_since(event),
            event.wait,
        ):
            with pytest.raises(gpuzarr.DeviceError, match=f"process {os.getpid()}, .*'spawn'"):
                call()


def require_cupy() -> None:
    if find_spec("cupy") is None:
        if os.environ.get("GPUZARR_REQUIRE_GPU_LIBRARIES") == "1":
            pytest.fail("CuPy is not installed")
        pytest.skip("CuPy is not installed")


def in_real_cupy(program: str, *arguments: str) -> str:
    """What a program prints in a process of its own, where CuPy is the real one."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


NAMES = """
import sys, cupy
import cupy.cuda
for name in sys.argv[1:]:
    place = cupy
    for part in name.split(".")[1:]:
        place = getattr(place, part)
"""


def test_every_name_is_in_the_real_cupy() -> None:
    require_cupy()
    source = Path(availability.__file__).with_name("cupy_device.py").read_text()
    names = {
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and re.fullmatch(r"cupy(\.\w+)+", ast.unparse(node))
    }
    assert len(names) > 15
    in_real_cupy(NAMES, *sorted(names))


MEMBERS = """
import inspect
import cupy
import cupy.cuda
import numpy as np

cuda = cupy.cuda
# What is called with these arguments; the last ones have defaults, and are not given.
inspect.signature(cuda.Event.__init__).bind(None, block=False, disable_timing=True)
inspect.signature(cuda.Event.record).bind(None, None)
inspect.signature(cuda.Stream.__init__).bind(None, non_blocking=True)
inspect.signature(cuda.Stream.wait_event).bind(None, None)
inspect.signature(cuda.ExternalStream.wait_event).bind(None, None)
assert cuda.get_elapsed_time.__doc__.split("Args:")[1].split()[:2] == ["start_event", "(Event):"]
inspect.signature(cuda.PinnedMemory.__init__).bind(None, 100)
inspect.signature(cuda.ExternalStream.__init__).bind(None, 77, 0)
for function, parameters in (
    (cuda.alloc, "size"),
    (cuda.runtime.memcpyAsync, "dst, src, size, kind, stream"),
    (cuda.runtime.memsetAsync, "ptr, value, size, stream"),
):
    text = function.__doc__.split(")")[0].split("(")[1]
    names = ", ".join(parameter.split()[-1] for parameter in text.split(","))
    assert names == parameters, (function, names)
for word in ("str code", "tuple options"):
    assert word in cupy.RawModule.__doc__.split(")")[0]

# What is asked of objects.
assert callable(cuda.Event.synchronize) and callable(cupy.RawModule.get_function)
assert isinstance(cuda.Stream.null.ptr, int) and cuda.Stream.null.device_id == -1
assert callable(cuda.Stream.null.synchronize) and callable(cuda.MemoryPool().free_bytes)
assert cuda.Device(0).id == 0
memory = cuda.UnownedMemory(4096, 64, None, 0)
array = cupy.ndarray((2, 3), "i4", memptr=cuda.MemoryPointer(memory, 8))
assert array.data.ptr == 4104 and array.device.id == 0
assert array[1:, ::-1].data.ptr == 4104 + 12 + 8, "of the element at zero"
assert issubclass(cuda.memory.OutOfMemoryError, MemoryError)
assert cuda.runtime.CUDARuntimeError(2).status == 2
assert (cuda.runtime.memcpyHostToDevice, cuda.runtime.memcpyDeviceToHost) == (1, 2)
"""


def test_what_is_called_is_as_the_real_cupy_has_it() -> None:
    require_cupy()
    in_real_cupy(MEMBERS)


DEVICE = """
import os, warnings
from contextlib import nullcontext
import cupy, ml_dtypes
import numpy as np
from gpuzarr.engines.cuda.cupy_device import CupyDevice
from gpuzarr.errors import DeviceError, MemoryLimitError

warnings.simplefilter("error")
device = CupyDevice.__new__(CupyDevice)  # there is no GPU to open
device.number, device.name = 0, "cuda:0"
device._process, device._device = os.getpid(), nullcontext()

class Protocol:
    def __cuda_stream__(self):
        return 0, 77

class Torch:
    cuda_stream = 77

for stream in (77, Protocol(), Torch()):
    found = device.as_stream(stream)
    assert isinstance(found, (cupy.cuda.Stream, cupy.cuda.ExternalStream))
    assert found.ptr == 77, found
assert device.as_stream(cupy.cuda.Stream.null) is cupy.cuda.Stream.null
assert device.as_stream(found) is found
for error, ours in (
    (cupy.cuda.runtime.CUDARuntimeError(700), DeviceError),
    (cupy.cuda.runtime.CUDARuntimeError(2), MemoryLimitError),
    (cupy.cuda.memory.OutOfMemoryError(1, 2), MemoryLimitError),
    (cupy.cuda.compiler.CompileException("log", "source", "name", ()), DeviceError),
):
    try:
        with device.at_work("try this"):
            raise error
    except ours as raised:
        assert "try this" in str(raised), raised
assert device.holds(np.dtype("f2")) and not device.holds(np.dtype(ml_dtypes.float8_e4m3b11fnuz))
if device.holds(np.dtype(ml_dtypes.bfloat16)):
    assert "bfloat16" in open(cupy.__path__[0] + "/_core/include/cupy/carray.cuh").read()
print("done")
"""


def test_streams_and_errors_of_the_real_cupy() -> None:
    require_cupy()
    assert in_real_cupy(DEVICE) == "done\n"
