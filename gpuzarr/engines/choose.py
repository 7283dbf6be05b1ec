"""Hop 3, choose: the engine for a device. Nothing else in gpuzarr asks which device there is."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from gpuzarr.engines.cpu.engine import CpuEngine
from gpuzarr.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.engine import Engine

ENTRY_POINTS = "gpuzarr.engines"
"""Entry points of third-party engines: the name is the device's ("metal" for "metal:0"), the
object a callable `(device, threads, memory_limit) -> Engine`."""


@lru_cache(maxsize=64)
def choose_engine(device: str, threads: int | None, memory_limit: int | None) -> Engine:
    """The engine that puts results on `device`.

    Args:
        device: "auto", "cpu", "cuda", "cuda:N", or the name of a third party's engine.
        threads: see `gpuzarr.open`.
        memory_limit: see `gpuzarr.open`.

    Raises:
        UnsupportedError: there is no such engine here.
    """
    if device in {"auto", "cpu"}:
        return CpuEngine(threads, memory_limit)
    if re.fullmatch(r"cuda(:\d+)?", device):
        raise UnsupportedError(
            f"device {device!r} is not available: the CUDA engine is not part of this version of"
            ' gpuzarr; use device="cpu" or "auto"'
        )
    kind = device.partition(":")[0]
    for entry in entry_points(group=ENTRY_POINTS, name=kind):
        make: Callable[[str, int | None, int | None], Engine] = entry.load()
        return make(device, threads, memory_limit)
    raise UnsupportedError(
        f'there is no device {device!r}; devices are "auto", "cpu", "cuda", "cuda:N", and those of'
        f" packages with an entry point in the group {ENTRY_POINTS!r}"
    )
