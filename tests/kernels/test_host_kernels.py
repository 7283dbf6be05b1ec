"""The harness itself, and the kernels under sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpuzarr.engines.cuda.kernels import (
    KERNELS,
    KernelSource,
    kernels_folder,
    source_text,
)
from tests.kernels import host_kernels
from tests.kernels.arguments import integers, launch

BARRIER_IN_HALF = """
#include "common.cuh"
extern "C" __global__ void half_waits(i64 *out) {
  if (threadIdx.x < 7) __syncthreads();
  else __syncwarp();
  out[threadIdx.x] = 1;
}
EXPORT_SYNC(half_waits)
extern "C" __global__ void waits_unannounced(i64 *out) { __syncthreads(); *out = 1; }
EXPORT(waits_unannounced)
extern "C" __global__ void leaves(i64 *out) {
  if (threadIdx.x >= 7) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}
EXPORT_SYNC(leaves)
extern "C" __global__ void turns(i64 *out) {
  __shared__ i64 place[THREADS];
  for (i64 turn = 0; turn < 3; turn++) {
    place[threadIdx.x] = turn * blockIdx.x + threadIdx.x;
    __syncthreads();
    out[blockIdx.x * THREADS + threadIdx.x] += place[THREADS - 1 - threadIdx.x];
    __syncthreads();
  }
}
EXPORT_SYNC(turns)
extern "C" __global__ void tells(i64 *out) {
#ifdef CONST_ITEM
  *out = CONST_ITEM;
#else
  *out = -1;
#endif
}
EXPORT(tells)
extern "C" __global__ void takes_two(i64 *, i64) {}
EXPORT(takes_two)
extern "C" __global__ void sums(u32 *out) {
  u32 value = threadIdx.x;
  for (u32 by = 16; by; by /= 2) value += __shfl_down_sync(~0u, value, by);
  if (threadIdx.x % 32 == 0) out[threadIdx.x / 32] = value;
}
EXPORT_SYNC(sums)
extern "C" __global__ void looks_too_early(i64 *out) {
  __shared__ i64 place[THREADS];
  u32 me = threadIdx.x;
  place[me] = blockIdx.x + 1;
  if (me % 32) out[2 * THREADS * blockIdx.x + me] = place[me - 1];
  if (me % 32 < 31) out[2 * THREADS * blockIdx.x + THREADS + me] = place[me + 1];
  __syncthreads();
}
EXPORT_SYNC(looks_too_early)
extern "C" __global__ void overtakes(i64 *out) {
  out[0] = out[0] * 31 + blockIdx.x * THREADS + threadIdx.x;
}
EXPORT(overtakes)
"""

OWN = (
    *("half_waits", "waits_unannounced", "leaves", "turns", "tells", "takes_two", "sums"),
    *("looks_too_early", "overtakes"),
)
NARROW = """
#include "common.cuh"
extern "C" __global__ void narrow(i32) {}
EXPORT(narrow)
"""


@pytest.fixture
def own_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> host_kernels.HostKernels:
    """Kernels that are wrong on purpose."""
    for header in kernels_folder().glob("*.*h"):
        (tmp_path / header.name).write_text(header.read_text())
    (tmp_path / "own.cu").write_text(BARRIER_IN_HALF)
    source_text.cache_clear()
    for module in (host_kernels, sys.modules["gpuzarr.engines.cuda.kernels"]):
        monkeypatch.setattr(module, "kernels_folder", lambda: tmp_path)
    (tmp_path / "narrow.cu").write_text(NARROW)
    more = {name: KernelSource("own.cu", 1) for name in OWN} | {
        "narrow": KernelSource("narrow.cu", 1)
    }
    monkeypatch.setattr(host_kernels, "KERNELS", {**KERNELS, **more})
    return host_kernels.HostKernels()


def test_a_barrier_that_part_of_a_block_never_reaches_is_an_error(
    own_kernels: host_kernels.HostKernels,
) -> None:
    out = np.zeros(256, np.int64)
    with pytest.raises(RuntimeError, match="never comes"):
        own_kernels.launch("half_waits", 1, [out.ctypes.data])
    with pytest.raises(RuntimeError, match="without SYNC"):
        own_kernels.launch("waits_unannounced", 1, [out.ctypes.data])
    with pytest.raises(RuntimeError, match="never comes"):
        own_kernels.launch("leaves", 1, [out.ctypes.data])
    own_kernels.launch("turns", 1, [out.ctypes.data])
    assert out.any(), "what went wrong before is forgotten"


def test_threads_wait_for_each_other_in_every_block(
    own_kernels: host_kernels.HostKernels,
) -> None:
    out = np.zeros((5, 256), np.int64)
    own_kernels.launch("turns", 5, [out.ctypes.data])
    block = np.arange(5)[:, None]
    np.testing.assert_array_equal(out, 3 * block + 3 * np.arange(255, -1, -1))
    own_kernels.launch("turns", 0, [out.ctypes.data])
    np.testing.assert_array_equal(out, 3 * block + 3 * np.arange(255, -1, -1))


def test_constants_are_defined_in_a_build_of_their_own(
    own_kernels: host_kernels.HostKernels,
) -> None:
    out, told = np.zeros(1, np.int64), []
    for constants in (None, {"item": 4}, {"item": 12}, {}, {"item": 4}):
        own_kernels.launch("tells", 1, [out.ctypes.data], constants)
        told.append(int(out[0]))
    assert told == [-1, 4, 12, -1, 4]


def test_warps_exchange(own_kernels: host_kernels.HostKernels) -> None:
    out = np.zeros(8, np.uint32)
    own_kernels.launch("sums", 1, [out.ctypes.data])
    assert out.tolist() == [sum(range(32 * w, 32 * w + 32)) for w in range(8)]


def test_threads_that_do_not_wait_are_found_out(
    own_kernels: host_kernels.HostKernels,
) -> None:
    """Whichever neighbour a thread does not wait for, it comes before that one in some block."""
    out = np.zeros((8, 2, 8, 32), np.int64)
    own_kernels.launch("looks_too_early", 8, [out.ctypes.data])
    right = out == 1 + np.arange(8)[:, None, None, None]
    assert not right[:, 0, :, 1:].all()
    assert not right[:, 1, :, :-1].all()


def test_no_order_of_threads_and_blocks_can_be_relied_on(
    own_kernels: host_kernels.HostKernels,
) -> None:
    found = []
    for _ in range(4):
        out = np.zeros(1, np.int64)
        own_kernels.launch("overtakes", 3, [out.ctypes.data])
        found.append(int(out[0]))
    assert len(set(found)) > 1


@pytest.mark.parametrize("count", [4, 6, 0])
def test_another_number_of_arguments_is_an_error(count: int) -> None:
    with pytest.raises(TypeError, match="copy_ranges"):
        launch("copy_ranges", 1, *[integers(0)] * count)


def test_a_table_that_disagrees_with_a_kernel_is_an_error(
    own_kernels: host_kernels.HostKernels,
) -> None:
    with pytest.raises(TypeError, match="takes_two has 2 parameters"):
        own_kernels.launch("takes_two", 1, [0])
    with pytest.raises(RuntimeError, match="parameters have 64 bits"):
        own_kernels.launch("narrow", 1, [0])


def test_every_source_has_its_kernels_in_the_table() -> None:
    files = {path.name for path in kernels_folder().glob("*.cu")}
    assert files == {source.file for source in KERNELS.values()}
    for name, source in KERNELS.items():
        text = source_text(source.file)
        assert f"\n{name}(" in text or f" {name}(" in text
        assert "#include" not in text.replace('#include "host.h"', "")


def with_sanitizers() -> dict[str, str]:
    """An environment whose processes have the sanitizers' libraries."""
    compiler = shutil.which("g++")
    assert compiler is not None
    ask = [[compiler, f"-print-file-name={name}"] for name in ("libasan.so", "libubsan.so")]
    libraries = [subprocess.run(one, capture_output=True, text=True, check=True) for one in ask]
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(library.stdout.strip() for library in libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
        "GPUZARR_SANITIZE_KERNELS": "1",
    }


