"""What of the CPU and the GPU stack works here, and what would make the missing work.

Nothing that could crash or start CUDA is loaded into this process: the driver is asked through
`nvidia-smi`, and libraries that need a GPU are tried in processes of their own.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gpuzarr import __version__
from gpuzarr.stores.uring import rings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from gpuzarr.cli.screen import Screen

HELP = "show what works on this machine"

PROBLEMS = 1
PATIENCE = 60
"""Seconds that a trial in another process may take."""

State = Literal["ok", "missing", "not there", "problem"]
"""works; would help but is not installed; cannot be here (no GPU); is here and does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one thing."""

    name: str
    state: State
    detail: str
    remedy: str = ""
    """What to do about it, where something can be done."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing more."""
    del parser


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Print what was found; exit status 1 when something is here and does not work."""
    del args
    findings = [*examine_python(), *examine_libraries(), *examine_gpu()]
    screen.table(
        ["", "state", "found"], [(each.name, each.state, each.detail) for each in findings]
    )
    remedies = [(each.name, each.remedy) for each in findings if each.remedy]
    if remedies:
        screen.text()
        screen.text("What would help", style="bold")
        screen.pairs(remedies)
    screen.document(
        [
            {"name": each.name, "state": each.state, "detail": each.detail, "remedy": each.remedy}
            for each in findings
        ]
    )
    return PROBLEMS if any(each.state == "problem" for each in findings) else 0


def examine_python() -> Iterator[Finding]:
    """The interpreter and the machine."""
    yield Finding("gpuzarr", "ok", __version__)
    yield Finding("Python", "ok", f"{platform.python_version()} ({sys.executable})")
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    yield Finding("system", "ok", f"{platform.platform()}, {cpus} CPUs to use")
    if sys.platform == "linux":
        if rings.work():
            yield Finding("io_uring", "ok", "small files are read many by one system call")
        else:
            yield Finding("io_uring", "not there", "small files are read one by one")


LIBRARIES: tuple[tuple[str, str, str, str | None], ...] = (
    ("numpy", "numpy", "arrays", None),
    ("numcodecs", "numcodecs", "Blosc, LZ4, LZMA and rare codecs", None),
    ("zstandard", "zstandard", "Zstandard", None),
    ("deflate", "deflate", "gzip and zlib, by libdeflate", None),
    ("google-crc32c", "google_crc32c", "CRC-32C of chunks and shard indexes", None),
    ("ml_dtypes", "ml_dtypes", "bfloat16, float8, int4 and their like", None),
    ("zfpy", "zfpy", "zfp", ""),
    ("pcodec", "pcodec", "pcodec", ""),
    ("msgpack", "msgpack", "msgpack2 objects", ""),
    ("obstore", "obstore", "object storage and HTTP", "remote"),
    ("pyarrow", "pyarrow", "references in Parquet (kerchunk)", "references"),
    ("fsspec", "fsspec", "its file systems as stores (ftp, sftp, hdfs, ...)", ""),
    ("zarr", "zarr", "zarr-python's stores, and arrays read by gpuzarr", "zarr"),
)
"""Distribution, module, what it is for, and the extra of gpuzarr's that brings it: "" where there
is none, None where gpuzarr cannot do without it."""


def examine_libraries() -> Iterator[Finding]:
    """The libraries that decode on the CPU, and those that reach storage."""
    for name, module, purpose, extra in LIBRARIES:
        try:
            found = version(name)
        except PackageNotFoundError:
            remedy = f'pip install "gpuzarr[{extra}]"' if extra else f"pip install {name}"
            if extra is None:
                yield Finding(name, "problem", f"not installed: {purpose}", remedy)
            else:
                yield Finding(name, "missing", f"optional: {purpose}", remedy)
            continue
        try:
            detail = _implementation(name, import_module(module).__dict__)
        except Exception as error:  # noqa: BLE001  a broken library may raise anything when loaded
            text = " ".join(f"{type(error).__name__}: {error}".split())
            yield Finding(
                name, "problem", f"{found}: {text}", f"pip install --force-reinstall {name}"
            )
            continue
        yield Finding(name, "ok", f"{found}: {purpose}{detail}")


def _implementation(name: str, members: dict[str, object]) -> str:
    """What else is worth knowing about a library that was loaded."""
    if name == "google-crc32c":
        kind = members.get("implementation")
        return f", {'in C' if kind == 'c' else f'slow, in {kind}'}"
    return ""


def examine_gpu() -> Iterator[Finding]:
    """The driver, the GPUs and the libraries that use them."""
    gpus = find_gpus()
    yield from gpus
    working = any(each.state == "ok" for each in gpus)
    yield examine_module(
        "CuPy",
        ("cupy-cuda13x", "cupy-cuda12x", "cupy"),
        "import cupy; print(int(cupy.arange(4).sum()), 'is the sum of 0..3 on the GPU')",
        gpu=working,
    )
    yield examine_nvcomp(gpu=working)
    yield examine_module(
        "kvikio",
        ("kvikio-cu13", "kvikio-cu12"),
        "import kvikio, kvikio.cufile_driver as d; "
        "print('GPUDirect Storage', 'works' if d.properties.is_gds_available else 'is not used')",
        gpu=working,
    )
    yield examine_gds(gpu=working)


def find_gpus() -> list[Finding]:
    """Every GPU that the driver shows, or one finding that says why there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return [Finding("GPU", "not there", "no NVIDIA driver (nvidia-smi is not on PATH)")]
    query = "--query-gpu=name,memory.total,compute_cap,driver_version"
    status, text = try_command([program, query, "--format=csv,noheader"])
    if status or not text:
        return [
            Finding("GPU", "problem", f"nvidia-smi failed: {text}", "look at the NVIDIA driver")
        ]
    findings = []
    for number, line in enumerate(text.splitlines()):
        name, memory, capability, driver = (part.strip() for part in line.split(","))
        detail = f"{name}, {memory}, compute capability {capability}, driver {driver}"
        findings.append(Finding(f"GPU {number}", "ok", detail))
    return findings


