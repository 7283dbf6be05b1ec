"""Whether CUDA can be used here, found out without starting it; and devices, opened once.

A process that has started CUDA cannot use it after a fork, and a child of such a process would
hang. So looking is done by files and installed packages alone, a device is opened when the first
array is read, and a forked child is told.
"""

from __future__ import annotations

import os
import sys
import threading
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gpuzarr.engines.cuda.device import used_after_fork
from gpuzarr.errors import GpuzarrError, UnsupportedError

if TYPE_CHECKING:
    from gpuzarr.engines.cuda.device import Device

DRIVER_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
"""One of these is there where there is an NVIDIA driver on Linux (the last: under WSL)."""
INSTALL = 'pip install "gpuzarr[cuda13]" (or cuda12, by your driver)'

_lock = threading.Lock()
_devices: dict[int, Device] = {}
_forked_from: list[int] = []


def may_have_driver() -> bool:
    """Whether there is, or may be, an NVIDIA driver; asked at every opening, so cheap."""
    return sys.platform != "linux" or any(map(os.path.exists, DRIVER_FILES))


def missing() -> tuple[str, ...]:
    """Every reason why CUDA cannot be used here; () where nothing speaks against it."""
    reasons: list[str] = []
    if not may_have_driver():
        reasons.append("there is no NVIDIA driver on this machine")
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}:
        reasons.append("CUDA_VISIBLE_DEVICES hides every GPU")
    if find_spec("cupy") is None:
        reasons.append(f"CuPy is not installed: {INSTALL}")
    if not _has_nvcomp():
        reasons.append(f"nvCOMP is not installed: {INSTALL}")
    return tuple(reasons)


def _has_nvcomp() -> bool:
    from gpuzarr.engines.cuda import nvcomp  # noqa: PLC0415  costs time that CPU users do not have

    for name in nvcomp.DISTRIBUTIONS:
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        return True
    return nvcomp.find_library() is not None


def open_device(number: int | None) -> Device:
    """A GPU; the same object for the same number.

    Args:
        number: among those that CUDA shows; None: the one that is current in CuPy.

    Raises:
        UnsupportedError: CUDA cannot be used here, for every reason that was found.
        DeviceError: the process was forked from one that had used CUDA.
    """
    name = "cuda" if number is None else f"cuda:{number}"
    if _forked_from:
        raise used_after_fork(name, _forked_from[0])
    reasons = missing()
    if reasons:
        raise UnsupportedError(f"device {name!r} is not available", reasons=reasons)
    with _lock:
        try:
            return _open(number)
        except GpuzarrError:
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if "cudaErrorInitializationError" in text:
                text += "; CUDA does not work in a process that was forked after it was started"
            raise UnsupportedError(f"device {name!r} cannot be used: {text}") from error


def _open(number: int | None) -> Device:
    import cupy  # noqa: PLC0415  the first use of CUDA

    from gpuzarr.engines.cuda.cupy_device import CupyDevice  # noqa: PLC0415  imports CuPy

    if number is None:
        number = int(cupy.cuda.Device().id)
    if number not in _devices:
        if not _devices and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_note_fork)
        _devices[number] = CupyDevice(number)
    return _devices[number]


def _note_fork() -> None:
    """A child has the parent's memory, but no CUDA."""
    global _lock  # noqa: PLW0603  another thread may have held it
    _lock = threading.Lock()
    if _devices and not _forked_from:
        _forked_from.append(os.getppid())
