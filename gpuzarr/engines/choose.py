"""Hop 3, choose: the engine for a device. Nothing else in gpuzarr asks which device there is.

A package adds an engine by an entry point of the group "gpuzarr.engines". Its name is the kind of
device ("metal" for "metal" and "metal:0"), its object a callable that makes the engine:

    [project.entry-points."gpuzarr.engines"]
    metal = "example.gpuzarr:make_engine"   # make_engine(device, threads, memory_limit) -> Engine
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast

from gpuzarr.engines.cpu.decoder import unsupported
from gpuzarr.engines.cpu.engine import CpuEngine, decoder_for
from gpuzarr.engines.cuda import availability
from gpuzarr.errors import GpuzarrError, UnsupportedError
from gpuzarr.plugins import find_plugin

if TYPE_CHECKING:
    import numpy as np

    from gpuzarr.engines.cuda.device import Device
    from gpuzarr.engines.cuda.engine import CudaEngine
    from gpuzarr.engines.engine import Engine
    from gpuzarr.program import DecodeProgram

log = logging.getLogger("gpuzarr.engine")

ENTRY_POINTS = "gpuzarr.engines"
"""The group of entry points; a name in it is a kind of device."""

MEMBERS = (
    *("name", "device", "limits_for", "describe", "unsupported"),
    *("current_stream", "empty", "owns", "assign", "begin"),
)
"""What an engine must have; see `gpuzarr.engines.engine.Engine`."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asks of an engine; the members are arguments of `gpuzarr.open`."""

    device: str = "auto"
    decode: Literal["auto", "device", "host"] = "auto"
    io: Literal["auto", "kvikio", "pinned"] = "auto"
    threads: int | None = None
    memory_limit: int | None = None


def choose_engine(wishes: Wishes, program: DecodeProgram, dtype: np.dtype[Any]) -> Engine:
    """The engine for arrays of a program; one for all that are opened alike.

    Args:
        wishes: what the user asks for.
        program: how the array's chunks are decoded.
        dtype: of what is read.

    Raises:
        UnsupportedError: there is no such engine here, or it cannot run the program as wished.
    """
    if wishes.device == "auto":
        return _automatic(wishes, program, dtype)
    if wishes.device == "cpu":
        return _checked(_cpu_engine(wishes.threads, wishes.memory_limit), program)
    cuda = re.fullmatch(r"cuda(?::(\d+))?", wishes.device)
    if cuda:
        device = availability.open_device(None if cuda[1] is None else int(cuda[1]))
        return _checked(_cuda_engine(wishes, device, program), program)
    return _checked(_plugged_in(wishes.device, wishes.threads, wishes.memory_limit), program)


def _checked(engine: Engine, program: DecodeProgram) -> Engine:
    """The engine itself, when it can run the program."""
    reasons = engine.unsupported(program)
    if reasons:
        raise UnsupportedError(
            f"the {engine.name} engine cannot decode this array", reasons=reasons
        )
    return engine


def _automatic(wishes: Wishes, program: DecodeProgram, dtype: np.dtype[Any]) -> Engine:
    """CUDA where it can be used and its arrays can have the dtype, else the CPU."""
    if availability.may_have_driver() and not availability.missing():
        try:
            device = availability.open_device(None)
            if device.holds(dtype):
                return _checked(_cuda_engine(wishes, device, program), program)
            log.debug("choose: the CPU, since GPU arrays cannot have dtype %s", dtype)
        except UnsupportedError as error:
            if wishes.decode == "device":
                raise
            log.info("choose: the CPU, since CUDA cannot be used: %s", error)
    return _checked(_cpu_engine(wishes.threads, wishes.memory_limit), program)


@lru_cache(maxsize=16)
def _cpu_engine(threads: int | None, memory_limit: int | None) -> CpuEngine:
    return CpuEngine(threads, memory_limit)


def _cuda_engine(wishes: Wishes, device: Device, program: DecodeProgram) -> CudaEngine:
    """The engine of a device, as one that runs all of the program on it or not."""
    from gpuzarr.engines.cuda.capability import reasons_against  # noqa: PLC0415

    alone = wishes.decode != "host" and not reasons_against(program, device.decompressor)
    return _make_cuda_engine(wishes, device, alone or wishes.decode == "device")


@lru_cache(maxsize=16)
def _make_cuda_engine(wishes: Wishes, device: Device, alone: bool) -> CudaEngine:  # noqa: FBT001
    from gpuzarr.engines.cuda.engine import CudaEngine  # noqa: PLC0415

    return CudaEngine(
        device,
        decoder_for,
        unsupported,
        name="cuda" if alone else "hybrid",
        decode=wishes.decode,
        io=wishes.io,
        threads=wishes.threads,
        memory_limit=wishes.memory_limit,
        host_few=_cpu_engine(wishes.threads, wishes.memory_limit).few,
    )


@lru_cache(maxsize=16)
def _plugged_in(device: str, threads: int | None, memory_limit: int | None) -> Engine:
    """A third party's engine."""
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


def forget_engines() -> None:
    """Make all engines anew when they are next asked for: for tests, and after a fork."""
    _cpu_engine.cache_clear()
    _make_cuda_engine.cache_clear()
    _plugged_in.cache_clear()