BEHIND_THE_END = """
import numpy as np
from tests.kernels.arguments import integers, launch
source, target = np.arange(100, dtype=np.uint8), np.zeros(200, np.uint8)
places = [integers(array.ctypes.data) for array in (source, target)]
launch("copy_ranges", 1, *places, integers({nbytes}), integers(0, 1), 1)
print("copied", target[:100].tolist() == source.tolist())
"""


@pytest.mark.parametrize("nbytes", [100, 101])
def test_sanitizers_see_what_kernels_read(nbytes: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEHIND_THE_END.format(nbytes=nbytes)],
        env=with_sanitizers(),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if nbytes == 100:
        assert done.stdout == "copied True\n", done.stderr
    else:
        assert done.returncode != 0
        assert "heap-buffer-overflow" in done.stderr


@pytest.mark.long
def test_kernels_under_sanitizers() -> None:
    """Every test that runs kernels again, in a process with AddressSanitizer and UBSan.

    Of many parameters some are taken, see conftest.py.
    """
    folder = Path(__file__).parent
    others = {Path(__file__).name, "test_machine_code.py"}
    files = [str(path) for path in sorted(folder.glob("test_*.py")) if path.name not in others]
    options = ["-q", "-x", "-n0", "-p", "no:cacheprovider", "--no-header"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        env=with_sanitizers(),
        cwd=folder.parents[1],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
