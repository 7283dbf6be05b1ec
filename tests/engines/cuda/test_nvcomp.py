"""The binding to nvCOMP, as far as there is no need of a GPU, with the library and its headers.

Where the library is not installed these tests are skipped; GPUZARR_REQUIRE_GPU_LIBRARIES=1 makes
that a failure.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuzarr.engines.cuda import nvcomp
from gpuzarr.engines.cuda.device import Alignment, Streams
from gpuzarr.errors import DeviceError, UnsupportedError
from tests.engines.cuda.fake_nvcomp import FakeNvcomp

MIB = 1 << 20


@pytest.fixture(scope="module")
def library() -> nvcomp.Nvcomp:
    if nvcomp.find_library() is None:
        if os.environ.get("GPUZARR_REQUIRE_GPU_LIBRARIES") == "1":
            pytest.fail("nvCOMP is not installed")
        pytest.skip("nvCOMP is not installed")
    return nvcomp.Nvcomp()


def test_every_format_is_there(library: nvcomp.Nvcomp) -> None:
    assert library.version.startswith(("nvCOMP 5.", "nvCOMP 6."))
    for name in (*nvcomp.FORMATS, *nvcomp.POLYNOMIALS):
        assert library.unsupported(name) is None
    assert library.unsupported("brotli") == "nvCOMP has no brotli"


ALIGNMENTS = {
    "zstd": Alignment(1, 1, 8),
    "lz4": Alignment(1, 1, 1),
    "snappy": Alignment(1, 1, 1),
    "deflate": Alignment(4, 1, 1),
    "gzip": Alignment(1, 1, 1),
}


@pytest.mark.parametrize("name", nvcomp.FORMATS)
def test_alignments(library: nvcomp.Nvcomp, name: str) -> None:
    assert library.alignment(name) == ALIGNMENTS[name]
    assert FakeNvcomp().alignment(name) == ALIGNMENTS[name]


def test_temporary_memory(library: nvcomp.Nvcomp) -> None:
    for count, most, total in ((1, MIB, MIB), (100, MIB, 10 * MIB), (682, 4 * MIB, 4 * MIB)):
        expected = 3 * total + 6936 * max(count, -(-total >> 17))
        assert library.temp_nbytes("zstd", count, most, total) == expected
        assert FakeNvcomp().temp_nbytes("zstd", count, most, total) == expected
    for most, expected in ((1 << 16, 203_544), (MIB, 3_201_216), (16 * MIB, 51_219_456)):
        assert library.temp_nbytes("zstd", 1, most, most) == expected
    for name in ("lz4", "snappy", "deflate", "gzip"):
        assert library.temp_nbytes(name, 100, MIB, 100 * MIB) == 0


LARGEST = {"zstd": 31, "lz4": 32, "snappy": 31, "deflate": 32, "gzip": 32}
"""The first power of two that is too large for an output."""


@pytest.mark.parametrize("name", nvcomp.FORMATS)
def test_a_size_that_it_refuses_is_an_error(library: nvcomp.Nvcomp, name: str) -> None:
    nbytes = 1 << LARGEST[name]
    assert library.temp_nbytes(name, 1, nbytes - 1, nbytes - 1) >= 0
    with pytest.raises(DeviceError, match=r"status 18: .*maximum.* \(for 1 streams,") as caught:
        library.temp_nbytes(name, 1, nbytes, nbytes)
    assert str(caught.value).startswith(f"nvcompBatched{nvcomp.FORMATS[name]}Decompress")
    assert f"{nbytes:,} bytes in all" in str(caught.value)


WITHOUT_GPU = """
import ctypes, numpy as np
from gpuzarr.engines.cuda.device import Streams
from gpuzarr.engines.cuda.nvcomp import Nvcomp
from gpuzarr.errors import DeviceError
columns = [np.zeros(4, np.int64) for _ in range(6)]
streams = Streams(1, *(column.ctypes.data for column in columns))
for call in (
    lambda: Nvcomp().decompress("lz4", streams, most=8, temp=0, temp_nbytes=0, stream=None),
    lambda: Nvcomp().checksum(
        "crc32c", source=1, nbytes=1, count=1, most=8, value=1, stream=None
    ),
):
    try:
        call()
    except DeviceError as error:
        print("refused:", error)
"""


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="there is a GPU")
def test_without_a_gpu_calls_are_refused_and_do_not_crash(library: nvcomp.Nvcomp) -> None:
    del library
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_GPU], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    decoding, checking = done.stdout.splitlines()
    assert decoding.startswith("refused: nvcompBatchedLZ4DecompressAsync gave status 1000")
    assert "(for 1 streams of 8 bytes at most, with 0 bytes of temporary memory)" in decoding
    assert checking.startswith("refused: nvcompBatchedCRC32")
    assert "(for the crc32c of 1 ranges of 8 bytes at most)" in checking


def test_a_library_that_is_not_there_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvcomp, "DISTRIBUTIONS", ("no-such-distribution",))
    monkeypatch.setattr(nvcomp, "SONAMES", ("libno-such.so.9",))
    with pytest.raises(UnsupportedError, match="pip install nvidia-libnvcomp-cu13"):
        nvcomp.Nvcomp()


class Distribution:
    """An installed distribution whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.files = [Path(path.name) for path in folder.iterdir()]
        self._folder = folder

    def locate_file(self, file: Path) -> Path:
        return self._folder / file


