"""What a GPU machine is, as far as results depend on it; it is described without a GPU as well."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from report import conditions

from gpuzarr.engines.cuda import availability, kvikio_reader

GPU_LIBRARIES = (
    *("cupy-cuda13x", "cupy-cuda12x", "nvidia-libnvcomp-cu13", "nvidia-libnvcomp-cu12"),
    *("kvikio-cu13", "kvikio-cu12", "nvidia-cuda-nvrtc"),
    *("zarr", "zarrs", "tensorstore", "czarr", "nvidia-nvcomp-cu13"),
)
"""What results depend on, where it is installed, beside what every benchmark names."""
COMMIT = Path(".gpu-wheels/commit")
"""The commit, where there is no Git: `gpu_check.sh wheels` writes it."""
SMI = "name,memory.total,compute_cap,driver_version,clocks.max.sm,clocks.max.mem"


def describe() -> dict[str, Any]:
    """The machine, as far as results depend on it."""
    found = conditions()
    for name in GPU_LIBRARIES:
        try:
            found["libraries"][name] = version(name)
        except PackageNotFoundError:
            continue
    found["gpus"] = _output("nvidia-smi", f"--query-gpu={SMI}", "--format=csv,noheader")
    if found["commit"] in {None, "", "unknown"} and COMMIT.exists():
        found["commit"] = COMMIT.read_text().strip()
    found["kvikio"] = (kvikio_reader.unavailable() or "ok").partition("\n")[0]
    found["gpudirect storage"] = kvikio_reader.gds_available()
    found["missing"] = availability.missing()
    found["compute-sanitizer"] = shutil.which("compute-sanitizer")
    try:
        import cupy  # noqa: PLC0415  a machine without it is described as well

        runtime = cupy.cuda.runtime
        found["cuda"] = {
            "runtime": runtime.runtimeGetVersion(),
            "driver": runtime.driverGetVersion(),
            "nvrtc": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        }
        found["nvcomp"] = availability.open_device(None).decompressor.version
    except Exception as error:  # noqa: BLE001  whatever is wrong is what is to be known
        found["cuda error"] = f"{type(error).__name__}: {error}".partition("\n")[0]
    return found


def _output(*command: str) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines()
