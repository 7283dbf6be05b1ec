"""Hop 3, choose: the engine for a device. Nothing else in gpuzarr asks which device there is.

A package adds an engine by an entry point of the group "gpuzarr.engines". Its name is the kind of
device ("metal" for "metal" and "metal:0"), its object a callable that makes the engine:

    [project.entry-points."gpuzarr.engines"]
    metal = "example.gpuzarr:make_engine"   # make_engine(device, threads, memory_limit) -> Engine
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from gpuzarr.engines.cpu.engine import CpuEngine
from gpuzarr.errors import GpuzarrError, UnsupportedError
from gpuzarr.plugins import find_plugin

if TYPE_CHECKING:
    from gpuzarr.engines.engine import Engine

log = logging.getLogger("gpuzarr.engine")

ENTRY_POINTS = "gpuzarr.engines"
"""The group of entry points; a name in it is a kind of device."""

MEMBERS = ("name", "device", "limits", "unsupported", "empty", "begin")
"""What an engine must have; see `gpuzarr.engines.engine.Engine`."""


@lru_cache(maxsize=64)
def choose_engine(device: str, threads: int | None, memory_limit: int | None) -> Engine:
    """The engine that puts results on `device`; one for all arrays that are opened alike.

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
    plugin = find_plugin(ENTRY_POINTS, kind)
    if plugin is None:
        raise UnsupportedError(
            f'there is no device {device!r}; devices are "auto", "cpu", "cuda", "cuda:N", and those'
            f" of packages with an entry point {kind!r} in the group {ENTRY_POINTS!r}"
        )
    try:
        engine = plugin.value(device, threads, memory_limit)
    except GpuzarrError:
        raise
    except Exception as error:
        raise UnsupportedError(
            f"{plugin.origin} failed to make an engine: {type(error).__name__}: {error}"
        ) from error
    missing = [member for member in MEMBERS if not hasattr(engine, member)]
    if missing:
        raise UnsupportedError(
            f"{plugin.origin} gave an object of type {type(engine).__name__}, which is no engine:"
            f" it has no {', '.join(missing)}"
        )
    return cast("Engine", engine)