@pytest.mark.parametrize("carrier", nvcomp.DISTRIBUTIONS)
def test_the_library_is_found_in_any_distribution(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, carrier: str
) -> None:
    (tmp_path / "libnvcomp_cpu.so.5").touch()
    (tmp_path / "libnvcomp.so.5").write_bytes(b"no library")

    def find(name: str) -> Distribution:
        if name != carrier:
            raise importlib.metadata.PackageNotFoundError
        return Distribution(tmp_path)

    monkeypatch.setattr(importlib.metadata, "distribution", find)
    assert nvcomp.find_library() == str(tmp_path / "libnvcomp.so.5")
    with pytest.raises(UnsupportedError, match=r"nvCOMP cannot be loaded: .*libnvcomp\.so\.5"):
        nvcomp.Nvcomp()


def test_without_distributions_the_loader_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(name: str) -> object:
        asked.append(name)
        if name == "libnvcomp.so.5":
            return object()
        raise OSError(name)

    monkeypatch.setattr(nvcomp, "DISTRIBUTIONS", ())
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert nvcomp.find_library() == "libnvcomp.so.5"
    assert asked == ["libnvcomp.so.6", "libnvcomp.so.5"]


class Without:
    """A library that lacks the functions with a word in their names."""

    def __init__(self, library: Any, part: str) -> None:
        self._library = library
        self._part = part

    def __getattr__(self, name: str) -> Any:
        if self._part in name:
            raise AttributeError(name)
        return getattr(self._library, name)


@pytest.mark.parametrize("missing", ["CRC32Async", "CRC32GetHeuristicConf"])
def test_a_library_without_checksums(echo: Any, missing: str) -> None:
    binding = nvcomp.Nvcomp(Without(echo, missing))  # type: ignore[arg-type]
    for name in nvcomp.POLYNOMIALS:
        assert binding.unsupported(name) == f"nvCOMP 6.0.0 has no {name}; a newer one has"
    assert binding.unsupported("zstd") is None


def test_a_library_that_is_too_old(echo: Any) -> None:
    version = ctypes.c_uint.in_dll(echo, "VERSION")
    version.value = 4202
    try:
        with pytest.raises(UnsupportedError, match=r"nvCOMP 4\.2\.2 is too old"):
            nvcomp.Nvcomp(echo)
    finally:
        version.value = 6000


def test_temporary_memory_is_asked_as_before_6(echo: Any) -> None:
    """Under another name, and without a stream."""
    binding = nvcomp.Nvcomp(Renamed(echo))  # type: ignore[arg-type]
    assert binding.temp_nbytes("zstd", 3, 4, 5) == 4321
    record = Record.in_dll(echo, "RECORD")
    assert list(record.words)[:3] == [3, 4, 5]
    assert list(record.options) == [2] + [0] * 127


class Renamed(Without):
    """The library as of 5.x."""

    def __init__(self, library: Any) -> None:
        super().__init__(library, "ZstdDecompressGetTempSize")

    def __getattr__(self, name: str) -> Any:
        if name == "nvcompBatchedZstdDecompressGetTempSizeAsync":
            return self._library.zstd_temp_size_before_6
        return super().__getattr__(name)


# ------------------------------------------------------- the signatures, against the headers

