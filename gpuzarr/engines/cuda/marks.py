"""Hops with a name in profilers: NVTX ranges around what a read does in its caller's thread.

`nsys profile --trace=cuda,nvtx python ...` shows them.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.cuda.device import Device

P = ParamSpec("P")
R = TypeVar("R")


class OnDevice(Protocol):
    """What does something for a device."""

    @property
    def device(self) -> Device:
        """The device."""
        ...


S = TypeVar("S", bound=OnDevice)


def marked(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method that is a range of its own, "gpuzarr: " and its name."""
    name = f"gpuzarr: {method.__name__}"

    @wraps(method)
    def in_range(self: S, /, *arguments: P.args, **more: P.kwargs) -> R:
        with self.device.mark(name):
            return method(self, *arguments, **more)

    return in_range
