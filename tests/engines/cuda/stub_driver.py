"""A CUDA driver that knows nothing: with it kvikio takes every pointer for host memory.

So kvikio's own code runs without a GPU, in a process that was started with the driver on its
library path.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NOT_INITIALIZED = 3
FUNCTIONS = [
    "MemHostAlloc",
    "MemFreeHost",
    "MemHostRegister_v2",
    "MemHostRegister",
    "MemHostUnregister",
    "MemcpyHtoDAsync_v2",
    "MemcpyDtoHAsync_v2",
    "MemcpyAsync",
    "PointerGetAttribute",
    "PointerGetAttributes",
    "CtxCreate_v2",
    "CtxCreate_v3",
    "CtxCreate_v4",
    "CtxDestroy_v2",
    "CtxPushCurrent_v2",
    "CtxPopCurrent_v2",
    "CtxGetCurrent",
    "CtxGetDevice",
    "MemGetAddressRange_v2",
    "DeviceGet",
    "DeviceGetCount",
    "DeviceGetAttribute",
    "DevicePrimaryCtxRetain",
    "DevicePrimaryCtxRelease",
    "DevicePrimaryCtxRelease_v2",
    "StreamSynchronize",
    "StreamCreate",
    "StreamDestroy_v2",
    "EventSynchronize",
    "EventCreate",
    "EventDestroy_v2",
    "EventRecord",
    "EventQuery",
    "LaunchHostFunc",
    "MemcpyBatchAsync",
    "MemcpyBatchAsync_v2",
]


def build(folder: Path) -> Path:
    """The folder that holds the driver, for LD_LIBRARY_PATH."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("kvikio is tested with a driver of our own: install gcc")
    lines = [f"int cu{name}(void) {{ return {NOT_INITIALIZED}; }}" for name in FUNCTIONS]
    lines.append('static const char what[] = "stub";')
    lines.append("int cuDriverGetVersion(int *version) { *version = 12000; return 0; }")
    lines += [
        f"int cuGetError{what}(int e, const char **text) {{ (void)e; *text = what; return 0; }}"
        for what in ("Name", "String")
    ]
    (folder / "driver.c").write_text("\n".join(lines))
    library = folder / "libcuda.so.1"
    command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(library)]
    subprocess.run([*command, str(folder / "driver.c")], check=True)
    return folder