def examine_module(name: str, distributions: Sequence[str], code: str, *, gpu: bool) -> Finding:
    """A library that needs a GPU: which one is installed, and whether it works in a new process."""
    installed = first_installed(distributions)
    if installed is None:
        remedy = 'pip install "gpuzarr[cuda13]" (or cuda12, for an older driver)' if gpu else ""
        return Finding(name, "missing" if gpu else "not there", "not installed", remedy)
    label = f"{installed} {version(installed)}"
    if not gpu:
        return Finding(name, "not there", f"{label}, but no GPU to try it on")
    status, text = try_command([sys.executable, "-c", code])
    if status:
        last = text.splitlines()[-1] if text else f"exit status {status}"
        return Finding(name, "problem", f"{label}: {last}", _REINSTALL)
    return Finding(name, "ok", f"{label}: {text}")


_REINSTALL = "check that the extra (cuda12, cuda13) fits the driver, and install it again"


def examine_nvcomp(*, gpu: bool) -> Finding:
    """The nvCOMP library: found by the files of its distribution, loaded in a new process."""
    installed = first_installed(("nvidia-libnvcomp-cu13", "nvidia-libnvcomp-cu12"))
    if installed is None:
        remedy = 'pip install "gpuzarr[cuda13]" (or cuda12, for an older driver)' if gpu else ""
        return Finding("nvCOMP", "missing" if gpu else "not there", "not installed", remedy)
    label = f"{installed} {version(installed)}"
    libraries = [
        Path(str(file.locate()))
        for file in distribution(installed).files or []
        if file.name.startswith("libnvcomp.so")
    ]
    if not libraries:
        return Finding("nvCOMP", "problem", f"{label}: holds no libnvcomp.so", _REINSTALL)
    # The library loads without a GPU; loading it in another process keeps this one safe anyway.
    code = f"import ctypes; ctypes.CDLL({str(libraries[0])!r}).nvcompGetProperties"
    status, text = try_command([sys.executable, "-c", code])
    if status:
        last = text.splitlines()[-1] if text else f"exit status {status}"
        return Finding("nvCOMP", "problem", f"{label}: {last}", _REINSTALL)
    return Finding("nvCOMP", "ok", f"{label}: {libraries[0].name} loads")


def examine_gds(*, gpu: bool) -> Finding:
    """GPUDirect Storage needs a kernel module."""
    driver = Path("/proc/driver/nvidia-fs/version")
    if driver.exists():
        return Finding("GDS", "ok", f"nvidia-fs: {driver.read_text().strip()}")
    if not gpu:
        return Finding("GDS", "not there", "needs a GPU")
    return Finding(
        "GDS",
        "missing",
        "the nvidia-fs kernel module is not loaded: files reach the GPU through host memory",
        "install NVIDIA GPUDirect Storage (optional: pays on local NVMe and parallel file systems)",
    )


def first_installed(distributions: Sequence[str]) -> str | None:
    """The first of these distributions that is installed."""
    for name in distributions:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        return name
    return None


def try_command(command: Sequence[str]) -> tuple[int, str]:
    """Run a program for at most `PATIENCE` seconds; its exit status and what it printed."""
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter, or nvidia-smi by its full path
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr).strip()