ECHO = r"""
#include <stddef.h>
#include <string.h>
#include "nvcomp.h"
#include "nvcomp/crc32.h"
typedef struct { size_t words[12]; unsigned char options[128]; int which; } Record;
Record RECORD;
static void note(int which, size_t n, const size_t *words, const void *options, size_t nbytes) {
  memset(&RECORD, 0, sizeof RECORD);
  memcpy(RECORD.words, words, n * sizeof *words);
  memcpy(RECORD.options, options, nbytes);
  RECORD.which = which;
}
#define FORMAT(F, ID) \
nvcompStatus_t nvcompBatched##F##DecompressAsync(const void *const *a, const size_t *b, \
  const size_t *c, size_t *d, size_t n, void *const t, size_t tb, void *const *e, \
  nvcompBatched##F##DecompressOpts_t o, nvcompStatus_t *s, cudaStream_t st) { \
  size_t w[] = {(size_t)a, (size_t)b, (size_t)c, (size_t)d, n, (size_t)t, tb, (size_t)e, \
                (size_t)s, (size_t)st}; \
  note(ID, 10, w, &o, sizeof o); return nvcompSuccess; } \
nvcompStatus_t nvcompBatched##F##DecompressGetTempSize(size_t n, size_t m, \
  nvcompBatched##F##DecompressOpts_t o, size_t *t, size_t total, cudaStream_t st) { \
  size_t w[] = {n, m, total, (size_t)st}; note(100 + ID, 4, w, &o, sizeof o); *t = 1234; \
  return nvcompSuccess; } \
nvcompStatus_t nvcompBatched##F##DecompressGetRequiredAlignments( \
  nvcompBatched##F##DecompressOpts_t o, nvcompAlignmentRequirements_t *r) { \
  size_t w[] = {0}; note(200 + ID, 1, w, &o, sizeof o); r->input = 4; r->output = 2; r->temp = 8; \
  return nvcompSuccess; }
FORMAT(Zstd, 0) FORMAT(LZ4, 1) FORMAT(Snappy, 2) FORMAT(Deflate, 3) FORMAT(Gzip, 4)
nvcompStatus_t zstd_temp_size_before_6(size_t n, size_t m, nvcompBatchedZstdDecompressOpts_t o,
  size_t *t, size_t total) {
  size_t w[] = {n, m, total}; note(400, 3, w, &o, sizeof o); *t = 4321; return nvcompSuccess; }
unsigned VERSION = 6000;
nvcompStatus_t nvcompGetProperties(nvcompProperties_t *p) {
  p->version = VERSION; return nvcompSuccess; }
nvcompStatus_t nvcompBatchedCRC32GetHeuristicConf(const size_t *b, size_t n,
  nvcompCRC32KernelConf_t *conf, size_t most, cudaStream_t st) {
  (void)b; (void)st; conf->kernel_kind = nvcompCRC32BlockKernel; conf->bytes_per_read = (int)n;
  conf->blocks_per_msg = (int)most; return nvcompSuccess; }
nvcompStatus_t nvcompBatchedCRC32Async(const void *const *a, const size_t *b, size_t n, uint32_t *c,
  nvcompBatchedCRC32Opts_t o, nvcompCRC32SegmentKind_t k, nvcompStatus_t *s, cudaStream_t st) {
  size_t w[] = {(size_t)a, (size_t)b, n, (size_t)c, (size_t)k, (size_t)s, (size_t)st, o.spec.poly,
    o.spec.init, o.spec.ref_in + 2 * o.spec.ref_out, o.spec.xorout,
    (size_t)o.kernel_conf.blocks_per_msg};
  note(300, 12, w, &o, sizeof o); return nvcompSuccess; }
"""


class Record(ctypes.Structure):
    _fields_ = (
        ("words", ctypes.c_size_t * 12),
        ("options", ctypes.c_ubyte * 128),
        ("which", ctypes.c_int),
    )


@pytest.fixture(scope="module")
def echo(library: nvcomp.Nvcomp, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Functions of the same names, compiled against the headers, that note their arguments."""
    del library
    include = None
    for name in nvcomp.DISTRIBUTIONS:
        try:
            files = importlib.metadata.distribution(name).files or ()
        except importlib.metadata.PackageNotFoundError:
            continue
        headers = [Path(file.locate()).parent for file in files if file.name == "nvcomp.h"]
        include = headers[0] if headers else include
    assert include is not None, "the distribution brings its headers"
    compiler = shutil.which("gcc")
    assert compiler is not None, "the kernels' tests need it as well"
    folder = tmp_path_factory.mktemp("echo")
    (folder / "echo.c").write_text(ECHO)
    # All that nvCOMP's headers need of CUDA's.
    (folder / "cuda_runtime.h").write_text("typedef struct CUstream_st *cudaStream_t;\n")
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", f"-I{include}", f"-I{folder}"]
    command += ["-o", str(folder / "echo.so"), str(folder / "echo.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(folder / "echo.so"))


@pytest.mark.parametrize("which", range(5))
def test_arguments_of_a_format_arrive(echo: Any, which: int) -> None:
    name = list(nvcomp.FORMATS)[which]
    binding = nvcomp.Nvcomp(echo)
    record = Record.in_dll(echo, "RECORD")
    streams = Streams(5, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60)
    binding.decompress(name, streams, most=9, temp=0x70, temp_nbytes=66, stream=0x80)
    sent = [0x10, 0x20, 0x40, 0x50, 5, 0x70, 66, 0x30, 0x60, 0x80]
    assert (list(record.words)[:10], record.which) == (sent, which)
    assert list(record.options) == [2] + [0] * 127, "backend CUDA, all else by default"
    assert binding.temp_nbytes(name, 3, 4, 5) == 1234
    assert (list(record.words)[:4], record.which) == ([3, 4, 5, 0], 100 + which)
    assert list(record.options) == [2] + [0] * 127
    assert binding.alignment(name) == Alignment(4, 2, 8)
    assert record.which == 200 + which


@pytest.mark.parametrize(("name", "polynomial"), [("crc32", 0x04C11DB7), ("crc32c", 0x1EDC6F41)])
def test_arguments_of_a_checksum_arrive(echo: Any, name: str, polynomial: int) -> None:
    record = Record.in_dll(echo, "RECORD")
    nvcomp.Nvcomp(echo).checksum(name, source=1, nbytes=2, count=3, most=77, value=4, stream=None)
    ones = 0xFFFFFFFF
    assert list(record.words) == [1, 2, 3, 4, 0, 0, 0, polynomial, ones, 3, ones, 77]
    assert record.which == 300
